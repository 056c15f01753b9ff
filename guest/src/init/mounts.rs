//! The kernel's own filesystems, before and after the change of root, and /run.
//!
//! Mount points in the image are opened within the image and mounted on by descriptor, so a link
//! in the image cannot move a mount elsewhere.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount, mount_move};

use super::{BootError, NEW_ROOT};
use crate::log;
use crate::tree::Tree;

const CLOSED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// One mount to make.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Device or any name.
    pub source: &'a str,
    /// Filesystem type.
    pub kind: &'a str,
    /// Flags.
    pub flags: MountFlags,
    /// Options of the filesystem.
    pub options: &'a str,
}

/// Mounts on a path.
///
/// # Errors
/// [`BootError::Mount`].
pub fn mount_on(target: &Path, what: Mount<'_>) -> Result<(), BootError> {
    let failed = |source: std::io::Error| BootError::Mount {
        what: format!("{} ({})", what.source, what.kind),
        target: target.to_owned(),
        source,
    };
    let options = CString::new(what.options).map_err(|error| failed(std::io::Error::other(error)))?;
    mount(what.source, target, what.kind, what.flags, Some(options.as_c_str())).map_err(|error| failed(error.into()))
}

/// Mounts on `path` of the image, made if missing.
///
/// # Errors
/// [`BootError::Prepare`], [`BootError::Mount`].
pub fn mount_in(image: &Tree, path: &str, what: Mount<'_>) -> Result<(), BootError> {
    let point = open_point(image, path)?;
    mount_on(&by_descriptor(&point), what).map_err(|error| match error {
        BootError::Mount { what, source, .. } => BootError::Mount { what, target: path.into(), source },
        other => other,
    })
}

fn open_point(image: &Tree, path: &str) -> Result<OwnedFd, BootError> {
    let opened = image.ensure_open_directory(path, 0o755);
    opened.map_err(|source| BootError::Prepare { path: path.into(), source })
}

fn by_descriptor(point: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", point.as_raw_fd()).into()
}

/// /proc, /sys and /dev of the initramfs.
///
/// # Errors
/// [`BootError::Mount`].
pub fn mount_kernel_filesystems() -> Result<(), BootError> {
    for directory in ["/proc", "/sys", "/dev", "/run", NEW_ROOT] {
        let _ = fs::create_dir(directory);
    }
    let wanted = [
        ("/proc", Mount { source: "proc", kind: "proc", flags: CLOSED, options: "" }),
        ("/sys", Mount { source: "sysfs", kind: "sysfs", flags: CLOSED, options: "" }),
        ("/dev", Mount { source: "devtmpfs", kind: "devtmpfs", flags: MountFlags::NOSUID, options: "mode=0755" }),
    ];
    for (target, what) in wanted {
        match mount_on(Path::new(target), what) {
            // Mounted by the kernel already.
            Err(BootError::Mount { source, .. }) if source.kind() == std::io::ErrorKind::ResourceBusy => {}
            other => other?,
        }
    }
    Ok(())
}

/// A fresh /run in the image.
///
/// # Errors
/// [`BootError::Prepare`], [`BootError::Mount`].
pub fn mount_run(image: &Tree) -> Result<(), BootError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_in(image, "run", Mount { source: "tmpfs", kind: "tmpfs", flags, options: "mode=0755" })
}

/// Moves /dev and /sys into the image, completes /dev, and moves /proc last: descriptors are named through it.
///
/// # Errors
/// [`BootError::Prepare`], [`BootError::Mount`].
pub fn move_kernel_filesystems(image: &Tree) -> Result<(), BootError> {
    complete_devices();
    for (from, to) in [("/dev", "dev"), ("/sys", "sys"), ("/proc", "proc")] {
        let point = open_point(image, to)?;
        mount_move(from, by_descriptor(&point)).map_err(|error| BootError::Mount {
            what: from.to_owned(),
            target: Path::new(NEW_ROOT).join(to),
            source: error.into(),
        })?;
    }
    Ok(())
}

/// What udev would add, for sessions that start before it: terminals and shared memory.
fn complete_devices() {
    let devpts = "gid=5,mode=620,ptmxmode=666";
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    let wanted = [
        ("/dev/pts", Mount { source: "devpts", kind: "devpts", flags: no_exec, options: devpts }),
        ("/dev/shm", Mount { source: "tmpfs", kind: "tmpfs", flags: shared, options: "mode=1777" }),
    ];
    for (target, what) in wanted {
        let _ = fs::create_dir(target);
        if let Err(error) = mount_on(Path::new(target), what) {
            log::failure(&super::chain(&error));
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        let _ = std::os::unix::fs::symlink(target, Path::new("/dev").join(name));
    }
}
