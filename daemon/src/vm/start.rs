//! Starting, stopping, killing and deleting VMs that exist.

use std::time::Duration;

use banger_proto::failure::{Classified as _, Failure};
use banger_proto::names::VmId;

use super::Vms;
use super::create::StartOptions;
use super::driver::{DriverHandle, RemoveError};
use super::observe::console_log;
use super::plan::vm_plan;
use super::record::OwnerMaterial;
use super::spec;
use super::wait::{Goal, Wait, WaitError};
use crate::reporter::Reporter;

/// How long a guest that was called off while starting gets to power off.
const CALLED_OFF: Duration = Duration::from_secs(10);

impl Vms {
    /// Starts a VM and waits for its guest.
    ///
    /// # Errors
    /// What went wrong. A cancelled start leaves the VM stopped; one whose guest does not answer leaves it as it is.
    pub async fn start(
        &self,
        id: &VmId,
        owner: Option<OwnerMaterial>,
        options: StartOptions,
        reporter: &Reporter,
    ) -> Result<(), Failure> {
        if let Some(owner) = &owner {
            spec::check_owner(owner).map_err(|error| Failure::from_error(&error))?;
        }
        let handle = self.handle(id)?;
        handle.launch(reporter, owner).await.map_err(|error| Failure::from_error(&error))?;
        let Err(error) = self.wait_and_note(&handle, options, reporter).await else { return Ok(()) };
        let mut failure = wait_failure(&error);
        if let WaitError::Cancelled { .. } = error {
            let undo = Reporter::silent(reporter.operation_id());
            if let Err(error) = call_off(&handle, &undo).await {
                failure.left_behind.push(error.to_string());
            }
        }
        Err(failure)
    }

    /// Powers a VM off.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn stop(&self, id: &VmId, patience: Option<Duration>, reporter: &Reporter) -> Result<(), Failure> {
        let patience = patience.unwrap_or(self.host.patience.stop);
        self.handle(id)?.stop(reporter, patience).await.map_err(|error| Failure::from_error(&error))
    }

    /// Ends a VM's VMM at once.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn kill(&self, id: &VmId, reporter: &Reporter) -> Result<(), Failure> {
        self.handle(id)?.kill(reporter).await.map_err(|error| Failure::from_error(&error))
    }

    /// Removes a VM and all of its files.
    ///
    /// # Errors
    /// What went wrong, with what could not be removed.
    pub async fn delete(&self, id: &VmId, reporter: &Reporter) -> Result<(), Failure> {
        self.handle(id)?.remove(reporter).await.map_err(|error| remove_failure(&error))
    }

    /// Waits until a running guest is as far as asked, or runs no longer.
    ///
    /// # Errors
    /// If it is not there in time.
    pub async fn wait(&self, id: &VmId, options: StartOptions) -> Result<(), Failure> {
        let handle = self.handle(id)?;
        if !handle.snapshot().is_alive() {
            return Ok(());
        }
        let reporter = Reporter::silent("wait");
        match self.wait_for(&handle, options, &reporter).await {
            Ok(()) | Err(WaitError::Overtaken { .. } | WaitError::Died { .. }) => Ok(()),
            Err(error) => Err(wait_failure(&error)),
        }
    }

    /// Waits, and writes down on the VM what did not come.
    pub(super) async fn wait_and_note(
        &self,
        handle: &DriverHandle,
        options: StartOptions,
        reporter: &Reporter,
    ) -> Result<(), WaitError> {
        let waited = self.wait_for(handle, options, reporter).await;
        if let Err(error) = &waited
            && let Some(trouble) = error.trouble()
        {
            handle.note_trouble(trouble, error.to_string()).await;
        }
        waited
    }

    async fn wait_for(
        &self,
        handle: &DriverHandle,
        options: StartOptions,
        reporter: &Reporter,
    ) -> Result<(), WaitError> {
        let plan = vm_plan(&handle.snapshot().record, &self.host.paths);
        let wait = Wait {
            goal: options.goal,
            patience: options.patience.unwrap_or(self.host.patience.stage),
            reporter,
            closing: &self.host.closing,
            console: console_log(&plan),
        };
        wait.until_there(handle.watch()).await
    }

    /// How a start without wishes waits.
    pub fn default_start() -> StartOptions {
        StartOptions { goal: Goal::Reachable, patience: None }
    }
}

/// A guest that already runs commands may have written something: it gets to power off.
async fn call_off(handle: &DriverHandle, reporter: &Reporter) -> Result<(), Failure> {
    if handle.snapshot().guest.reachable {
        handle.stop(reporter, CALLED_OFF).await.map_err(|error| Failure::from_error(&error))
    } else {
        handle.kill(reporter).await.map_err(|error| Failure::from_error(&error))
    }
}

/// A wait's error with its causes.
pub(super) fn wait_failure(error: &WaitError) -> Failure {
    let failure = error.causes().into_iter().fold(Failure::new(error.kind(), error.to_string()), Failure::caused_by);
    error.hints().into_iter().fold(failure, Failure::hint)
}

/// A removal's error with what it left.
pub(super) fn remove_failure(error: &RemoveError) -> Failure {
    let mut failure = Failure::from_error(error);
    failure.left_behind.extend_from_slice(error.left_behind());
    failure
}
