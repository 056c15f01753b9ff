//! Powering a guest off, and ending its VMM when it will not.

use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest::v1::{SyncAndPowerOff, guest_frame, host_frame};
use banger_proto::names::VmName;
use tokio_util::sync::CancellationToken;

use super::machine::Machine;
use crate::platform::PlatformError;
use crate::reporter::Reporter;
use crate::store::{Action, IntentChange, StoreError};
use crate::vm::control::{ControlError, ControlHandle, GuestEvent};
use crate::vm::plan::Refusal;
use crate::vm::state::{LifeEvent, VmState};

/// Between two attempts to reach a guest that does not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The guest was not powered off.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user stopped waiting.
    #[error("stopping the VM {:?} was cancelled; its guest may still power off", name.as_str())]
    Cancelled {
        /// Which.
        name: VmName,
    },
    /// It did not power off, and its VMM could not be ended either.
    #[error(transparent)]
    Kill(#[from] KillError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classified for StopError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Kill(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Cancelled { name } => vec![format!("Run `banger vm show {name}` to see whether it has.")],
            Self::Kill(error) => error.hints(),
            Self::Store(error) => error.hints(),
        }
    }
}

/// The VMM was not ended.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The platform could not.
    #[error("cannot end the VMM of the VM {:?}", name.as_str())]
    Platform {
        /// Which.
        name: VmName,
        /// The cause.
        source: PlatformError,
    },
}

impl Classified for KillError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Platform { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Platform { source, .. } => source.hints(),
        }
    }
}

/// How the wait for the power-off ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerOff {
    Done,
    TimedOut,
    /// Somebody wants it gone at once.
    Preempted,
    Cancelled,
    Closing,
}

impl Machine {
    pub(super) async fn stop(
        &mut self,
        reporter: &Reporter,
        patience: Duration,
        preempt: &CancellationToken,
    ) -> Result<(), StopError> {
        let name = self.record.name.clone();
        if self.record.runtime.is_none() {
            reporter.warning(format!("{name} was not running"));
            return Ok(());
        }
        reporter.stage("stop", format!("asking {name} to power off"));
        let before = self.record.state;
        self.record.state = self.record.state.after(LifeEvent::StopAsked);
        let operation_id = reporter.operation_id().to_owned();
        if let Err(error) = self.save(IntentChange::Begin { action: Action::Stop, operation_id }).await {
            self.record.state = before;
            return Err(error.into());
        }
        match self.power_off(reporter, patience, preempt).await {
            PowerOff::Done => self.save_or_log(IntentChange::Finish).await,
            PowerOff::TimedOut => {
                reporter.warning(format!(
                    "{name} did not power off within {} s and was killed: unsynced writes may be lost",
                    patience.as_secs()
                ));
                self.kill_or_restore(reporter, before).await?;
            }
            PowerOff::Preempted => {
                reporter.warning(format!("{name} was killed before it had powered off"));
                self.kill_or_restore(reporter, before).await?;
            }
            PowerOff::Cancelled => {
                self.record.state = before;
                self.save_or_log(IntentChange::Finish).await;
                return Err(StopError::Cancelled { name });
            }
            // The intent stays: the next daemon asks again.
            PowerOff::Closing => return Err(Refusal::Closing.into()),
        }
        Ok(())
    }

    async fn power_off(&mut self, reporter: &Reporter, patience: Duration, preempt: &CancellationToken) -> PowerOff {
        let closing = self.host.closing.clone();
        let handle = self.control.as_ref().map(crate::vm::control::Control::handle);
        let mut asking = std::pin::pin!(ask_until_heard(handle, self.host.patience.answer, reporter.clone()));
        let mut deadline = std::pin::pin!(tokio::time::sleep(patience));
        loop {
            tokio::select! {
                biased;
                event = self.next_event() => {
                    let ended = event == GuestEvent::Exited;
                    self.note(event).await;
                    if ended {
                        return PowerOff::Done;
                    }
                }
                () = &mut asking => {}
                () = &mut deadline => return PowerOff::TimedOut,
                () = preempt.cancelled() => return PowerOff::Preempted,
                () = closing.cancelled() => return PowerOff::Closing,
                () = reporter.cancellation().cancelled() => return PowerOff::Cancelled,
            }
        }
    }

    async fn kill_or_restore(&mut self, reporter: &Reporter, before: VmState) -> Result<(), KillError> {
        let killed = self.kill(reporter).await;
        if killed.is_err() {
            self.record.state = before;
            self.save_or_log(IntentChange::Keep).await;
        }
        killed
    }

    pub(super) async fn kill(&mut self, reporter: &Reporter) -> Result<(), KillError> {
        let name = self.record.name.clone();
        let Some(runtime) = self.record.runtime.clone() else {
            reporter.warning(format!("{name} was not running"));
            return Ok(());
        };
        reporter.stage("kill", format!("ending the VMM of {name}"));
        let platform = Arc::clone(&self.host.platform);
        if let Err(source) = platform.kill(&self.plan, Some(&runtime.process)).await {
            let error = KillError::Platform { name, source };
            self.record.last_error = banger_proto::failure::Failure::from_error(&error).to_string();
            self.save_or_log(IntentChange::Finish).await;
            return Err(error);
        }
        self.note_exit(LifeEvent::Killed);
        self.record.unclean = true;
        self.save_or_log(IntentChange::Finish).await;
        Ok(())
    }
}

/// Asks the guest to power off until it has understood; then waits forever.
async fn ask_until_heard(handle: Option<ControlHandle>, patience: Duration, reporter: Reporter) {
    let Some(handle) = handle else { return std::future::pending().await };
    let mut told = false;
    loop {
        match handle.request(host_frame::Request::SyncAndPowerOff(SyncAndPowerOff {}), patience).await {
            Ok(guest_frame::Body::PoweringOff(answer)) => {
                if !answer.synced {
                    reporter.warning("the guest could not sync all of its file systems before powering off");
                }
                reporter.stage("power-off", "the guest is powering off");
                return std::future::pending().await;
            }
            Ok(_) => tracing::warn!("the guest answered a power-off request with something else"),
            Err(ControlError::Ended) => return std::future::pending().await,
            Err(error) if !told => {
                told = true;
                reporter.warning(format!("the guest has not taken the request to power off yet: {error}"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
