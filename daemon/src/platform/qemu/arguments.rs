//! QEMU's arguments: a pure function of the plan. Everything a VMM may reach is in this list.
//!
//! The reasons for the machine options and their measurements are in docs/decisions/0003-qemu-flags.md.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest_contract::{
    AGENT_SSH_PORT, CONTROL_PORT_NAME, IMAGE_SSH_PORT, MODULES_DISK_SERIAL, ROOT_DISK_SERIAL, WORK_DISK_SERIAL,
};
use banger_proto::names::VmId;
use serde_json::json;

use super::accel::Accel;
use super::kernel_command_line;
use super::tools::{SANDBOX, Sandbox};
use crate::platform::VmPlan;

/// Address of the guest in QEMU's user network; the same in every VM, as each has a network of its own.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// See [`GUEST_ADDRESS`].
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// QEMU's resolver; answers only with nat.
pub const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Prefix length of the user network.
pub const PREFIX_LENGTH: u32 = 24;

/// Longest path of a unix socket: `sun_path` less its NUL, see unix(7).
const SOCKET_PATH_LIMIT: usize = 107;

/// No hardware a guest of ours would look for: each device costs the firmware or the kernel a probe.
const MACHINE: &str = "q35,usb=off,vmport=off,hpet=off,sata=off,smbus=off,dump-guest-core=off";

/// The files of one VM, named from its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// qcow2 overlay over the image.
    pub root_disk: PathBuf,
    /// Raw ext4.
    pub work_disk: PathBuf,
    /// Exists only while QEMU starts: it holds the guest's private key.
    pub initrd: PathBuf,
    /// What the guest wrote to its serial port since the VMM started.
    pub console: PathBuf,
    /// The same of the start before.
    pub previous_console: PathBuf,
    /// What QEMU itself wrote.
    pub log: PathBuf,
    /// Control channel.
    pub control_socket: PathBuf,
    /// Monitor.
    pub monitor_socket: PathBuf,
}

impl Files {
    /// Names only, touches nothing.
    pub fn of(plan: &VmPlan) -> Self {
        let durable = |name: &str| plan.directory.join(name);
        Self {
            root_disk: durable("root.qcow2"),
            work_disk: durable("work.ext4"),
            initrd: durable("initrd.cpio"),
            console: durable("console.log"),
            previous_console: durable("console.log.1"),
            log: durable("qemu.log"),
            control_socket: plan.runtime_directory.join("control.sock"),
            monitor_socket: monitor_socket(&plan.runtime_directory),
        }
    }
}

/// A plan that cannot be put into arguments.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgumentsError {
    /// A unix socket there could not be bound.
    #[error("the socket path {} has {length} bytes, the limit is {SOCKET_PATH_LIMIT}", path.display())]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// QEMU's options are text.
    #[error("the path {path:?} is not valid UTF-8")]
    NotText {
        /// The path.
        path: PathBuf,
    },
}

impl Classified for ArgumentsError {
    fn kind(&self) -> Kind {
        match self {
            Self::SocketPathTooLong { .. } | Self::NotText { .. } => Kind::HostNotReady,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::SocketPathTooLong { .. } => {
                vec!["Choose a shorter runtime directory with `export XDG_RUNTIME_DIR=/run/user/$(id -u)`.".into()]
            }
            Self::NotText { .. } => {
                vec!["Choose directories with plain names through `XDG_STATE_HOME` and `XDG_RUNTIME_DIR`.".into()]
            }
        }
    }
}

/// QEMU's arguments for this VM, without the program itself.
///
/// # Errors
/// [`ArgumentsError`].
pub fn render(plan: &VmPlan, accel: Accel, sandbox: Sandbox) -> Result<Vec<String>, ArgumentsError> {
    let files = Files::of(plan);
    let mut list = Arguments(Vec::new());
    for (option, value) in marks(&plan.id, &plan.runtime_directory)? {
        list.add(option, value);
    }
    match accel {
        Accel::Kvm => list.add("-accel", "kvm").add("-cpu", "host"),
        Accel::Tcg => list.add("-accel", "tcg,thread=multi").add("-cpu", "max"),
    };
    list.add("-machine", MACHINE)
        .add("-smp", plan.vcpu_count.to_string())
        .add("-m", plan.memory_mib.to_string())
        .flag("-nodefaults")
        .flag("-no-user-config")
        .add("-display", "none")
        .add("-boot", "menu=off,strict=on");
    if sandbox == Sandbox::Available {
        list.add("-sandbox", SANDBOX);
    }
    list.add("-kernel", text(&plan.vmlinux)?)
        .add("-initrd", text(&files.initrd)?)
        .add("-append", kernel_command_line::render(accel, &plan.kernel_arguments))
        .add("-chardev", format!("file,id=console,path={},append=off", option_text(&files.console)?))
        .add("-serial", "chardev:console")
        .add("-mon", "chardev=monitor,mode=control")
        .add("-chardev", socket_chardev("control", &files.control_socket)?)
        .add("-device", "virtio-serial-pci,max_ports=2")
        .add("-device", format!("virtserialport,nr=1,chardev=control,name={CONTROL_PORT_NAME}"))
        .add("-device", "virtio-rng-pci");
    list.disk(ROOT_DISK_SERIAL, root_node(text(&files.root_disk)?, text(&plan.rootfs)?));
    list.disk(WORK_DISK_SERIAL, raw_node(WORK_DISK_SERIAL, text(&files.work_disk)?, Access::Write));
    list.disk(MODULES_DISK_SERIAL, raw_node(MODULES_DISK_SERIAL, text(&plan.modules_ext4)?, Access::Read));
    list.add("-netdev", network(plan))
        .add("-device", format!("virtio-net-pci,netdev=net,mac={},romfile=", mac_address(&plan.id)));
    Ok(list.0)
}

/// The arguments by which a VMM of ours is recognised among all processes of the user. The monitor's path
/// is one of them, so that daemons with different roots never take each other's VMs.
pub fn marks(id: &VmId, runtime_directory: &Path) -> Result<[(&'static str, String); 3], ArgumentsError> {
    Ok([
        ("-name", format!("guest=banger-{}", id.short())),
        ("-uuid", hyphenated(id)),
        ("-chardev", socket_chardev("monitor", &monitor_socket(runtime_directory))?),
    ])
}

/// Where the monitor of a VM listens.
pub fn monitor_socket(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join("qmp.sock")
}

/// The id in a VMM's arguments, if there is one.
pub fn id_in(arguments: &[String]) -> Option<VmId> {
    let at = arguments.iter().position(|argument| argument == "-uuid")?;
    let id: VmId = arguments.get(at + 1)?.replace('-', "").parse().ok()?;
    (hyphenated(&id) == arguments[at + 1]).then_some(id)
}

/// Whether `arguments` hold every pair of `marks`.
pub fn carry(arguments: &[String], marks: &[(&'static str, String)]) -> bool {
    marks.iter().all(|(option, value)| arguments.windows(2).any(|pair| pair[0] == *option && pair[1] == *value))
}

/// 8-4-4-4-12.
fn hyphenated(id: &VmId) -> String {
    let id = id.as_str();
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}

/// QEMU's own prefix, and the start of the id.
fn mac_address(id: &VmId) -> String {
    let id = id.as_str();
    format!("52:54:00:{}:{}:{}", &id[..2], &id[2..4], &id[4..6])
}

/// Host port 0: the kernel chooses, so two VMs that start at once never want the same one.
fn network(plan: &VmPlan) -> String {
    let restrict = if plan.nat { "off" } else { "on" };
    let mut forwards = vec![(0, AGENT_SSH_PORT)];
    if plan.image_has_sshd {
        forwards.push((0, IMAGE_SSH_PORT));
    }
    forwards.extend(&plan.published_ports);
    let forwards: String =
        forwards.iter().map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")).collect();
    format!("user,id=net,ipv6=off,restrict={restrict}{forwards}")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Image locks stay on their default: any number of VMs may read one base, a disk has one writer.
/// Cache mode stays on its default too (writeback): a guest's flush reaches the host's disk.
fn raw_node(name: &str, path: &str, access: Access) -> serde_json::Value {
    let read_only = access == Access::Read;
    json!({
        "driver": "raw", "node-name": name, "read-only": read_only, "discard": "unmap",
        "file": { "driver": "file", "filename": path, "read-only": read_only, "discard": "unmap" },
    })
}

/// The base is named here and not taken from the overlay's header, so the image store may move.
fn root_node(overlay: &str, base: &str) -> serde_json::Value {
    json!({
        "driver": "qcow2", "node-name": ROOT_DISK_SERIAL, "discard": "unmap",
        "file": { "driver": "file", "filename": overlay, "discard": "unmap" },
        "backing": raw_node("base", base, Access::Read),
    })
}

fn socket_chardev(id: &str, path: &Path) -> Result<String, ArgumentsError> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_LIMIT {
        return Err(ArgumentsError::SocketPathTooLong { path: path.to_owned(), length });
    }
    Ok(format!("socket,id={id},path={},server=on,wait=off", option_text(path)?))
}

fn text(path: &Path) -> Result<&str, ArgumentsError> {
    path.to_str().ok_or_else(|| ArgumentsError::NotText { path: path.to_owned() })
}

/// In a list of options a comma is written twice.
fn option_text(path: &Path) -> Result<String, ArgumentsError> {
    Ok(text(path)?.replace(',', ",,"))
}

struct Arguments(Vec<String>);

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([option.to_owned(), value.into()]);
        self
    }

    fn flag(&mut self, option: &str) -> &mut Self {
        self.0.push(option.to_owned());
        self
    }

    fn disk(&mut self, serial: &str, node: serde_json::Value) {
        self.add("-blockdev", node.to_string())
            .add("-device", format!("virtio-blk-pci,drive={serial},serial={serial}"));
    }
}

#[cfg(test)]
#[path = "arguments/tests.rs"]
mod tests;
