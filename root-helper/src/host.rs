//! Everything the helper does to the host, as one list: what is not here, no operation can do.
//!
//! [`linux`] does it; the tests put a fake in its place, to see in which order things happen and what a failure of
//! each leaves. Every call that takes away is content if there is nothing to take.

pub mod bus;
#[cfg(test)]
pub(crate) mod fake;
pub mod files;
pub mod forwarding;
pub mod links;
pub mod linux;
pub mod nft;
pub mod nft_generation;
pub mod process;
pub mod resolver;
pub mod root_disk;
pub mod rules;
pub mod unit;

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use banger_proto::names::{BuildId, ImageName, VmId};
use serde_json::Value;

use crate::error::Step;
use crate::ledger::{FileIdentity, Process, RootDisk};
use crate::request::{Signal, Switch};

/// Limits of a machine monitor's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory of the guest.
    pub memory_mib: u64,
    /// Its root disk.
    pub root_device: (u32, u32),
}

/// How full a copy-on-write store is, in sectors of 512 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Used.
    pub used: u64,
    /// Of so many.
    pub total: u64,
}

/// The host.
pub trait Host: Send {
    /// Which boot of the host this is.
    fn boot_id(&self) -> &str;

    /// True if there is a network link of this name.
    fn has_link(&self, name: &str) -> Step<bool>;
    /// The bridge, with its address, up.
    fn ensure_bridge(&self) -> Step<()>;
    /// The bridge is there, up, with its address.
    fn is_bridge_ready(&self) -> Step<bool>;
    /// The tap of the guest with this address, on the bridge, isolated, up.
    fn ensure_tap(&self, guest: Ipv4Addr) -> Step<()>;
    /// That tap is there, up, on the bridge.
    fn is_tap_ready(&self, guest: Ipv4Addr) -> Step<bool>;
    /// That tap is gone.
    fn remove_tap(&self, guest: Ipv4Addr) -> Step<()>;
    /// The bridge is gone.
    fn remove_bridge(&self) -> Step<()>;

    /// The tables are exactly these.
    fn apply_rules(&self, batch: &Value) -> Step<()>;
    /// The tables look as if nobody had touched them.
    fn has_rules(&self, batch: &Value) -> Step<bool>;

    /// The host forwards IPv4.
    fn is_forwarding(&self) -> Step<bool>;
    /// It does, or not.
    fn set_forwarding(&self, forwarding: Switch) -> Step<()>;

    /// systemd-resolved asks bangerd for names of VMs, or not.
    fn set_resolver(&self, resolver: Switch) -> Step<()>;
    /// It does.
    fn is_resolver_ready(&self) -> Step<bool>;

    /// The image's file, if it may be used.
    fn identify_image(&self, image: &ImageName, build: &BuildId) -> Step<FileIdentity>;
    /// An empty store of this size.
    fn create_store(&self, vm: &VmId, mib: u64) -> Step<()>;
    /// The store is gone.
    fn remove_store(&self, vm: &VmId) -> Step<()>;
    /// Loop devices and snapshot over the image and the store; major and minor number.
    fn activate_disk(&self, vm: &VmId, disk: &RootDisk) -> Step<(u32, u32)>;
    /// They are gone.
    fn deactivate_disk(&self, vm: &VmId) -> Step<()>;
    /// How full the store is, while the disk is active.
    fn disk_usage(&self, vm: &VmId) -> Step<Usage>;

    /// The machine monitor in its unit, with its socket there.
    fn start_machine(&self, vm: &VmId, limits: Limits) -> Step<(Process, OwnedFd)>;
    /// There may be processes in the VM's unit. It says nothing of a start that systemd has yet to begin.
    fn has_machine(&self, vm: &VmId) -> Step<bool>;
    /// The unit, and so every process in it, is gone.
    fn stop_machine(&self, vm: &VmId) -> Step<()>;
    /// The same, without mercy for its process.
    fn kill_machine(&self, vm: &VmId, process: Option<Process>) -> Step<()>;
    /// The process, if it is still that one and runs.
    fn open_process(&self, process: Process) -> Step<Option<OwnedFd>>;
    /// A signal to it; nothing if it ended.
    fn signal(&self, process: Process, signal: Signal) -> Step<()>;
    /// The jail is gone.
    fn remove_jail(&self, vm: &VmId) -> Step<()>;
    /// The slice of the machine monitors is gone, if no machine monitor is in it: before its unit is taken away.
    fn remove_slice(&self) -> Step<()>;
}
