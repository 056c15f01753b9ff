//! A distribution's kernel package becomes the files of a kernel in the store.
//!
//! `deb` fetches and unpacks (mmdebstrap's hook [`FETCH`]), then everything is made from the unpacked tree:
//! `vmlinux`, `modules.cpio`, `modules.ext4`. It never installs anything and runs no maintainer script.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::bzimage::{BzImageError, extract_vmlinux};
use super::cpio::CpioWriter;
use super::initrd::InitrdError;
use super::modules::{ModulesError, plan_modules};
use crate::artifact::ext4::{Content, Ext4Error, Ext4Writer, Journal, Metadata, Shape};

/// The hook that fetches one package; see the file.
pub(super) const FETCH: &str = include_str!("fetch.sh");
/// The uncompressed kernel.
pub(super) const VMLINUX: &str = "vmlinux";
/// newc archive with /modules.
pub(super) const MODULES_CPIO: &str = "modules.cpio";
/// Where the modules of a user's kernel are.
pub(super) const MODULES: &str = "modules";
/// Filesystem with the content of /lib/modules/<release>.
pub(super) const MODULES_EXT4: &str = "modules.ext4";

/// Why an unpacked package gave no kernel.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file is missing, unreadable or cannot be written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// "read", "write" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not exactly one kernel in it.
    #[error("the package contains {count} kernels below lib/modules instead of one")]
    NotOneKernel {
        /// How many.
        count: usize,
    },
    /// The kernel image cannot be used.
    #[error("cannot extract the kernel from {path}", path = path.display())]
    BzImage {
        /// The image.
        path: PathBuf,
        /// The cause.
        source: BzImageError,
    },
    /// The kernel cannot be a guest.
    #[error("the kernel {release} cannot be used")]
    Modules {
        /// Its release.
        release: String,
        /// The cause.
        source: ModulesError,
    },
    /// The initrd that came with it gave no modules.
    #[error("cannot take the kernel's modules from its initrd")]
    Initrd {
        /// The cause.
        source: InitrdError,
    },
    /// A module cannot be decompressed.
    #[error("the module {path} has an unknown compression", path = path.display())]
    ModuleCompression {
        /// The module.
        path: PathBuf,
    },
    /// The modules' filesystem cannot be written.
    #[error("cannot write the modules' filesystem")]
    Filesystem {
        /// The cause.
        source: Ext4Error,
    },
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PackageError + use<> {
    let path = path.to_owned();
    move |source| PackageError::File { action, path, source }
}

/// Makes the three files in `out` from the unpacked package `tree`; returns the kernel's release.
///
/// # Errors
/// See [`PackageError`].
pub(super) fn convert(tree: &Path, out: &Path) -> Result<String, PackageError> {
    let release = release(&tree.join("lib/modules"))?;
    let image = tree.join("boot").join(format!("vmlinuz-{release}"));
    let bytes = fs::read(&image).map_err(file_error("read", &image))?;
    let vmlinux = extract_vmlinux(&bytes).map_err(|source| PackageError::BzImage { path: image, source })?;
    write(&out.join(VMLINUX), &vmlinux)?;
    let modules = tree.join("lib/modules").join(&release);
    write(&out.join(MODULES_CPIO), &initrd_modules(&modules, &release)?)?;
    write_modules_filesystem(&modules, &release, &out.join(MODULES_EXT4))?;
    Ok(release)
}

/// Makes the three files in `out` from a kernel that a user has built: `kernel` and perhaps `modules` in `tree`.
///
/// # Errors
/// See [`PackageError`].
pub(super) fn convert_files(tree: &Path, release: &str, out: &Path) -> Result<(), PackageError> {
    let image = tree.join("kernel");
    let bytes = fs::read(&image).map_err(file_error("read", &image))?;
    if bytes.starts_with(b"\x7fELF") {
        write(&out.join(VMLINUX), &bytes)?;
    } else {
        let vmlinux = extract_vmlinux(&bytes).map_err(|source| PackageError::BzImage { path: image, source })?;
        write(&out.join(VMLINUX), &vmlinux)?;
    }
    let modules = tree.join(MODULES);
    if !modules.is_dir() {
        // Everything is built in, says whoever built it.
        fs::create_dir(&modules).map_err(file_error("create", &modules))?;
        for name in ["modules.dep", "modules.builtin"] {
            let builtin = super::modules::FIRST.map(|name| format!("kernel/{name}.ko\n")).concat();
            write(&modules.join(name), if name == "modules.dep" { b"" } else { builtin.as_bytes() })?;
        }
    }
    write(&out.join(MODULES_CPIO), &initrd_modules(&modules, release)?)?;
    write_modules_filesystem(&modules, release, &out.join(MODULES_EXT4))
}

fn write(path: &Path, content: &[u8]) -> Result<(), PackageError> {
    fs::write(path, content).map_err(file_error("write", path))
}

fn release(modules: &Path) -> Result<String, PackageError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(modules).map_err(file_error("list", modules))? {
        let name = entry.map_err(file_error("list", modules))?.file_name();
        found.push(name.to_string_lossy().into_owned());
    }
    match found.as_slice() {
        [release] => Ok(release.clone()),
        _ => Err(PackageError::NotOneKernel { count: found.len() }),
    }
}

/// `/modules/<name>.ko` uncompressed, `/modules/order` and `/modules/order.firecracker`.
fn initrd_modules(modules: &Path, release: &str) -> Result<Vec<u8>, PackageError> {
    let text = |name: &str| {
        let path = modules.join(name);
        fs::read_to_string(&path).map_err(file_error("read", &path))
    };
    let plan = plan_modules(&text("modules.dep")?, &text("modules.builtin")?)
        .map_err(|source| PackageError::Modules { release: release.to_owned(), source })?;
    let mut cpio = CpioWriter::new();
    cpio.directory("modules", 0o755);
    for (list, name) in [(&plan.first, "order"), (&plan.firecracker, "order.firecracker")] {
        let mut order = String::new();
        for path in list {
            let (file, content) = read_module(&modules.join(path))?;
            cpio.file(&format!("modules/{file}"), 0o644, &content);
            order.push_str(&file);
            order.push('\n');
        }
        cpio.file(&format!("modules/{name}"), 0o644, order.as_bytes());
    }
    Ok(cpio.finish())
}

/// The name without the compressor's suffix, and the plain content.
fn read_module(path: &Path) -> Result<(String, Vec<u8>), PackageError> {
    let unknown = || PackageError::ModuleCompression { path: path.to_owned() };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(unknown)?;
    let (stem, suffix) = name.split_once(".ko").ok_or_else(unknown)?;
    let file = File::open(path).map_err(file_error("read", path))?;
    let mut decoder: Box<dyn Read> = match suffix {
        "" => Box::new(file),
        ".xz" => Box::new(xz2::read::XzDecoder::new(file)),
        ".zst" => Box::new(zstd::stream::read::Decoder::new(file).map_err(file_error("decompress", path))?),
        ".gz" => Box::new(flate2::read::GzDecoder::new(file)),
        _ => return Err(unknown()),
    };
    let mut content = Vec::new();
    decoder.read_to_end(&mut content).map_err(file_error("decompress", path))?;
    Ok((format!("{stem}.ko"), content))
}

fn write_modules_filesystem(modules: &Path, release: &str, out: &Path) -> Result<(), PackageError> {
    let file = File::options().read(true).write(true).create_new(true).open(out).map_err(file_error("create", out))?;
    let digest = Sha256::digest(release.as_bytes());
    let shape = Shape {
        uuid: std::array::from_fn(|index| digest[index]),
        label: "modules",
        minimum_bytes: 0,
        spare_bytes: 0,
        journal: Journal::None,
    };
    let mut writer = Ext4Writer::new(file, shape);
    add_tree(&mut writer, modules, "")?;
    writer.finish().map_err(|source| PackageError::Filesystem { source })?;
    Ok(())
}

/// Adds a host directory in sorted order, owned by root. `build` and `source` links of a package are dropped.
fn add_tree(writer: &mut Ext4Writer, directory: &Path, prefix: &str) -> Result<(), PackageError> {
    let mut entries = fs::read_dir(directory)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file_error("list", directory))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(file_error("examine", &path))?;
        let filesystem = |source| PackageError::Filesystem { source };
        let metadata = |permissions| Metadata { permissions, ..Metadata::default() };
        if kind.is_dir() {
            writer.add(name.as_bytes(), metadata(0o755), Content::Directory).map_err(filesystem)?;
            add_tree(writer, &path, &format!("{name}/"))?;
        } else if kind.is_file() {
            let mut file = File::open(&path).map_err(file_error("read", &path))?;
            writer.add(name.as_bytes(), metadata(0o644), Content::File(&mut file)).map_err(filesystem)?;
        }
    }
    Ok(())
}
