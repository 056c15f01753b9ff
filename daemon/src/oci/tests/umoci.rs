//! The tree in the filesystem equals the one that umoci unpacks: paths, owners, modes, links, attributes and
//! contents, for random stacks and for images built from this machine's own files.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::flattening::random_stack;
use super::support::{Compression, Layer, flatten, header, tool, write_layout};
use crate::artifact::ext4::read_back::{Content, Node};
use crate::oci::flatten::Limits;

/// What both trees can show of a path; hard links by their smallest partner.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    mode: u32,
    owner: (u32, u32),
    content: Content,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    first_name: Vec<u8>,
}

fn show(tree: BTreeMap<Vec<u8>, Node>) -> BTreeMap<Vec<u8>, Shown> {
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (path, node) in &tree {
        first.entry(node.inode).or_insert_with(|| path.clone());
    }
    tree.into_iter()
        .map(|(path, node)| {
            let first_name = first[&node.inode].clone();
            let owner = (node.uid, node.gid);
            (path, Shown { mode: node.mode, owner, content: node.content, xattrs: node.xattrs, first_name })
        })
        .collect()
}

fn read_directory(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut tree = BTreeMap::new();
    let mut queue = vec![root.to_owned()];
    while let Some(path) = queue.pop() {
        let found = path.symlink_metadata().unwrap();
        let content = match found.mode() & 0o170_000 {
            0o040_000 => {
                queue.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                Content::Directory
            }
            0o100_000 => Content::File(std::fs::read(&path).unwrap()),
            0o120_000 => Content::Symlink(std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()),
            0o020_000 | 0o060_000 => {
                Content::Device { major: rustix::fs::major(found.rdev()), minor: rustix::fs::minor(found.rdev()) }
            }
            _ => Content::Other,
        };
        let mut xattrs = BTreeMap::new();
        let mut names = vec![0u8; 4096];
        let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0u8; 4096];
            let length = rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap();
            value.truncate(length);
            xattrs.insert(name.to_vec(), value);
        }
        let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let node = Node {
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
            mtime: found.mtime(),
            links: u32::try_from(found.nlink()).unwrap(),
            content,
            xattrs,
            inode: found.ino(),
            sectors: 0,
        };
        tree.insert(relative, node);
    }
    tree
}

/// Unpacks with umoci and compares; false if umoci cannot be used here.
#[allow(clippy::print_stderr)]
fn agrees(what: &str, layers: &[Vec<u8>]) -> bool {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: umoci keeps owners only for root");
        return false;
    }
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("layout");
    write_layout(&layout, layers, Compression::Gzip);
    let bundle = directory.path().join("bundle");
    let image = format!("{}:test", layout.display());
    let Some((unpacked, text)) = tool("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]) else {
        return false;
    };
    assert!(unpacked, "{what}: {text}");
    let made = flatten(layers.iter().map(Vec::as_slice), Limits::default()).unwrap();
    made.assert_clean();
    let (mut ours, mut theirs) = (show(made.tree()), show(read_directory(&bundle.join("rootfs"))));
    // No layer says what the root is like.
    ours.remove(&b""[..]);
    theirs.remove(&b""[..]);
    let paths = |tree: &BTreeMap<Vec<u8>, Shown>| -> Vec<String> {
        tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    };
    assert_eq!(paths(&ours), paths(&theirs), "{what}");
    for (path, shown) in &ours {
        let path_text = String::from_utf8_lossy(path);
        // Contents may be large; say only that they differ.
        assert!(
            shown == &theirs[path],
            "{what}: {path_text}: mode {:o}, {:?}, {:?} against mode {:o}, {:?}, {:?}",
            shown.mode,
            shown.owner,
            shown.xattrs,
            theirs[path].mode,
            theirs[path].owner,
            theirs[path].xattrs
        );
    }
    true
}

#[test]
fn random_stacks_are_unpacked_alike() {
    for seed in 1000..1012 {
        if !agrees(&format!("seed {seed}"), &random_stack(seed).0) {
            return;
        }
    }
}

fn busybox_image() -> Vec<Vec<u8>> {
    let elf = std::fs::read("/bin/busybox").unwrap_or_else(|_| b"ELF".to_vec());
    let mut base = Layer::new().directory("bin", 0o755);
    base.raw(&mut header(tar::EntryType::Regular, 0o755, elf.len() as u64), "bin/busybox", &elf);
    base = base.hard_link("bin/sh", "bin/busybox").hard_link("bin/su", "bin/busybox");
    let mut upper = Layer::new();
    upper.tar().append_pax_extensions([("SCHILY.xattr.security.capability", CAPABILITY)]).unwrap();
    upper.raw(&mut header(tar::EntryType::Regular, 0o755, elf.len() as u64), "bin/ping", &elf);
    upper.raw(&mut header(tar::EntryType::Regular, 0o4755, elf.len() as u64), "bin/su", &elf);
    let last = Layer::new().hard_link("bin/ash", "bin/busybox").file("bin/.wh.sh", "");
    [base, upper, last].into_iter().map(Layer::bytes).collect()
}

const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn merged_image() -> Vec<Vec<u8>> {
    let lower = Layer::new()
        .directory("usr", 0o755)
        .directory("usr/bin", 0o755)
        .directory("usr/lib", 0o755)
        .symlink("bin", "usr/bin")
        .symlink("lib", "/usr/lib")
        .file("usr/bin/tool", "1")
        .file("usr/lib/so", "1");
    let upper = Layer::new().file("bin/added", "2").file("lib/.wh.so", "").hard_link("lib/tool", "bin/tool");
    [lower, upper].into_iter().map(Layer::bytes).collect()
}

fn opaque_image() -> Vec<Vec<u8>> {
    let lower = Layer::new().directory("srv", 0o755).directory("srv/a", 0o700).file("srv/a/x", "x").file("srv/b", "b");
    let upper = Layer::new().directory("srv", 0o1777).directory("srv/a", 0o750).file("srv/.wh..wh..opq", "");
    [lower, upper, Layer::new().file("srv/a/y", "y")].into_iter().map(Layer::bytes).collect()
}

fn device_image() -> Vec<Vec<u8>> {
    let mut layer = Layer::new().directory("dev", 0o755);
    for (name, kind, major, minor) in [
        ("null", tar::EntryType::Char, 1, 3),
        ("sda9", tar::EntryType::Block, 8, 9),
        ("far", tar::EntryType::Char, 240, 4096),
    ] {
        let mut node = header(kind, 0o660, 0);
        node.set_device_major(major).unwrap();
        node.set_device_minor(minor).unwrap();
        node.set_gid(6);
        layer.raw(&mut node, &format!("dev/{name}"), b"");
    }
    layer.raw(&mut header(tar::EntryType::Fifo, 0o600, 0), "dev/pipe", b"");
    let long = format!("opt/{}/{}", "d".repeat(255), "f".repeat(255));
    vec![layer.directory("opt", 0o755).directory(&long[..259], 0o755).file(&long, "deep").bytes()]
}

#[test]
fn images_of_five_kinds_are_unpacked_alike() {
    for (what, layers) in [
        ("busybox", busybox_image()),
        ("merged usr", merged_image()),
        ("opaque", opaque_image()),
        ("devices", device_image()),
        ("a real tree", vec![real_tree()]),
    ] {
        if !agrees(what, &layers) {
            return;
        }
    }
}

/// A few thousand files of this machine, as GNU tar sees them.
fn real_tree() -> Vec<u8> {
    let mut command = std::process::Command::new("tar");
    command.args([
        "-C",
        "/",
        "--xattrs",
        "--format=pax",
        "-cf",
        "-",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/lib/git-core",
    ]);
    command.args(["etc/alternatives", "usr/bin/sudo", "usr/bin/passwd", "--ignore-failed-read"]);
    command.output().map(|output| output.stdout).unwrap_or_default()
}
