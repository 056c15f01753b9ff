//! What the VMM is told before its guest starts: a pure function of the plan and the network.
//!
//! Paths are inside the jail, where the helper has put what they name. The order of the drives is the order in which
//! the guest finds them, as this VMM knows no serials; [`DISKS`] says so to the guest.

use std::net::Ipv4Addr;

use banger_proto::guest_contract::FIRECRACKER_ARGUMENT;
use banger_proto::install::{guest_mac_text, tap};
use serde_json::{Value, json};

use crate::platform::{GuestDisks, VmPlan};

/// In the order of the drives below.
pub const DISKS: GuestDisks = GuestDisks { root: "/dev/vda", modules: "/dev/vdb", work: "/dev/vdc" };
/// The most Firecracker takes.
pub const VCPU_MAXIMUM: u32 = 32;
/// Any number above 2: each VM has a vsock of its own.
const GUEST_CID: u32 = 3;

/// What the guest's kernel is told, each with its reason.
const ARGUMENTS: &[(&str, &str)] = &[
    ("console=ttyS0", "the console log is how a guest that never answers explains itself"),
    ("quiet", "each character on the serial port is an exit to the VMM"),
    ("loglevel=4", "errors and panics still reach the console log"),
    ("panic=-1", "a panicked guest resets at once, which ends the VMM; its last words stay in the console log"),
    ("reboot=k", "the keyboard controller's reset is the one this machine has; it ends the VMM"),
    ("nowatchdog", "a vCPU that gets no host CPU for a while is not locked up"),
    ("cryptomgr.notests", "half a second of self-tests on an emulated host, of code that is the same in every boot"),
    ("i8042.noaux", "there is no mouse to probe for"),
    ("i8042.nomux", "nor four of them"),
    ("i8042.nopnp", "the controller is where it always was"),
    ("i8042.dumbkbd", "and its keyboard cannot be asked anything"),
    (FIRECRACKER_ARGUMENT, "tells banger-guest which machine it is on"),
];

/// All of it, as the file that Firecracker reads when it starts.
pub fn config(plan: &VmPlan, address: Ipv4Addr) -> Value {
    json!({
        // Its log goes to the console log; only trouble belongs there.
        "logger": { "level": "Warning" },
        "metrics": { "metrics_path": "/metrics.json" },
        "boot-source": { "kernel_image_path": "/vmlinux", "initrd_path": "/initrd", "boot_args": command_line(plan) },
        "drives": [
            drive("root", "/rootfs", Access::Write),
            drive("modules", "/modules.ext4", Access::Read),
            drive("work", "/work.ext4", Access::Write),
        ],
        "network-interfaces": [
            { "iface_id": "eth0", "guest_mac": guest_mac_text(address), "host_dev_name": tap(address) },
        ],
        "machine-config": { "vcpu_count": plan.vcpu_count, "mem_size_mib": plan.memory_mib },
        "vsock": { "guest_cid": GUEST_CID, "uds_path": "/vsock.sock" },
        "entropy": {},
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Writeback: a guest's flush reaches the host's disk, as it would on QEMU.
fn drive(id: &str, path: &str, access: Access) -> Value {
    let read_only = access == Access::Read;
    json!({
        "drive_id": id, "path_on_host": path, "is_root_device": false, "is_read_only": read_only,
        "cache_type": "Writeback",
    })
}

/// The user's own arguments come last, so they win.
fn command_line(plan: &VmPlan) -> String {
    let ours = ARGUMENTS.iter().map(|(argument, _)| *argument);
    ours.chain(plan.kernel_arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::firecracker::tests::fixture;

    #[test]
    fn the_drives_come_in_the_order_the_guest_is_told() {
        let plan = fixture::plan(1);
        let config = config(&plan, Ipv4Addr::new(172, 16, 0, 2));
        let drives = config["drives"].as_array().expect("a list");
        let names: Vec<&str> = drives.iter().filter_map(|drive| drive["drive_id"].as_str()).collect();
        assert_eq!(names, ["root", "modules", "work"]);
        assert_eq!([DISKS.root, DISKS.modules, DISKS.work], ["/dev/vda", "/dev/vdb", "/dev/vdc"]);
        let read_only: Vec<bool> = drives.iter().filter_map(|drive| drive["is_read_only"].as_bool()).collect();
        assert_eq!(read_only, [false, true, false]);
    }

    #[test]
    fn the_link_has_the_name_and_the_address_the_helper_lets_through() {
        let plan = fixture::plan(1);
        let config = config(&plan, Ipv4Addr::new(172, 16, 0, 2));
        let link = &config["network-interfaces"][0];
        assert_eq!(link["guest_mac"], "02:fc:ac:10:00:02");
        assert_eq!(link["host_dev_name"], "fc-ac100002");
    }

    #[test]
    fn the_users_kernel_arguments_come_last() {
        let plan = VmPlan { kernel_arguments: vec!["panic=1".into(), "audit=0".into()], ..fixture::plan(1) };
        let line = command_line(&plan);
        assert!(line.starts_with("console=ttyS0 quiet ") && line.ends_with(" panic=1 audit=0"), "{line}");
        assert!(line.split(' ').any(|word| word == "reboot=k"), "without it a power-off leaves the VMM running");
    }
}
