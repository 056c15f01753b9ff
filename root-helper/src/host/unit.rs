//! The transient unit a machine monitor runs in, through systemd's D-Bus interface.
//!
//! The manager applies the limits, the devices and the capabilities, so the helper needs none of them itself; and it is
//! the manager's child, so no restart of ours touches it. [`properties`] is the whole description, and pure.

use std::collections::BTreeMap;
use std::path::Path;

use banger_proto::install::{HELPER_STATE_DIRECTORY, PROGRAM_DIRECTORY, STATE_DIRECTORY};
use banger_proto::names::VmId;
use futures_util::StreamExt as _;
use zbus::message::{Message, Type};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, Variant};

use super::{Limits, bus};
use crate::error::{Step, StepError};
use crate::kernel_names::{self, SLICE};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// Of the machine monitor beside the guest's memory: its own, and the page cache of its disks.
const MEMORY_OVERHEAD_MIB: u64 = 256;
/// Threads of the machine monitor beside one for each virtual CPU, and the jailer before it.
const TASKS_OVERHEAD: u64 = 32;
const STOP_LIMIT_MICROS: u64 = 10_000_000;

/// What run-vm and the jailer need before the jailer drops them all with its user: capability numbers.
const CAPABILITIES: [(u32, &str); 8] = [
    (0, "CHOWN: the jail's nodes to the owner"),
    (1, "DAC_OVERRIDE: making the jail beneath directories of the owner's mode"),
    (2, "DAC_READ_SEARCH: the owner's files"),
    (3, "FOWNER: modes of what was given to the owner"),
    (6, "SETGID: drop to the owner"),
    (7, "SETUID: drop to the owner, and open the console log as them"),
    (21, "SYS_ADMIN: mounts, pivot_root"),
    (27, "MKNOD: kvm, tun, urandom and the root disk in the jail"),
];

/// Starts the unit and gives the number of its main process.
pub fn start(vm: &VmId, limits: Limits) -> Step<u32> {
    let name = kernel_names::unit(vm);
    let outcome = bus::talk(&format!("start the unit {name}"), async |connection| {
        let mut jobs = jobs(connection).await?;
        let properties: Vec<(&str, Variant<'_>)> = properties(vm, limits).into_iter().collect();
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let started = ask(connection, "StartTransientUnit", &(name.as_str(), "fail", properties, auxiliary)).await?;
        let result = outcome_of(&mut jobs, &started).await?;
        let pid = match only_process(&kernel_names::control_group(vm)) {
            Some(pid) => Ok(Some(pid)),
            None => main_process(connection, &name).await,
        };
        Ok((result, pid))
    })?;
    match outcome {
        (result, Ok(Some(pid))) if result == "done" => Ok(pid),
        (result, Err(error)) if result == "done" => {
            Err(StepError::new(format!("ask for the process of {name}"), error))
        }
        (result, _) => Err(StepError::new(format!("start the unit {name}"), format!("its job ended: {result}"))),
    }
}

/// Stops the unit, and so every process in it; content if there is none.
pub fn stop(name: &str) -> Step<()> {
    bus::talk(&format!("stop the unit {name}"), async |connection| {
        let mut jobs = jobs(connection).await?;
        match ask(connection, "StopUnit", &(name, "replace")).await {
            Ok(stopping) => outcome_of(&mut jobs, &stopping).await.map(|_| ()),
            Err(error) if bus::is_error(&error, NO_SUCH_UNIT) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

/// Stops the slice if no unit is in it. Its unit is an installed one; of an older installation it is what systemd made.
pub fn stop_slice_if_empty() -> Step<()> {
    let members = bus::talk(&format!("look into the slice {SLICE}"), async |connection| {
        let patterns = (Vec::<String>::new(), vec!["banger-vm-*.service".to_owned()]);
        type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        ask(connection, "ListUnitsByPatterns", &patterns).await?.body().deserialize::<Vec<Listed>>()
    })?;
    if members.is_empty() { stop(SLICE) } else { Ok(()) }
}

/// Calls a method of the manager. Not through a proxy: that would ask who the manager is and follow its properties, and
/// a launch waits for each question.
async fn ask<B: serde::Serialize + zbus::DynamicType>(
    connection: &Connection,
    method: &str,
    arguments: &B,
) -> zbus::Result<Message> {
    connection.call_method(Some(SERVICE), MANAGER, Some(MANAGER_INTERFACE), method, arguments).await
}

/// Ended jobs, from now on.
async fn jobs(connection: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SERVICE)
        .path(MANAGER)
        .interface(MANAGER_INTERFACE)
        .member("JobRemoved")
        .build()?;
    MessageStream::for_match_rule(rule, connection, None).await
}

/// The one process in the unit's control group: right after its start that is the main one, and reading it takes less than
/// two questions. `None` where systemd lays its groups out otherwise.
fn only_process(group: &Path) -> Option<u32> {
    std::fs::read_to_string(group.join("cgroup.procs")).ok()?.trim().parse().ok()
}

async fn main_process(connection: &Connection, name: &str) -> zbus::Result<Option<u32>> {
    let unit: OwnedObjectPath = ask(connection, "GetUnit", &(name,)).await?.body().deserialize()?;
    let wanted = ("org.freedesktop.systemd1.Service", "MainPID");
    let property = bus::property(connection, SERVICE, &unit, wanted).await?;
    let pid = u32::try_from(property)?;
    Ok(Some(pid).filter(|pid| *pid != 0))
}

/// How the job ended that this answer of the manager names: "done", "failed" …
async fn outcome_of(jobs: &mut MessageStream, answer: &Message) -> zbus::Result<String> {
    let job: OwnedObjectPath = answer.body().deserialize()?;
    while let Some(message) = jobs.next().await {
        let message = message?;
        // Anybody may send us a signal of that name: only who answered us is the manager.
        if message.header().sender() != answer.header().sender() {
            continue;
        }
        let (_, path, _, result): (u32, OwnedObjectPath, String, String) = message.body().deserialize()?;
        if path == job {
            return Ok(result);
        }
    }
    Err(zbus::Error::Failure("the bus ended the connection".to_owned()))
}

/// The unit, as StartTransientUnit takes it.
///
/// Directives that are system call filters stay few: each is looked at whenever a guest's processor comes out of the
/// guest, on top of the machine monitor's own filter, which lets far less through. Those left out (LockPersonality,
/// RestrictRealtime, ProtectKernelModules, ProtectKernelLogs) forbid what takes a capability or a device that the unit does
/// not have, or what that filter forbids.
fn properties(vm: &VmId, limits: Limits) -> BTreeMap<&'static str, Variant<'static>> {
    let program = format!("{PROGRAM_DIRECTORY}/bangerd-root");
    let arguments = vec![program.clone(), "run-vm".to_owned(), vm.to_string()];
    let memory = (limits.memory_mib + MEMORY_OVERHEAD_MIB) << 20;
    let (major, minor) = limits.root_device;
    let device = |path: &str, access: &str| (path.to_owned(), access.to_owned());
    let devices = vec![
        device("/dev/kvm", "rwm"),
        device("/dev/net/tun", "rwm"),
        // The jailer makes a node of it wherever the kernel offers it; nobody opens it.
        device("/dev/userfaultfd", "m"),
        device(&format!("/dev/block/{major}:{minor}"), "rwm"),
    ];
    let capabilities: u64 = CAPABILITIES.iter().map(|(number, _)| 1_u64 << number).sum();
    let writable = vec![format!("{HELPER_STATE_DIRECTORY}/jail"), format!("{STATE_DIRECTORY}/vms")];
    BTreeMap::from([
        ("Description", Variant::from(format!("banger VM {vm}"))),
        ("Slice", Variant::from(SLICE)),
        ("Type", Variant::from("exec")),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("ExecStart", Variant::from(vec![(program, arguments, false)])),
        ("MemoryMax", Variant::from(memory)),
        // A guest's memory is never written to a disk of the host.
        ("MemorySwapMax", Variant::from(0_u64)),
        ("TasksMax", Variant::from(u64::from(limits.vcpus) + TASKS_OVERHEAD)),
        // One CPU more than the guest has: for its disks and its network.
        ("CPUQuotaPerSecUSec", Variant::from((u64::from(limits.vcpus) + 1) * 1_000_000)),
        ("TimeoutStopUSec", Variant::from(STOP_LIMIT_MICROS)),
        ("UMask", Variant::from(0o077_u32)),
        ("LimitCORE", Variant::from(0_u64)),
        ("PrivateMounts", Variant::from(true)),
        ("NoNewPrivileges", Variant::from(true)),
        ("CapabilityBoundingSet", Variant::from(capabilities)),
        ("DevicePolicy", Variant::from("closed")),
        ("DeviceAllow", Variant::from(devices)),
        ("ProtectSystem", Variant::from("strict")),
        ("ReadWritePaths", Variant::from(writable)),
        ("RestrictAddressFamilies", Variant::from((true, vec!["AF_UNIX".to_owned()]))),
        ("SystemCallArchitectures", Variant::from(vec!["native".to_owned()])),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_limited_by_what_the_vm_was_given() {
        let vm: VmId = "1".repeat(32).parse().unwrap();
        let unit = properties(&vm, Limits { vcpus: 2, memory_mib: 1024, root_device: (253, 7) });
        assert_eq!(unit["MemoryMax"], Variant::from((1024 + MEMORY_OVERHEAD_MIB) << 20));
        assert_eq!(unit["TasksMax"], Variant::from(2 + TASKS_OVERHEAD));
        assert_eq!(unit["CPUQuotaPerSecUSec"], Variant::from(3_000_000_u64));
        let devices = format!("{:?}", unit["DeviceAllow"]);
        assert!(devices.contains("/dev/block/253:7") && !devices.contains("block-"), "{devices}");
    }

    #[test]
    fn the_unit_runs_our_own_program_and_nothing_from_a_request_but_the_id() {
        let vm: VmId = "1".repeat(32).parse().unwrap();
        let unit = properties(&vm, Limits { vcpus: 1, memory_mib: 1, root_device: (1, 1) });
        let program = "/usr/local/lib/banger/bangerd-root".to_owned();
        let arguments = vec![program.clone(), "run-vm".to_owned(), "1".repeat(32)];
        assert_eq!(unit["ExecStart"], Variant::from(vec![(program, arguments, false)]));
    }

    #[test]
    fn a_group_tells_its_process_only_if_it_is_the_only_one() {
        let group = tempfile::tempdir().unwrap();
        let procs = |text: &str| std::fs::write(group.path().join("cgroup.procs"), text).unwrap();
        assert_eq!(only_process(group.path()), None);
        procs("4711\n");
        assert_eq!(only_process(group.path()), Some(4711));
        procs("4711\n4712\n");
        assert_eq!(only_process(group.path()), None);
        procs("");
        assert_eq!(only_process(group.path()), None);
    }

    #[test]
    fn no_capability_is_there_that_is_not_explained() {
        let vm: VmId = "1".repeat(32).parse().unwrap();
        let unit = properties(&vm, Limits { vcpus: 1, memory_mib: 1, root_device: (1, 1) });
        // NET_ADMIN, KILL, PTRACE, MODULE are not.
        assert_eq!(unit["CapabilityBoundingSet"], Variant::from(0b1000_0010_0000_0000_0000_1100_1111_u64));
    }
}
