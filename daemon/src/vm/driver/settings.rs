//! Changing what a VM was created with: its network live, its size while nothing runs.

use std::sync::Arc;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmName;

use super::machine::Machine;
use crate::platform::PlatformError;
use crate::store::{IntentChange, StoreError};
use crate::vm::observe::{self, ObserveError};
use crate::vm::plan::{Refusal, vm_plan};
use crate::vm::record::VmSpec;
use crate::vm::spec::{self, SpecError};

/// What to change; nothing else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// May open connections to the outside.
    pub nat: Option<bool>,
    /// Virtual CPUs.
    pub vcpu_count: Option<u32>,
    /// Guest memory.
    pub memory_mib: Option<u64>,
}

impl Change {
    fn apply(self, spec: &VmSpec) -> VmSpec {
        VmSpec {
            nat: self.nat.unwrap_or(spec.nat),
            vcpu_count: self.vcpu_count.unwrap_or(spec.vcpu_count),
            memory_mib: self.memory_mib.unwrap_or(spec.memory_mib),
            ..spec.clone()
        }
    }
}

/// The VM is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was named.
    #[error("nothing to change on the VM {:?} was named", name.as_str())]
    Nothing {
        /// Which.
        name: VmName,
    },
    /// A VMM has its size from its start to its end.
    #[error("cannot change the CPUs or the memory of the VM {:?} while it runs", name.as_str())]
    Runs {
        /// Which.
        name: VmName,
    },
    /// The host has no room for that.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The host cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The platform could not.
    #[error("cannot change the VM {:?}", name.as_str())]
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

impl Classified for SetError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::Nothing { .. } => Kind::Usage,
            Self::Runs { .. } => Kind::Conflict,
            Self::Spec(error) => error.kind(),
            Self::Observe(error) => error.kind(),
            Self::Platform { source, .. } => source.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused(refusal) => refusal.hints(),
            Self::Nothing { .. } => vec!["See what can be changed with `banger vm set --help`.".into()],
            Self::Runs { name } => vec![format!("Stop it first with `banger vm stop {name}`.")],
            Self::Spec(error) => error.hints(),
            Self::Observe(error) => error.hints(),
            Self::Platform { source, .. } => source.hints(),
            Self::Store(error) => error.hints(),
        }
    }
}

impl Machine {
    pub(super) async fn set(&mut self, change: Change) -> Result<(), SetError> {
        let name = self.record.name.clone();
        if change == Change::default() {
            return Err(SetError::Nothing { name });
        }
        let before = self.record.spec.clone();
        let after = change.apply(&before);
        if after == before {
            return Ok(());
        }
        let resized = (after.vcpu_count, after.memory_mib) != (before.vcpu_count, before.memory_mib);
        if resized && self.record.runtime.is_some() {
            return Err(SetError::Runs { name });
        }
        if resized {
            spec::check_size(&after, &observe::host_limits(&self.host.paths.vms())?)?;
        }
        let platform = Arc::clone(&self.host.platform);
        platform.check(&after).map_err(|source| SetError::Platform { name: name.clone(), source })?;

        let switched = after.nat != before.nat;
        self.become_like(after);
        if let Err(error) = self.save(IntentChange::Keep).await {
            self.become_like(before);
            return Err(error.into());
        }
        // Written down first: whoever puts the network right meanwhile goes by what is written.
        if switched
            && self.record.runtime.is_some()
            && let Err(source) = platform.set_nat(&self.plan).await
        {
            self.become_like(before);
            self.save_or_log(IntentChange::Keep).await;
            return Err(SetError::Platform { name, source });
        }
        Ok(())
    }

    fn become_like(&mut self, spec: VmSpec) {
        self.record.spec = spec;
        self.plan = vm_plan(&self.record, &self.host.paths);
    }
}
