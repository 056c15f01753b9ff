//! What can be asked of a driver, and the handle that asks.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::launch::{LaunchError, ProvisionError};
use super::machine::Machine;
use super::remove::RemoveError;
use super::settings::{Change, SetError};
use super::stop::{KillError, StopError};
use super::{Snapshot, Snapshots};
use crate::reporter::Reporter;
use crate::store::StoreError;
use crate::vm::plan::{Refusal, Verb};
use crate::vm::record::{OwnerMaterial, Workspace};

type Reply<E> = oneshot::Sender<Result<(), E>>;

/// Whether a creation ends with its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterProvision {
    /// It does.
    Finished,
    /// Its VMM is started next.
    Launch,
}

/// What went wrong with a guest while somebody waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It never became reachable.
    Unanswered,
    /// It is reachable, but something it should do did not happen.
    Incomplete,
}

pub(super) enum Command {
    Provision { reporter: Reporter, after: AfterProvision, reply: Reply<ProvisionError> },
    Launch { reporter: Reporter, owner: Option<OwnerMaterial>, reply: Reply<LaunchError> },
    Stop { reporter: Reporter, patience: Duration, reply: Reply<StopError> },
    Kill { reporter: Reporter, reply: Reply<KillError> },
    Remove { reporter: Reporter, reply: Reply<RemoveError> },
    Set { change: Change, reply: Reply<SetError> },
    NoteTrouble { trouble: Trouble, text: String },
    RecordWorkspace { workspace: Workspace, reply: Reply<StoreError> },
}

impl Command {
    pub fn verb(&self) -> Verb {
        match self {
            Self::Provision { .. } => Verb::Provision,
            Self::Launch { .. } => Verb::Launch,
            Self::Stop { .. } => Verb::Stop,
            Self::Kill { .. } => Verb::Kill,
            Self::Remove { .. } => Verb::Remove,
            Self::Set { .. } | Self::NoteTrouble { .. } | Self::RecordWorkspace { .. } => Verb::Note,
        }
    }

    /// The token of the operation it belongs to.
    pub fn cancellation(&self) -> Option<CancellationToken> {
        match self {
            Self::Provision { reporter, .. }
            | Self::Launch { reporter, .. }
            | Self::Stop { reporter, .. }
            | Self::Kill { reporter, .. }
            | Self::Remove { reporter, .. } => Some(reporter.cancellation().clone()),
            Self::Set { .. } | Self::NoteTrouble { .. } | Self::RecordWorkspace { .. } => None,
        }
    }

    /// Does it and answers. Whoever asked may have gone away; the work is done all the same.
    pub async fn run(self, machine: &mut Machine, preempt: &CancellationToken) {
        match self {
            Self::Provision { reporter, after, reply } => {
                let _ = reply.send(machine.provision(&reporter, after).await);
            }
            Self::Launch { reporter, owner, reply } => {
                let _ = reply.send(machine.launch(&reporter, owner).await);
            }
            Self::Stop { reporter, patience, reply } => {
                let _ = reply.send(machine.stop(&reporter, patience, preempt).await);
            }
            Self::Kill { reporter, reply } => {
                let _ = reply.send(machine.kill(&reporter).await);
            }
            Self::Remove { reporter, reply } => {
                let _ = reply.send(machine.remove(&reporter).await);
            }
            Self::Set { change, reply } => {
                let _ = reply.send(machine.set(change).await);
            }
            Self::NoteTrouble { trouble, text } => machine.note_trouble(trouble, text).await,
            Self::RecordWorkspace { workspace, reply } => {
                let _ = reply.send(machine.record_workspace(workspace).await);
            }
        }
    }
}

/// Sends commands to one VM's driver and sees its snapshots.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    commands: mpsc::Sender<Command>,
    snapshots: Snapshots,
    closing: CancellationToken,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.verb())
    }
}

impl DriverHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>, snapshots: Snapshots, closing: CancellationToken) -> Self {
        Self { commands, snapshots, closing }
    }

    /// The VM as it is now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshots.borrow().clone()
    }

    /// To watch it change.
    pub fn watch(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// Makes its disks.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub async fn provision(&self, reporter: &Reporter, after: AfterProvision) -> Result<(), ProvisionError> {
        let reporter = reporter.clone();
        self.ask(|reply| Command::Provision { reporter, after, reply }).await
    }

    /// Starts its VMM.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn launch(&self, reporter: &Reporter, owner: Option<OwnerMaterial>) -> Result<(), LaunchError> {
        let reporter = reporter.clone();
        self.ask(|reply| Command::Launch { reporter, owner, reply }).await
    }

    /// Powers its guest off.
    ///
    /// # Errors
    /// [`StopError`].
    pub async fn stop(&self, reporter: &Reporter, patience: Duration) -> Result<(), StopError> {
        let reporter = reporter.clone();
        self.ask(|reply| Command::Stop { reporter, patience, reply }).await
    }

    /// Ends its VMM.
    ///
    /// # Errors
    /// [`KillError`].
    pub async fn kill(&self, reporter: &Reporter) -> Result<(), KillError> {
        let reporter = reporter.clone();
        self.ask(|reply| Command::Kill { reporter, reply }).await
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub async fn remove(&self, reporter: &Reporter) -> Result<(), RemoveError> {
        let reporter = reporter.clone();
        self.ask(|reply| Command::Remove { reporter, reply }).await
    }

    /// Changes its settings.
    ///
    /// # Errors
    /// [`SetError`].
    pub async fn set(&self, change: Change) -> Result<(), SetError> {
        self.ask(|reply| Command::Set { change, reply }).await
    }

    /// Remembers what the CLI put into the guest.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn record_workspace(&self, workspace: Workspace) -> Result<(), WorkspaceError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::RecordWorkspace { workspace, reply }).await;
        match (sent, answer.await) {
            (Ok(()), Ok(outcome)) => outcome.map_err(WorkspaceError::Store),
            (Err(_), _) | (_, Err(_)) => Err(WorkspaceError::Refused(self.absence())),
        }
    }

    /// Writes down what went wrong while waiting for its guest.
    pub async fn note_trouble(&self, trouble: Trouble, text: String) {
        // A VM that is gone needs no note.
        let _ = self.commands.send(Command::NoteTrouble { trouble, text }).await;
    }

    async fn ask<E: From<Refusal>>(&self, command: impl FnOnce(Reply<E>) -> Command) -> Result<(), E> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(self.absence().into());
        }
        answer.await.unwrap_or_else(|_| Err(self.absence().into()))
    }

    /// Why the driver does not answer.
    fn absence(&self) -> Refusal {
        if self.closing.is_cancelled() && !self.snapshots.borrow().removed {
            return Refusal::Closing;
        }
        Refusal::Removed { name: self.snapshots.borrow().record.name.clone() }
    }
}

/// The workspace of a VM could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The VM is not there.
    #[error(transparent)]
    Refused(Refusal),
    /// It could not be written down.
    #[error(transparent)]
    Store(StoreError),
}

impl banger_proto::failure::Classified for WorkspaceError {
    fn kind(&self) -> banger_proto::failure::Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Store(error) => error.hints(),
        }
    }
}
