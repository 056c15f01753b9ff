//! The seam between the lifecycle of VMs and a virtual machine monitor.
//!
//! Everything above [`Platform`] is shared by both modes. An implementation owns the files and processes
//! of one VM below the plan's two directories and nothing else; it never touches the store and never
//! decides a state. `qemu` is the rootless one, `firecracker` the supported one.

mod elf;
mod error;
#[cfg(test)]
pub mod fake;
mod files;
pub mod firecracker;
mod initrd;
mod process;
mod programs;
pub mod qemu;
mod syscalls;
mod work_disk;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest::v1::{Network, Seed};
use banger_proto::install::Subnet;
use banger_proto::names::{VmId, VmName};
use futures::future::BoxFuture;
use tokio::net::UnixStream;

use crate::doctor::Finding;
use crate::reporter::Reporter;
use crate::vm::record::VmSpec;

/// All an implementation needs to know about one VM. Pure data, made by the VM's driver from its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlan {
    /// Identity.
    pub id: VmId,
    /// For messages.
    pub name: VmName,
    /// Virtual CPUs, at least 1.
    pub vcpu_count: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Size of the work disk in MiB.
    pub work_disk_mib: u64,
    /// Whether the guest may open connections to the outside.
    pub nat: bool,
    /// The guest's own address, from [`Platform::address_pool`].
    pub address: Option<Ipv4Addr>,
    /// `(host port on 127.0.0.1, guest port)`, TCP.
    pub published_ports: Vec<(u16, u16)>,
    /// Read-only base of the root disk (raw ext4).
    pub rootfs: PathBuf,
    /// The image has an SSH server on port 22.
    pub image_has_sshd: bool,
    /// Uncompressed kernel (ELF).
    pub vmlinux: PathBuf,
    /// newc archive with `/modules/*.ko` and `/modules/order`.
    pub modules_cpio: PathBuf,
    /// Read-only ext4 with the whole of /lib/modules/<release>.
    pub modules_ext4: PathBuf,
    /// Appended to the kernel command line last.
    pub kernel_arguments: Vec<String>,
    /// Durable files of this VM; created by `provision`, removed by `teardown`.
    pub directory: PathBuf,
    /// Sockets of this VM; may vanish with a reboot.
    pub runtime_directory: PathBuf,
}

/// A process that cannot be confused with another: pid, and start time in clock ticks since boot
/// (field 22 of /proc/pid/stat, proc(5)), and the host boot it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks.
    pub start_time_ticks: u64,
    /// /proc/sys/kernel/random/boot_id of the host.
    pub host_boot_id: String,
}

/// Facts about a running VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The VMM process.
    pub process: ProcessIdentity,
    /// Host address and port of the agent's SSH server.
    pub agent_address: std::net::SocketAddr,
    /// Host address and port of the guest's port 22, if the image has a server there.
    pub ssh_address: Option<std::net::SocketAddr>,
}

/// What a look at the host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The VMM runs.
    Running(Running),
    /// No VMM process of this VM exists.
    Gone,
}

/// What a guest is told about the machine it runs on.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestMachine {
    /// Its link.
    pub network: Network,
    /// Its disks.
    pub disks: GuestDisks,
}

/// How a guest finds its disks: a virtio-blk serial or an absolute device path each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestDisks {
    /// The image's root with the VM's own changes.
    pub root: &'static str,
    /// /root.
    pub work: &'static str,
    /// /lib/modules.
    pub modules: &'static str,
}

/// Something about one VM that a look at the host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which VM.
    pub vm: VmId,
    /// What to tell.
    pub text: String,
}

/// Tells the plans of all VMs as they are at the moment it is asked.
pub type Wanted<'a> = &'a (dyn Fn() -> Vec<VmPlan> + Send + Sync);

/// The seam. Every method may be called again after a crash and must then converge.
pub trait Platform: Send + Sync {
    /// "qemu-kvm", "qemu-tcg", "firecracker".
    fn vmm_name(&self) -> &'static str;

    /// What to tell the guest, for the seed.
    fn guest_machine(&self, plan: &VmPlan) -> GuestMachine;

    /// The network whose addresses guests have; `None` where each guest has a network of its own.
    fn address_pool(&self) -> Option<Subnet>;

    /// Refuses what no VM on this platform can have, before anything is made.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, spec: &VmSpec) -> Result<(), PlatformError>;

    /// Makes both directories and both disks. On failure leaves nothing.
    fn provision<'a>(&'a self, plan: &'a VmPlan, reporter: &'a Reporter) -> BoxFuture<'a, Result<(), PlatformError>>;

    /// Writes the initrd (guest binary, modules, seed) and starts the VMM. The VMM outlives bangerd.
    /// On failure no process is left.
    fn launch<'a>(
        &'a self,
        plan: &'a VmPlan,
        seed: &'a Seed,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<Running, PlatformError>>;

    /// Finds the VMM of this VM, also one whose identity was never recorded.
    fn inspect<'a>(
        &'a self,
        plan: &'a VmPlan,
        recorded: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<Observed, PlatformError>>;

    /// A fresh connection to the guest's control channel (frames of `guest/v1/control.proto`).
    fn connect_control<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<UnixStream, PlatformError>>;

    /// Resolves when the VMM process has ended.
    fn wait_gone<'a>(&'a self, process: &'a ProcessIdentity) -> BoxFuture<'a, ()>;

    /// Ends the VMM now (SIGKILL through a pidfd whose start time matches). Succeeds if it is gone already.
    fn kill<'a>(
        &'a self,
        plan: &'a VmPlan,
        recorded: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<(), PlatformError>>;

    /// Makes the reach of a running guest what the plan says now.
    fn set_nat<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<(), PlatformError>>;

    /// Puts back what others took from the host's side of the network, and looks at what fills up.
    fn reassert<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Notice>, PlatformError>>;

    /// What this platform needs of the host, one finding each.
    fn examine(&self) -> BoxFuture<'_, Vec<Finding>>;

    /// Removes both directories and anything else made for this VM; never stops at the first error.
    fn teardown<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Vec<PlatformError>>;

    /// Every VM id for which a process or directory exists, known to the store or not.
    fn inventory(&self) -> BoxFuture<'_, Result<Vec<VmId>, PlatformError>>;

    /// Ends the process and removes the files of a VM the store does not know.
    fn remove_orphan<'a>(&'a self, id: &'a VmId) -> BoxFuture<'a, Vec<PlatformError>>;
}

/// An implementation could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct PlatformError {
    /// What was tried on what.
    pub attempt: String,
    /// Its class.
    pub kind: Kind,
    /// Ways out.
    pub hints: Vec<String>,
    /// The cause.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// What was made meanwhile and could not be taken away again.
    pub left_behind: Vec<String>,
}

impl Classified for PlatformError {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn hints(&self) -> Vec<String> {
        self.hints.clone()
    }
}
