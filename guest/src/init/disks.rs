//! The VM's disks, found by virtio-blk serial and mounted.
//!
//! Device names depend on probing order; serials do not. Firecracker knows no serials: there the seed names devices,
//! whose order is that of their announcement. `noinit_itable` keeps ext4 from starting a
//! thread that writes inode tables into the overlay of every VM.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::guest::v1::Seed;
use rustix::mount::MountFlags;

use super::BootError;
use super::mounts::{self, Mount};
use crate::tree::Tree;

const APPEARANCE_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(3);

/// The device whose serial is `serial`, or that device if it is an absolute path, waiting for it to appear.
///
/// # Errors
/// [`BootError::NoDisk`].
pub fn find(serial: &str) -> Result<PathBuf, BootError> {
    let deadline = Instant::now() + APPEARANCE_LIMIT;
    loop {
        if let Some(device) = find_now(Path::new("/sys/block"), Path::new("/"), serial) {
            return Ok(device);
        }
        if Instant::now() > deadline {
            return Err(BootError::NoDisk { serial: serial.to_owned(), seconds: APPEARANCE_LIMIT.as_secs() });
        }
        std::thread::sleep(POLL);
    }
}

fn find_now(blocks: &Path, root: &Path, serial: &str) -> Option<PathBuf> {
    if let Some(device) = serial.strip_prefix('/') {
        return Some(root.join(device)).filter(|device| device.exists());
    }
    let matches = |path: PathBuf| std::fs::read_to_string(path).is_ok_and(|held| held.trim_end() == serial);
    let found = std::fs::read_dir(blocks).ok()?.flatten().find(|block| matches(block.path().join("serial")))?;
    Some(Path::new("/dev").join(found.file_name()))
}

/// Mounts the root disk.
///
/// # Errors
/// [`BootError::NoDisk`], [`BootError::Mount`].
pub fn mount_root(serial: &str, target: &Path) -> Result<(), BootError> {
    let device = find(serial)?;
    mounts::mount_on(target, writable(&device.to_string_lossy()))
}

/// Mounts the work disk on /root and the modules where modprobe looks, both inside the image.
///
/// # Errors
/// [`BootError`]: a disk the seed names must be there.
pub fn mount_below_root(seed: &Seed, image: &Tree) -> Result<(), BootError> {
    if !seed.work_disk_serial.is_empty() {
        let device = find(&seed.work_disk_serial)?;
        mounts::mount_in(image, "root", writable(&device.to_string_lossy()))?;
    }
    if !seed.modules_disk_serial.is_empty() {
        let device = find(&seed.modules_disk_serial)?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let source = device.to_string_lossy();
        let what =
            Mount { source: &source, kind: "ext4", flags: MountFlags::RDONLY | MountFlags::NOATIME, options: "" };
        mounts::mount_in(image, &format!("lib/modules/{release}"), what)?;
    }
    Ok(())
}

fn writable(device: &str) -> Mount<'_> {
    Mount { source: device, kind: "ext4", flags: MountFlags::NOATIME, options: "noinit_itable" }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_whole_serial() {
        let blocks = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", "root-old"), ("vdb", "root\n"), ("loop0", "")] {
            std::fs::create_dir(blocks.path().join(name)).unwrap();
            std::fs::write(blocks.path().join(name).join("serial"), serial).unwrap();
        }
        let root = Path::new("/nowhere");
        assert_eq!(find_now(blocks.path(), root, "root"), Some("/dev/vdb".into()));
        assert_eq!(find_now(blocks.path(), root, "work"), None);
    }

    #[test]
    fn a_path_is_a_device_as_soon_as_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        let blocks = root.path().join("sys/block");
        assert_eq!(find_now(&blocks, root.path(), "/dev/vda"), None);
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/vda"), "").unwrap();
        assert_eq!(find_now(&blocks, root.path(), "/dev/vda"), Some(root.path().join("dev/vda")));
    }
}
