//! Claims about the kernel store, with a shell script in place of mmdebstrap that "unpacks" a tiny package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use banger_proto::failure::{Classified, Kind};

use super::*;

const DEP: &str = "kernel/virtio_blk.ko.xz:\nkernel/failover.ko.zst:\n\
    kernel/virtio_net.ko: kernel/failover.ko.zst\nkernel/vsock.ko.gz:\n";

/// A bzImage whose payload is an uncompressed "ELF".
fn bzimage() -> Vec<u8> {
    let payload = b"\x7fELF kernel";
    let mut image = vec![0u8; 2 * 512];
    image[0x1F1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020Fu16.to_le_bytes());
    image[0x24C..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend(payload);
    image
}

fn package(tree: &Path) {
    let modules = tree.join("lib/modules/6.0-test");
    fs::create_dir_all(modules.join("kernel")).unwrap();
    fs::create_dir_all(tree.join("boot")).unwrap();
    fs::write(tree.join("boot/vmlinuz-6.0-test"), bzimage()).unwrap();
    fs::write(tree.join("version"), "6.0-1\n").unwrap();
    fs::write(modules.join("modules.dep"), DEP).unwrap();
    fs::write(modules.join("modules.builtin"), "kernel/virtio_mmio.ko\n").unwrap();
    let mut xz = Vec::new();
    std::io::copy(&mut xz2::read::XzEncoder::new(&b"blk"[..], 1), &mut xz).unwrap();
    let mut gz = Vec::new();
    std::io::copy(&mut flate2::read::GzEncoder::new(&b"vsock"[..], flate2::Compression::fast()), &mut gz).unwrap();
    let files = [
        ("virtio_blk.ko.xz", xz),
        ("failover.ko.zst", zstd::encode_all(&b"failover"[..], 1).unwrap()),
        ("virtio_net.ko", b"net".to_vec()),
        ("vsock.ko.gz", gz),
    ];
    for (name, content) in files {
        fs::write(modules.join("kernel").join(name), content).unwrap();
    }
}

fn fixture(script: &str) -> (tempfile::TempDir, KernelStore) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    package(&at("package"));
    let script = format!("#!/bin/sh\n{}\n", script.replace("@TREE@", &at("package").display().to_string()));
    fs::write(at("mmdebstrap"), script).unwrap();
    fs::set_permissions(at("mmdebstrap"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(at("scratch")).unwrap();
    let store = KernelStore::open(at("kernels"), at("cache"))
        .unwrap()
        .with_mmdebstrap(Mmdebstrap::new(at("mmdebstrap"), at("scratch")));
    (directory, store)
}

fn name() -> KernelName {
    "generic-6.12".parse().unwrap()
}

/// Names and contents of an archive's regular files.
fn unpack(mut cpio: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    loop {
        let field = |index: usize| {
            let text = std::str::from_utf8(&cpio[6 + index * 8..14 + index * 8]).unwrap();
            usize::from_str_radix(text, 16).unwrap()
        };
        let (mode, size, name_size) = (field(1), field(6), field(11));
        let name = String::from_utf8(cpio[110..110 + name_size - 1].to_vec()).unwrap();
        if name == "TRAILER!!!" {
            return files;
        }
        let start = (110 + name_size).next_multiple_of(4);
        if mode & 0o170_000 == 0o100_000 {
            files.push((name, cpio[start..start + size].to_vec()));
        }
        cpio = &cpio[(start + size).next_multiple_of(4)..];
    }
}

#[tokio::test]
async fn a_package_becomes_kernel_initrd_modules_and_filesystem() {
    let (_directory, store) = fixture("cp -r @TREE@/. \"$BANGER_OUTPUT\"");
    let made = store.ensure(&name(), Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap();
    assert_eq!(made.release, "6.0-test");
    assert_eq!(made.source, "debian bookworm linux-image-6.12-cloud-amd64 6.0-1");
    assert_eq!(fs::read(&made.vmlinux).unwrap(), b"\x7fELF kernel");
    let files = unpack(&fs::read(&made.modules_cpio).unwrap());
    let content = |wanted: &str| {
        let found = files.iter().find(|(name, _)| name == wanted);
        String::from_utf8(found.unwrap_or_else(|| panic!("{wanted} is missing")).1.clone()).unwrap()
    };
    assert_eq!(content("modules/order"), "virtio_blk.ko\nfailover.ko\nvirtio_net.ko\n");
    assert_eq!(content("modules/order.firecracker"), "vsock.ko\n");
    for (module, plain) in [("virtio_blk", "blk"), ("failover", "failover"), ("virtio_net", "net"), ("vsock", "vsock")]
    {
        assert_eq!(content(&format!("modules/{module}.ko")), plain);
    }
    assert!(fs::metadata(&made.modules_ext4).unwrap().len() > 0);
    let mut left: Vec<_> = fs::read_dir(&made.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["manifest.json", "modules.cpio", "modules.ext4", "vmlinux"]);
    assert_eq!(store.list(), [made]);
}

#[tokio::test]
async fn the_hook_and_the_package_reach_mmdebstrap() {
    let (directory, store) = fixture(
        "for argument; do printf '%s\\n' \"$argument\"; done >@TREE@/arguments; echo $BANGER_PACKAGE >@TREE@/name; exit 1",
    );
    let error = store.ensure(&name(), Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    let arguments = fs::read_to_string(directory.path().join("package/arguments")).unwrap();
    assert!(arguments.contains("--mode=chrootless\n--variant=extract\n--include=kmod\n"), "{arguments}");
    assert!(arguments.contains("apt-get download"), "{arguments}");
    assert!(arguments.ends_with("bookworm\n/dev/null\n"), "{arguments}");
    let package = fs::read_to_string(directory.path().join("package/name")).unwrap();
    assert_eq!(package, "linux-image-6.12-cloud-amd64\n");
}

#[tokio::test]
async fn a_package_without_a_kernel_is_an_error_and_leaves_nothing() {
    let (directory, store) = fixture("mkdir -p \"$BANGER_OUTPUT/lib/modules\"");
    let error = store.ensure(&name(), Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap_err();
    assert!(matches!(error, KernelPullError::Convert { source: package::PackageError::NotOneKernel { count: 0 }, .. }));
    assert_eq!(fs::read_dir(directory.path().join("kernels/.staging")).unwrap().count(), 0);
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn an_unknown_name_lists_what_is_available() {
    let (_directory, store) = fixture("exit 1");
    let unknown = "nosuch".parse().unwrap();
    let error = store.ensure(&unknown, Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("generic-6.12, generic-6.1"), "{error}");
    assert!(error.hints()[0].contains("banger kernel list --available"));
    assert_eq!(store.delete(&unknown).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn deleting_removes_the_files() {
    let (_directory, store) = fixture("cp -r @TREE@/. \"$BANGER_OUTPUT\"");
    let made = store.ensure(&name(), Refresh::IfAbsent, &Reporter::silent("op")).await.unwrap();
    store.delete(&name()).await.unwrap();
    assert!(!made.directory.exists() && store.get(&name()).is_none());
}

fn imported(files: &std::path::Path, release: &str, refresh: Refresh) -> ImportedKernel {
    ImportedKernel {
        name: "mine".parse().unwrap(),
        release: release.to_owned(),
        files: files.to_owned(),
        described: "vmlinux".to_owned(),
        refresh,
    }
}

#[tokio::test]
async fn a_kernel_with_everything_built_in_is_imported_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let store = KernelStore::open(at("kernels"), at("cache")).unwrap();
    std::fs::create_dir(at("files")).unwrap();
    std::fs::write(at("files/kernel"), b"\x7fELF kernel").unwrap();
    let reporter = Reporter::silent("op");
    let kernel = store.import(imported(&at("files"), "6.12.1-mine", Refresh::IfAbsent), &reporter).await.unwrap();
    assert_eq!(std::fs::read(&kernel.vmlinux).unwrap(), b"\x7fELF kernel");
    assert!(kernel.modules_cpio.exists() && kernel.modules_ext4.exists());
    assert_eq!((kernel.release.as_str(), store.list().len()), ("6.12.1-mine", 1));
    let again = store.import(imported(&at("files"), "6.12.1-mine", Refresh::IfAbsent), &reporter).await.unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_kernel_that_is_none_or_lacks_its_disks_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let store = KernelStore::open(at("kernels"), at("cache")).unwrap();
    std::fs::create_dir_all(at("files/modules")).unwrap();
    std::fs::write(at("files/kernel"), b"\x7fELF kernel").unwrap();
    std::fs::write(at("files/modules/modules.dep"), "kernel/virtio_net.ko:\n").unwrap();
    std::fs::write(at("files/modules/modules.builtin"), "").unwrap();
    let reporter = Reporter::silent("op");
    let error = store.import(imported(&at("files"), "6.1", Refresh::Always), &reporter).await.unwrap_err();
    assert!(error.hints()[0].contains("--modules"), "{error:?}");
    let error = store.import(imported(&at("files"), "../6.1", Refresh::Always), &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    std::fs::write(at("files/kernel"), b"MZ").unwrap();
    assert!(store.import(imported(&at("files"), "6.1", Refresh::Always), &reporter).await.is_err());
    assert!(store.list().is_empty());
}
