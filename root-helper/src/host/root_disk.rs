//! A VM's root disk: the image's file, read-only, under a copy-on-write store that only root can read.
//!
//! ```text
//! images/NAME@BUILD/rootfs.ext4 ─loop, read-only─┐
//!                                                ├─ device-mapper snapshot ─▶ fc-rootfs-ID
//! cow/ID.cow                     ─loop───────────┘
//! ```
//! Found again by tag and uuid, never by number. The store outlives the devices: a stopped VM keeps its disk.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::install::{HELPER_STATE_DIRECTORY, STATE_DIRECTORY};
use banger_proto::names::{BuildId, ImageName, VmId};

use super::Usage;
use super::files::{CheckedFile, OwnerDirectory};
use crate::error::{Step, StepError, step};
use crate::kernel_names;
use crate::ledger::{FileIdentity, RootDisk};
use crate::syscalls::device_mapper::{DeviceMapper, DeviceName, Target};
use crate::syscalls::loop_device::{self, Access};

const SECTOR: u64 = 512;
/// Sectors that are copied at once when one of them is written first.
const CHUNK_SECTORS: u64 = 8;
/// How long somebody may keep a device open that should go: udev looks at every new one.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
const BUSY_STEP: Duration = Duration::from_millis(20);

/// The image's file, if it may be used.
pub fn identify(owner: u32, image: &ImageName, build: &BuildId) -> Step<FileIdentity> {
    Ok(check(owner, image, build)?.identity)
}

/// An empty, sparse store.
pub fn create_store(vm: &VmId, mib: u64) -> Step<()> {
    let path = store(vm);
    let attempt = || format!("create {}", path.display());
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(step(attempt()))?;
    file.set_len(mib << 20).and_then(|()| file.sync_all()).map_err(step(attempt()))
}

/// The store is gone.
pub fn remove_store(vm: &VmId) -> Step<()> {
    let path = store(vm);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StepError::new(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The devices; major and minor number of the snapshot.
pub fn activate(owner: u32, vm: &VmId, disk: &RootDisk) -> Step<(u32, u32)> {
    let origin = check(owner, &disk.image, &disk.build)?;
    if origin.identity != disk.origin {
        let attempt = format!("use the image {}@{}", disk.image, disk.build);
        return Err(StepError::refused(attempt, "it is not the file that the disk was made over"));
    }
    let sectors = origin.length / SECTOR;
    if sectors == 0 {
        let attempt = format!("use the image {}@{}", disk.image, disk.build);
        return Err(StepError::refused(attempt, "it is shorter than a sector"));
    }
    let path = store(vm);
    let store = File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
    let store = store.map_err(step(format!("open {}", path.display())))?;
    let attach = |file: &File, tag: String, access| {
        loop_device::attach(file.as_fd(), &tag, access).map_err(step(format!("attach the loop device {tag}")))
    };
    let origin = attach(&origin.open()?, kernel_names::origin_tag(vm), Access::ReadOnly)?;
    let store = attach(&store, kernel_names::store_tag(vm), Access::ReadWrite)?;
    // P: the store keeps what was written when the device goes. 7 is the loop driver's major number.
    let parameters = format!("7:{origin} 7:{store} P {CHUNK_SECTORS}");
    let target = Target { kind: "snapshot", sectors, parameters: &parameters };
    let (name, uuid) = (kernel_names::device(vm), kernel_names::device_uuid(vm));
    mapper()?.create(DeviceName { name: &name, uuid: &uuid }, target).map_err(step(format!("create the device {name}")))
}

/// The devices are gone, as far as each can be made to go.
pub fn deactivate(vm: &VmId) -> Step<()> {
    let name = kernel_names::device(vm);
    let attempt = || format!("remove the device {name}");
    let mapper = mapper()?;
    let uuid = kernel_names::device_uuid(vm);
    if let Some(found) = mapper.find(DeviceName { name: &name, uuid: &uuid }).map_err(step(attempt()))? {
        if !found.is_ours {
            return Err(StepError::refused(attempt(), "somebody else made it"));
        }
        let give_up = Instant::now() + BUSY_LIMIT;
        loop {
            match mapper.remove(&name) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < give_up => {
                    std::thread::sleep(BUSY_STEP);
                }
                outcome => break outcome.map_err(step(attempt()))?,
            }
        }
    }
    let tags = [kernel_names::store_tag(vm), kernel_names::origin_tag(vm)];
    for number in loop_numbers()? {
        let backing = loop_device::backing(number).map_err(step(format!("look at the loop device {number}")))?;
        if backing.is_some_and(|backing| tags.iter().any(|tag| backing.has_tag(tag))) {
            loop_device::detach(number).map_err(step(format!("detach the loop device {number}")))?;
        }
    }
    Ok(())
}

/// How full the store is.
pub fn usage(vm: &VmId) -> Step<Usage> {
    let name = kernel_names::device(vm);
    let status = mapper()?.status(&name).map_err(step(format!("ask the device {name} for its fill level")))?;
    parse_usage(&status)
        .ok_or_else(|| StepError::new(format!("ask the device {name} for its fill level"), format!("{status:?}")))
}

/// "USED/TOTAL METADATA", or a word once the snapshot is lost because the store was full.
fn parse_usage(status: &str) -> Option<Usage> {
    if matches!(status.trim(), "Invalid" | "Overflow" | "Merge failed") {
        return Some(Usage { used: u64::MAX, total: u64::MAX });
    }
    let (used, total) = status.split_whitespace().next()?.split_once('/')?;
    Some(Usage { used: used.parse().ok()?, total: total.parse().ok()? })
}

fn check(owner: u32, image: &ImageName, build: &BuildId) -> Step<CheckedFile> {
    OwnerDirectory::open(Path::new(STATE_DIRECTORY), owner)?.check(&kernel_names::rootfs(image, build))
}

fn store(vm: &VmId) -> PathBuf {
    Path::new(HELPER_STATE_DIRECTORY).join(kernel_names::store_file(vm))
}

fn mapper() -> Step<DeviceMapper> {
    DeviceMapper::open().map_err(step("open the device-mapper"))
}

/// Loop devices with something behind them.
fn loop_numbers() -> Step<Vec<u32>> {
    let entries = fs::read_dir("/sys/block").map_err(step("list the block devices"))?;
    let number = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let number = entry.file_name().to_str()?.strip_prefix("loop")?.parse().ok()?;
        entry.path().join("loop").is_dir().then_some(number)
    };
    Ok(entries.filter_map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_level_is_read_from_the_kernels_words() {
        assert_eq!(parse_usage("16/2097152 16"), Some(Usage { used: 16, total: 2_097_152 }));
        assert_eq!(parse_usage("Invalid"), Some(Usage { used: u64::MAX, total: u64::MAX }));
        assert_eq!(parse_usage("Unknown"), None);
        assert_eq!(parse_usage(""), None);
    }
}
