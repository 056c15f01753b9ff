//! Finds the VMM of a VM by the helper's ledger, and ends it.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::names::VmId;
use banger_proto::root::v1::{Holdings, Signal, SignalVm, request::Operation};

use super::{FirecrackerPlatform, address_of, launch};
use crate::platform::{Observed, PlatformError, ProcessIdentity, VmPlan, error, process};

/// A VMM that was found running listens, unless it was found in the middle of its start.
const LISTEN_PATIENCE: Duration = Duration::from_secs(3);
/// How long SIGKILL may take; longer only if the process hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl FirecrackerPlatform {
    /// Runs at start, before anything else is done to the VM.
    pub(super) async fn observe(&self, plan: &VmPlan) -> Result<Observed, PlatformError> {
        const WHO: &str = "inspect";
        let Some(process) = self.process_of(&plan.id, &self.root.inventory(WHO).await?) else {
            return Ok(Observed::Gone);
        };
        let alive = || process::is_alive(&process, &self.host_boot_id);
        let started = match launch::connect(&self.files(plan).api_socket, LISTEN_PATIENCE, alive).await {
            Ok(mut api) => api.is_started().await,
            // Where nobody listens, nobody ever told it to start.
            Err(error) if error.nobody_listens() => Ok(false),
            Err(error) => Err(error),
        };
        match started {
            Ok(true) => Ok(Observed::Running(launch::running(plan, address_of(plan)?, process))),
            _ if !alive() => Ok(Observed::Gone),
            Ok(false) => {
                tracing::info!(vm = %plan.name, pid = process.pid, "ending a VMM whose guest was never started");
                self.end_vmm(WHO, &plan.id).await?;
                Ok(Observed::Gone)
            }
            Err(source) => Err(error::classified(format!("cannot ask the VMM of {} how far it is", plan.name), source)
                .hint(format!("End it with `banger vm kill {}`.", plan.name))),
        }
    }

    /// The VMM of a VM, if it lives.
    pub(super) fn process_of(&self, id: &VmId, holdings: &Holdings) -> Option<ProcessIdentity> {
        let held = holdings.vms.iter().find(|held| held.vm_id == id.as_str() && held.pid != 0)?;
        let process = ProcessIdentity {
            pid: held.pid,
            start_time_ticks: held.start_time_ticks,
            host_boot_id: self.host_boot_id.clone(),
        };
        process::is_alive(&process, &self.host_boot_id).then_some(process)
    }

    /// Ends the VMM now; fine if there is none.
    pub(super) async fn end_vmm(&self, operation_id: &str, id: &VmId) -> Result<(), PlatformError> {
        let Some(process) = self.process_of(id, &self.root.inventory(operation_id).await?) else { return Ok(()) };
        let signal = SignalVm { vm_id: id.to_string(), signal: Signal::Kill.into() };
        match self.root.perform(operation_id, Operation::SignalVm(signal)).await {
            Err(error) if error.kind != Kind::NotFound => return Err(error),
            _ => {}
        }
        let gone = process::wait_gone(&process, &self.host_boot_id);
        tokio::time::timeout(KILL_PATIENCE, gone).await.map_err(|_| {
            let (pid, seconds) = (process.pid, KILL_PATIENCE.as_secs());
            error::plain(Kind::Failed, format!("the VMM, pid {pid}, did not end within {seconds} s of SIGKILL"))
                .hint(format!("See what it waits for with `sudo cat /proc/{pid}/stack`."))
        })
    }
}
