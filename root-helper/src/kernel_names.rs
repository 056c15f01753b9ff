//! Names of kernel objects, units and files, derived from ids alone, and of taps, from their guests' addresses
//! ([`tap`](banger_proto::install::tap)). Pure and injective.

use std::path::{Path, PathBuf};

use banger_proto::install;
use banger_proto::names::{BuildId, ImageName, KernelName, VmId};

/// The VM's device-mapper device.
pub fn device(vm: &VmId) -> String {
    format!("fc-rootfs-{vm}")
}

/// The device's uuid: says whose it is, should anybody make one of the same name.
pub fn device_uuid(vm: &VmId) -> String {
    format!("banger-{vm}")
}

/// What the loop device over the image is tagged with.
pub fn origin_tag(vm: &VmId) -> String {
    format!("banger-{vm}-origin")
}

/// What the loop device over the copy-on-write file is tagged with.
pub fn store_tag(vm: &VmId) -> String {
    format!("banger-{vm}-store")
}

/// Where the processes of [`unit`] are, on a host with one hierarchy of control groups.
pub fn control_group(vm: &VmId) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(SLICE).join(unit(vm))
}

/// The transient unit of the machine monitor.
pub fn unit(vm: &VmId) -> String {
    format!("banger-vm-{vm}.service")
}

/// The slice all machine monitors are in.
pub const SLICE: &str = "banger.slice";

/// The copy-on-write file, beneath the helper's state.
pub fn store_file(vm: &VmId) -> PathBuf {
    Path::new("cow").join(format!("{vm}.cow"))
}

/// The ledger's entry, beneath its directory.
pub fn ledger_file(vm: &VmId) -> String {
    format!("{vm}.json")
}

/// What the jailer calls a jail: BASE/firecracker/ID.
pub fn jail(vm: &VmId) -> PathBuf {
    Path::new(install::HELPER_STATE_DIRECTORY).join("jail/firecracker").join(vm.as_str())
}

/// Where [`run_vm`](crate::run_vm) says why it could not: beside the jail, where only root can write.
pub fn failure_file(vm: &VmId) -> PathBuf {
    jail(vm).with_extension("failure")
}

/// An image's file system, beneath the owner's state.
pub fn rootfs(image: &ImageName, build: &BuildId) -> PathBuf {
    Path::new("images").join(format!("{image}@{build}")).join("rootfs.ext4")
}

/// A file of a kernel, beneath the owner's state.
pub fn kernel_file(kernel: &KernelName, build: &BuildId, file: &str) -> PathBuf {
    Path::new("kernels").join(format!("{kernel}@{build}")).join(file)
}

/// A file of a VM, beneath the owner's state.
pub fn vm_file(vm: &VmId, file: &str) -> PathBuf {
    Path::new("vms").join(vm.as_str()).join(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn different_vms_have_different_names() {
        // Ids that differ in one digit, at every place: the hardest pairs for a derivation that drops or mixes digits.
        let base: VmId = "0".repeat(32).parse().unwrap();
        for place in 0..32 {
            let mut digits = "0".repeat(32);
            digits.replace_range(place..=place, "1");
            let other: VmId = digits.parse().unwrap();
            for derive in [device, device_uuid, origin_tag, store_tag, unit, ledger_file] {
                assert_ne!(derive(&base), derive(&other), "digit {place}");
            }
            for derive in [store_file, jail, failure_file] {
                assert_ne!(derive(&base), derive(&other), "digit {place}");
            }
        }
    }

    #[test]
    fn names_fit_what_the_kernel_has_room_for() {
        let vm: VmId = "f".repeat(32).parse().unwrap();
        assert!(origin_tag(&vm).len() < 64 && store_tag(&vm).len() < 64);
        assert!(device(&vm).len() < 128 && device_uuid(&vm).len() < 129);
    }
}
