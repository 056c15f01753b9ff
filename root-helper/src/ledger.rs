//! What the helper created, by VM. Teardown can only touch what is written here.
//!
//! ```text
//! ledger/<vm id>.json   Holdings: what may exist for one VM
//! ledger/network.json   NetworkHoldings: what may exist once for all
//! ```
//! An entry is written before the kernel is asked (with the [`Intent`]) and again after. So it never lists too little;
//! what it lists too much, [`replay`] takes back. This file is the pure record; [`records`] keeps it on disk.

pub mod records;
pub mod replay;
mod text;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use banger_proto::names::{BuildId, ImageName, KernelName, VmId};
use serde::{Deserialize, Serialize};

/// What may exist for one VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holdings {
    /// The boot of the host that everything but the files belongs to.
    pub boot_id: String,
    /// The operation that was begun and has not ended.
    pub intent: Option<Intent>,
    /// Address of its link, if it has one.
    pub link: Option<Ipv4Addr>,
    /// Its traffic may leave the host.
    pub nat: bool,
    /// Its root disk.
    pub root_disk: Option<RootDisk>,
    /// Loop devices and the device-mapper device of the root disk may exist.
    pub disk_active: bool,
    /// Its machine monitor, from the moment it is about to be launched.
    pub machine: Option<Machine>,
}

/// What was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// See [`operations::attach_link`](crate::operations::attach_link).
    AttachLink,
    /// See [`operations::detach_link`](crate::operations::detach_link).
    DetachLink,
    /// See [`operations::create_root_disk`](crate::operations::create_root_disk).
    CreateRootDisk,
    /// See [`operations::launch_vm`](crate::operations::launch_vm).
    LaunchVm,
    /// See [`operations::teardown_vm`](crate::operations::teardown_vm).
    TeardownVm,
}

/// A snapshot's origin and its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootDisk {
    /// The image.
    #[serde(with = "text")]
    pub image: ImageName,
    /// Which build of it.
    #[serde(with = "text")]
    pub build: BuildId,
    /// The file that was checked: what the store holds is differences to this one only.
    pub origin: FileIdentity,
    /// Size of the store.
    pub copy_on_write_mib: u64,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    /// Device number.
    pub device: u64,
    /// Inode.
    pub inode: u64,
}

/// A machine monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The kernel it boots.
    #[serde(with = "text")]
    pub kernel: KernelName,
    /// Which build of it.
    #[serde(with = "text")]
    pub build: BuildId,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory of the guest.
    pub memory_mib: u64,
    /// Major and minor number of its root disk, once that is active.
    pub root_device: Option<(u32, u32)>,
    /// The process, once it runs.
    pub process: Option<Process>,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Field 22 of /proc/pid/stat.
    pub start_time_ticks: u64,
}

/// What may exist once for all VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkHoldings {
    /// The boot of the host it belongs to.
    pub boot_id: String,
    /// The bridge and the tables.
    pub bridge: bool,
    /// systemd-resolved was told about the bridge.
    pub resolver: bool,
    /// Whether the host forwarded before banger made it; `None` while banger does not.
    pub forwarding_before: Option<bool>,
}

/// Everything the helper created and has not taken away again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    vms: BTreeMap<VmId, Holdings>,
    /// What exists once.
    pub network: NetworkHoldings,
}

impl Holdings {
    /// True if the machine monitor was launched and has not been seen to end.
    pub fn is_launched(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.process.is_some())
    }

    /// True if there is nothing to take away.
    pub fn is_empty(&self) -> bool {
        self.intent.is_none()
            && self.link.is_none()
            && self.root_disk.is_none()
            && !self.disk_active
            && self.machine.is_none()
    }
}

impl Ledger {
    /// What exists for this VM; `None` if the helper never made anything for it.
    pub fn holdings(&self, vm: &VmId) -> Option<&Holdings> {
        self.vms.get(vm)
    }

    /// The entry of this VM, made empty if there was none.
    pub fn entry(&mut self, vm: VmId) -> &mut Holdings {
        self.vms.entry(vm).or_default()
    }

    /// Nothing exists for this VM any more.
    pub fn remove(&mut self, vm: &VmId) {
        self.vms.remove(vm);
    }

    /// All entries, by id.
    pub fn vms(&self) -> impl Iterator<Item = (&VmId, &Holdings)> {
        self.vms.iter()
    }

    /// The VM that has this address, if any.
    pub fn address_owner(&self, address: Ipv4Addr) -> Option<&VmId> {
        self.vms.iter().find(|(_, holdings)| holdings.link == Some(address)).map(|(vm, _)| vm)
    }

    /// The addresses of all links.
    pub fn links(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.vms.values().filter_map(|holdings| holdings.link)
    }

    /// True while a guest's traffic may leave the host.
    pub fn needs_forwarding(&self) -> bool {
        self.vms.values().any(|holdings| holdings.nat && holdings.link.is_some())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// An entry with everything in it.
    pub(crate) fn full_holdings() -> Holdings {
        Holdings {
            boot_id: "boot".into(),
            intent: Some(Intent::LaunchVm),
            link: Some(Ipv4Addr::new(172, 16, 0, 2)),
            nat: true,
            root_disk: Some(RootDisk {
                image: "debian-bookworm".parse().unwrap(),
                build: "a".repeat(32).parse().unwrap(),
                origin: FileIdentity { device: 1, inode: 2 },
                copy_on_write_mib: 1024,
            }),
            disk_active: true,
            machine: Some(Machine {
                kernel: "generic-6.12".parse().unwrap(),
                build: "b".repeat(32).parse().unwrap(),
                vcpus: 2,
                memory_mib: 512,
                root_device: Some((253, 0)),
                process: Some(Process { pid: 77, start_time_ticks: 99 }),
            }),
        }
    }

    #[test]
    fn an_entry_is_empty_only_without_anything_to_take_away() {
        assert!(Holdings::default().is_empty());
        assert!(Holdings { boot_id: "b".into(), ..Holdings::default() }.is_empty());
        let full = full_holdings();
        for one in [
            Holdings { intent: full.intent, ..Holdings::default() },
            Holdings { link: full.link, ..Holdings::default() },
            Holdings { root_disk: full.root_disk, ..Holdings::default() },
            Holdings { disk_active: true, ..Holdings::default() },
            Holdings { machine: full.machine, ..Holdings::default() },
        ] {
            assert!(!one.is_empty(), "{one:?}");
        }
    }
}
