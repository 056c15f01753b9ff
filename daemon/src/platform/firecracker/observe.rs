//! Finds the VMM of a VM by the helper's ledger, and ends it.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::names::VmId;
use banger_proto::root::v1::{Holdings, Signal, SignalVm, VmHoldings, request::Operation};

use super::{FirecrackerPlatform, address_of, handles, launch};
use crate::platform::{Observed, PlatformError, ProcessIdentity, VmPlan, error, initrd};

/// Between two attempts to learn whether a VMM runs.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long SIGKILL may take; longer only if the process hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl FirecrackerPlatform {
    /// Runs at start, before anything else is done to the VM.
    pub(super) async fn observe(&self, plan: &VmPlan) -> Result<Observed, PlatformError> {
        const WHO: &str = "inspect";
        let Some(process) = self.process_of(WHO, &plan.id).await? else { return Ok(Observed::Gone) };
        // The helper lists it once its guest was started. If nobody was left to finish that start: the initrd has been read, and
        // holds the guest's private key.
        initrd::remove(&self.files(plan).initrd)?;
        Ok(Observed::Running(launch::running(plan, address_of(plan)?, process)))
    }

    /// The VMM of a VM, if it lives, with a handle kept on it.
    pub(super) async fn process_of(
        &self,
        operation_id: &str,
        id: &VmId,
    ) -> Result<Option<ProcessIdentity>, PlatformError> {
        let holdings = self.root.inventory(operation_id).await?;
        match self.listed(&holdings, id) {
            Some(process) if self.hold(operation_id, &process).await? => Ok(Some(process)),
            Some(_) | None => Ok(None),
        }
    }

    /// What the helper says, which has looked at the process itself.
    pub(super) fn listed(&self, holdings: &Holdings, id: &VmId) -> Option<ProcessIdentity> {
        let held = holdings.vms.iter().find(|held| held.vm_id == id.as_str() && held.pid != 0)?;
        Some(self.identity(held))
    }

    /// Gets a handle on exactly this process; false if it is gone.
    async fn hold(&self, operation_id: &str, process: &ProcessIdentity) -> Result<bool, PlatformError> {
        if self.handles.knows(process) {
            return Ok(true);
        }
        let opened = handles::open(process.pid).map_err(|source| {
            error::plain(Kind::Failed, format!("cannot open a pidfd of the VMM, pid {}", process.pid)).because(source)
        })?;
        let Some(pidfd) = opened else { return Ok(false) };
        // Only now that the pidfd holds on to a process does the helper's word for its number mean that process.
        let holdings = self.root.inventory(operation_id).await?;
        let lives = holdings.vms.iter().any(|held| self.identity(held) == *process);
        if lives {
            self.handles.keep(process, pidfd);
        }
        Ok(lives)
    }

    fn identity(&self, held: &VmHoldings) -> ProcessIdentity {
        ProcessIdentity {
            pid: held.pid,
            start_time_ticks: held.start_time_ticks,
            host_boot_id: self.host_boot_id.clone(),
        }
    }

    /// Resolves when the process has ended. As long as the helper cannot be asked about one we have no handle on, it
    /// is taken to live: nothing is worse than to forget a VM that runs.
    pub(super) async fn until_gone(&self, process: &ProcessIdentity) {
        if process.host_boot_id != self.host_boot_id {
            return;
        }
        loop {
            match self.hold("wait", process).await {
                Ok(true) => return self.handles.wait_gone(process).await,
                Ok(false) => return,
                Err(error) => tracing::debug!(pid = process.pid, "cannot tell whether a VMM runs: {error}"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Ends the VMM now; fine if there is none.
    pub(super) async fn end_vmm(&self, operation_id: &str, id: &VmId) -> Result<(), PlatformError> {
        match self.process_of(operation_id, id).await? {
            Some(process) => self.kill_vmm(operation_id, id, &process).await,
            None => Ok(()),
        }
    }

    /// The same for one that we hold on to, so that nobody needs to be asked who it is.
    pub(super) async fn kill_vmm(
        &self,
        operation_id: &str,
        id: &VmId,
        process: &ProcessIdentity,
    ) -> Result<(), PlatformError> {
        let signal = SignalVm { vm_id: id.to_string(), signal: Signal::Kill.into() };
        match self.root.perform(operation_id, Operation::SignalVm(signal)).await {
            Err(error) if error.kind != Kind::NotFound => return Err(error),
            _ => {}
        }
        let gone = self.handles.wait_gone(process);
        tokio::time::timeout(KILL_PATIENCE, gone).await.map_err(|_| {
            let (pid, seconds) = (process.pid, KILL_PATIENCE.as_secs());
            error::plain(Kind::Failed, format!("the VMM, pid {pid}, did not end within {seconds} s of SIGKILL"))
                .hint(format!("See what it waits for with `sudo cat /proc/{pid}/stack`."))
        })
    }
}
