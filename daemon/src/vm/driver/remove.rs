//! Taking a VM away: process, files, row, in that order, so that an interrupted removal can be finished.

use std::sync::Arc;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::names::VmName;

use super::machine::Machine;
use crate::platform::PlatformError;
use crate::reporter::Reporter;
use crate::store::{Action, IntentChange, StoreError};
use crate::vm::plan::Refusal;

/// The VM was not removed, or not without traces.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its VMM lives on; nothing was removed.
    #[error("cannot delete the VM {:?}: its VMM could not be ended", name.as_str())]
    Kill {
        /// Which.
        name: VmName,
        /// The cause.
        source: PlatformError,
    },
    /// It is gone, but some of its files are not.
    #[error("the VM {:?} is deleted, but some of its files could not be removed", name.as_str())]
    LeftBehind {
        /// Which.
        name: VmName,
        /// Why each was left.
        left_behind: Vec<String>,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RemoveError {
    /// What is still there.
    pub fn left_behind(&self) -> &[String] {
        match self {
            Self::LeftBehind { left_behind, .. } => left_behind,
            Self::Refused(_) | Self::Kill { .. } | Self::Store(_) => &[],
        }
    }
}

impl Classified for RemoveError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Kill { source, .. } => source.kind(),
            Self::LeftBehind { .. } => Kind::Failed,
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Kill { source, .. } => source.hints(),
            Self::LeftBehind { .. } => {
                vec![
                    "They are removed when the daemon starts next; run `banger system doctor` to see what is wrong."
                        .into(),
                ]
            }
            Self::Store(error) => error.hints(),
        }
    }
}

impl Machine {
    pub(super) async fn remove(&mut self, reporter: &Reporter) -> Result<(), RemoveError> {
        let name = self.record.name.clone();
        reporter.stage("delete", format!("removing {name}"));
        let operation_id = reporter.operation_id().to_owned();
        self.save(IntentChange::Begin { action: Action::Remove, operation_id }).await?;

        // Also without a known VMM: an interrupted start may have left one nobody wrote down.
        let process = self.record.runtime.as_ref().map(|runtime| runtime.process.clone());
        let platform = Arc::clone(&self.host.platform);
        if let Err(source) = platform.kill(&self.plan, process.as_ref()).await {
            let error = RemoveError::Kill { name, source };
            self.record.last_error = Failure::from_error(&error).to_string();
            self.save_or_log(IntentChange::Keep).await;
            return Err(error);
        }
        self.note_exit(crate::vm::state::LifeEvent::Killed);

        let left_behind: Vec<String> =
            platform.teardown(&self.plan).await.iter().map(|error| Failure::from_error(error).to_string()).collect();
        self.host.store.remove_vm(self.record.id.clone()).await?;
        self.publish_removed();
        if left_behind.is_empty() { Ok(()) } else { Err(RemoveError::LeftBehind { name, left_behind }) }
    }
}
