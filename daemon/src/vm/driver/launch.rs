//! Making a VM's disks and starting its VMM.

use std::sync::Arc;
use std::time::Instant;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::names::VmName;

use super::AfterProvision;
use super::machine::Machine;
use crate::artifact::stamp::{FileStamp, StampError};
use crate::platform::PlatformError;
use crate::reporter::Reporter;
use crate::store::{Action, IntentChange, StoreError};
use crate::vm::plan::{self, Refusal};
use crate::vm::record::{OwnerMaterial, VmRecord};
use crate::vm::seed::seed;
use crate::vm::state::LifeEvent;

/// The disks were not made.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user, or a delete, stopped it.
    #[error("making the disks of the VM {:?} was cancelled", name.as_str())]
    Cancelled {
        /// Which.
        name: VmName,
    },
    /// The platform could not.
    #[error("cannot make the disks of the VM {:?}", name.as_str())]
    Platform {
        /// Which.
        name: VmName,
        /// The cause.
        source: PlatformError,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classified for ProvisionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Platform { source, .. } => source.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Cancelled { .. } => Vec::new(),
            Self::Platform { source, .. } => source.hints(),
            Self::Store(error) => error.hints(),
        }
    }
}

/// The VMM was not started; no process of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The user, a stop or a delete interrupted it.
    #[error("starting the VM {:?} was cancelled", name.as_str())]
    Cancelled {
        /// Which.
        name: VmName,
    },
    /// Something it boots from has vanished.
    #[error("cannot start the VM {:?}: {} is gone", name.as_str(), path.display())]
    SourceGone {
        /// Which.
        name: VmName,
        /// The file.
        path: std::path::PathBuf,
    },
    /// The user's file that its disk is based on is another now: its disk would make no sense.
    #[error("cannot start the VM {:?}", name.as_str())]
    SourceChanged {
        /// Which.
        name: VmName,
        /// The cause.
        source: StampError,
    },
    /// The platform could not.
    #[error("cannot start the VM {:?}", name.as_str())]
    Platform {
        /// Which.
        name: VmName,
        /// The cause.
        source: PlatformError,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classified for LaunchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::SourceGone { .. } => Kind::Failed,
            Self::SourceChanged { source, .. } => source.kind(),
            Self::Platform { source, .. } => source.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Cancelled { .. } => Vec::new(),
            Self::SourceGone { name, .. } => {
                vec![format!(
                    "Its image or kernel was removed by hand; run `banger vm delete {name}` and create it again."
                )]
            }
            Self::SourceChanged { name, .. } => vec![format!(
                "Put the file back as it was, or run `banger vm delete {name}`: its disk holds only what differs."
            )],
            Self::Platform { source, .. } => source.hints(),
            Self::Store(error) => error.hints(),
        }
    }
}

impl Machine {
    pub(super) async fn provision(&mut self, reporter: &Reporter, after: AfterProvision) -> Result<(), ProvisionError> {
        let cancelled = |machine: &Self| ProvisionError::Cancelled { name: machine.record.name.clone() };
        if reporter.cancellation().is_cancelled() {
            return Err(cancelled(self));
        }
        reporter.stage("disks", format!("making the disks of {}", self.record.name));
        let platform = Arc::clone(&self.host.platform);
        let made = platform.provision(&self.plan, reporter).await;
        if reporter.cancellation().is_cancelled() {
            return Err(cancelled(self));
        }
        made.map_err(|source| ProvisionError::Platform { name: self.record.name.clone(), source })?;

        self.record.state = self.record.state.after(LifeEvent::Provisioned);
        match after {
            AfterProvision::Finished => {
                self.being_created = false;
                Ok(self.save(IntentChange::Finish).await?)
            }
            // The intent to create it stands: whoever finds it removes the VM, with disks or without.
            AfterProvision::Launch => {
                self.publish();
                Ok(())
            }
        }
    }

    pub(super) async fn launch(
        &mut self,
        reporter: &Reporter,
        owner: Option<OwnerMaterial>,
    ) -> Result<(), LaunchError> {
        plan::may_launch(&self.record)?;
        let name = self.record.name.clone();
        if reporter.cancellation().is_cancelled() {
            return Err(LaunchError::Cancelled { name });
        }
        let boot = Arc::clone(&self.record.boot);
        for path in [&boot.rootfs, &boot.vmlinux, &boot.modules_cpio, &boot.modules_ext4] {
            if !path.exists() {
                return Err(LaunchError::SourceGone { name, path: path.clone() });
            }
        }
        if let Some(Err(source)) = boot.rootfs_stamp.as_ref().map(FileStamp::verify) {
            return Err(LaunchError::SourceChanged { name, source });
        }
        if let Some(owner) = owner {
            let owner = Arc::new(owner);
            self.host.store.save_owner(self.record.id.clone(), Arc::clone(&owner)).await?;
            self.record.owner = owner;
        }
        if !self.being_created {
            let operation_id = reporter.operation_id().to_owned();
            self.save(IntentChange::Begin { action: Action::Launch, operation_id }).await?;
        }

        reporter.stage("launch", format!("starting {name}"));
        let platform = Arc::clone(&self.host.platform);
        let now = u64::try_from(crate::clock::unix_ms()).unwrap_or_default();
        let seed = seed(&self.record, platform.guest_machine(&self.plan), now);
        let began = Instant::now();
        let started = platform.launch(&self.plan, &seed, reporter).await;
        let cancelled = reporter.cancellation().is_cancelled();
        match started {
            Ok(running) => {
                self.record.runtime = Some(running.into());
                self.launched = Some(began);
                if cancelled && self.end_vmm().await.is_ok() {
                    return self.give_up_launch(LaunchError::Cancelled { name }).await;
                }
                self.keep_launched(reporter).await?;
                // Its VMM could not be ended: it is recorded as running, so that it can be tried again.
                if cancelled { Err(LaunchError::Cancelled { name }) } else { Ok(()) }
            }
            Err(_) if cancelled => self.give_up_launch(LaunchError::Cancelled { name }).await,
            Err(source) => self.give_up_launch(LaunchError::Platform { name, source }).await,
        }
    }

    /// The VMM runs: from here on the VM is kept, whatever its guest does.
    async fn keep_launched(&mut self, reporter: &Reporter) -> Result<(), LaunchError> {
        let before = self.record.clone();
        self.guest = self.guest.started_again();
        let record = &mut self.record;
        record.state = record.state.after(LifeEvent::Launched);
        record.vmm = self.host.platform.vmm_name().to_owned();
        record.started_unix_ms = crate::clock::unix_ms();
        record.boot_id.clear();
        record.reachable_after_ms = 0;
        record.booted_after_ms = 0;
        record.last_error.clear();
        record.unclean = false;
        let was_being_created = std::mem::replace(&mut self.being_created, false);
        self.attach();
        let Err(error) = self.save(IntentChange::Finish).await else { return Ok(()) };

        // A VMM that is not written down must not run on.
        self.being_created = was_being_created;
        match self.end_vmm().await {
            Ok(()) => self.record = VmRecord { runtime: None, ..before },
            Err(kill) => reporter.warning(format!("the VMM could not be ended: {}", Failure::from_error(&kill))),
        }
        self.save_or_log(IntentChange::Keep).await;
        Err(error.into())
    }

    async fn end_vmm(&mut self) -> Result<(), PlatformError> {
        let process = self.record.runtime.as_ref().map(|runtime| runtime.process.clone());
        let platform = Arc::clone(&self.host.platform);
        platform.kill(&self.plan, process.as_ref()).await?;
        self.record.runtime = None;
        self.control = None;
        self.launched = None;
        Ok(())
    }

    /// Nothing runs. A VM whose creation fails is about to be removed; others keep their state and the reason.
    async fn give_up_launch(&mut self, error: LaunchError) -> Result<(), LaunchError> {
        if !self.being_created {
            if !matches!(error, LaunchError::Cancelled { .. }) {
                self.record.last_error = Failure::from_error(&error).to_string();
            }
            self.save_or_log(IntentChange::Finish).await;
        }
        Err(error)
    }
}
