//! `bangerd-root run-vm ID`: the program of a VM's unit. Makes the jail, then becomes the jailer.
//!
//! ```text
//! run-vm (root, capabilities of the unit) ──exec──▶ jailer (root) ──setuid, exec──▶ firecracker (the owner, jailed)
//! ```
//! Takes nothing but the id; everything else is in the ledger, which only root can write. The unit's mount namespace is
//! its own, so what is mounted here is seen by nobody else and goes with it.

pub mod failure;
mod jail;
mod program;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{HELPER_STATE_DIRECTORY, Install, PROGRAM_DIRECTORY, STATE_DIRECTORY};
use banger_proto::names::VmId;

use self::jail::Orders;
use crate::error::{Step, StepError, step};
use crate::host::files::OwnerDirectory;
use crate::ledger::records::Records;

/// The VM's machine monitor cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot run the machine monitor of the VM {vm}")]
pub struct RunVmError {
    /// Which VM.
    pub vm: VmId,
    /// Which step and why.
    pub source: StepError,
}

impl Classified for RunVmError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Becomes the jailer.
///
/// # Errors
/// [`RunVmError`] if it cannot; it does not return otherwise.
pub fn run(vm: &VmId) -> Result<Infallible, RunVmError> {
    become_jailer(vm).map_err(|source| {
        failure::write(vm, &source);
        RunVmError { vm: vm.clone(), source }
    })
}

fn become_jailer(vm: &VmId) -> Step<Infallible> {
    let install = Install::load().map_err(step("read the install metadata"))?;
    let install = install.ok_or_else(|| StepError::refused("run", "banger is not installed on this host"))?;
    let records = Records::at(Path::new(HELPER_STATE_DIRECTORY).join("ledger"));
    let holdings = records.load_vm(vm).map_err(step("read the ledger"))?.unwrap_or_default();
    let machine = holdings.machine.ok_or_else(|| StepError::refused("run", "the ledger lists no launch of it"))?;
    let owner = &install.owner;
    let files = OwnerDirectory::open(Path::new(STATE_DIRECTORY), owner.uid)?;
    let console = jail::open_console(&files, vm, owner)?;
    let orders = jail::make(&files, vm, &machine, owner)?;
    let programs = program::Programs::open(Path::new(PROGRAM_DIRECTORY))?;
    let output = console.try_clone().map_err(step("open the console log"))?;
    // By descriptor: what was checked is what runs. The directory is root's, so the name it hands on is as good.
    let error = Command::new(programs.jailer_path())
        .arg0("jailer")
        .args(arguments(vm, (owner.uid, owner.gid), orders))
        .env_clear()
        .stdout(output)
        .stderr(console)
        .exec();
    Err(StepError::new("execute the jailer", error))
}

/// The jailer's arguments, and behind `--` the machine monitor's. No cgroup: the unit has one. No daemon, no process
/// namespace: the unit's main process is to be the machine monitor.
fn arguments(vm: &VmId, (uid, gid): (u32, u32), orders: Orders) -> Vec<OsString> {
    let base = format!("{HELPER_STATE_DIRECTORY}/jail");
    let firecracker = format!("{PROGRAM_DIRECTORY}/firecracker");
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let jailed =
        ["--id", vm.as_str(), "--exec-file", &firecracker, "--uid", &uid, "--gid", &gid, "--chroot-base-dir", &base];
    let told: &[&str] = match orders {
        // Without an API the guest's memory lies where the host can map it in huge pages (docs/decisions/0009).
        Orders::File => &["--", "--no-api", "--config-file", jail::CONFIG],
        Orders::Socket => &[],
    };
    jailed.iter().chain(told).map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jailer_drops_to_the_owner_in_the_vms_own_jail() {
        let vm: VmId = "1".repeat(32).parse().expect("an id");
        let text = |orders| -> Vec<String> {
            let arguments = arguments(&vm, (1000, 1001), orders);
            arguments.into_iter().map(|argument| argument.into_string().expect("text")).collect()
        };
        let id = "1".repeat(32);
        let expected = [
            "--id",
            id.as_str(),
            "--exec-file",
            "/usr/local/lib/banger/firecracker",
            "--uid",
            "1000",
            "--gid",
            "1001",
            "--chroot-base-dir",
            "/var/lib/banger-root/jail",
        ];
        assert_eq!(text(Orders::Socket), expected);
        let told = text(Orders::File);
        assert_eq!(told[..expected.len()], expected);
        assert_eq!(told[expected.len()..], ["--", "--no-api", "--config-file", "/config.json"]);
    }
}
