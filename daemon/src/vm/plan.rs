//! Decisions about one VM, without touching anything: the platform's plan, which command may run or
//! interrupt another, and what to do about a VM found after a restart.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmName;

use super::record::VmRecord;
use super::state::VmState;
use crate::paths::Paths;
use crate::platform::{Observed, Running, VmPlan};
use crate::store::Action;

/// What the platform needs to know about `record`.
pub fn vm_plan(record: &VmRecord, paths: &Paths) -> VmPlan {
    let boot = &record.boot;
    VmPlan {
        id: record.id.clone(),
        name: record.name.clone(),
        vcpu_count: record.spec.vcpu_count,
        memory_mib: record.spec.memory_mib,
        work_disk_mib: record.spec.work_disk_mib,
        nat: record.spec.nat,
        address: record.address,
        published_ports: record.spec.published_ports.iter().map(|port| (port.host, port.guest)).collect(),
        rootfs: boot.rootfs.clone(),
        image_has_sshd: boot.has_sshd,
        vmlinux: boot.vmlinux.clone(),
        modules_cpio: boot.modules_cpio.clone(),
        modules_ext4: boot.modules_ext4.clone(),
        kernel_arguments: boot.kernel_arguments.clone(),
        directory: paths.vm(&record.id),
        runtime_directory: paths.vm_runtime(&record.id),
    }
}

/// What can be done to a VM; also what its driver is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make its disks.
    Provision,
    /// Start its VMM.
    Launch,
    /// Power it off.
    Stop,
    /// End its VMM.
    Kill,
    /// Remove it.
    Remove,
    /// Write something down about it.
    Note,
}

/// What happens to a command that arrives while another runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits its turn.
    Queue,
    /// The running one is told to hurry up: a start is cancelled, a stop stops waiting.
    Preempt,
}

/// Decides about `arriving` while the driver is `busy_with` something.
pub fn admit(busy_with: Verb, arriving: Verb) -> Admission {
    match (busy_with, arriving) {
        (Verb::Provision | Verb::Launch, Verb::Stop | Verb::Kill | Verb::Remove)
        | (Verb::Stop, Verb::Kill | Verb::Remove) => Admission::Preempt,
        (Verb::Provision | Verb::Launch | Verb::Stop, _) => Admission::Queue,
        (Verb::Kill | Verb::Remove | Verb::Note, _) => Admission::Queue,
    }
}

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A VM can run only once.
    #[error("the VM {:?} is already {state}", name.as_str())]
    AlreadyUp {
        /// Which.
        name: VmName,
        /// Its state.
        state: VmState,
    },
    /// Its VMM lives although nothing answers in there.
    #[error("the VM {:?} is {state}, but its VMM still runs", name.as_str())]
    StillAlive {
        /// Which.
        name: VmName,
        /// Its state.
        state: VmState,
    },
    /// It was reserved and never finished.
    #[error("the VM {:?} has no disks yet", name.as_str())]
    NotProvisioned {
        /// Which.
        name: VmName,
    },
    /// It is gone.
    #[error("the VM {:?} was deleted in the meantime", name.as_str())]
    Removed {
        /// Which.
        name: VmName,
    },
    /// The daemon ends.
    #[error("bangerd is shutting down")]
    Closing,
}

impl Classified for Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::AlreadyUp { .. } | Self::StillAlive { .. } | Self::NotProvisioned { .. } => Kind::Conflict,
            Self::Removed { .. } => Kind::NotFound,
            Self::Closing => Kind::Cancelled,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::AlreadyUp { name, .. } => vec![format!("Run `banger vm restart {name}` to start it afresh.")],
            Self::StillAlive { name, .. } => {
                vec![format!("Run `banger vm logs {name}` to see why, or `banger vm kill {name}` to end it.")]
            }
            Self::NotProvisioned { name } => vec![format!("Run `banger vm delete {name}` and create it again.")],
            Self::Removed { .. } => vec!["Run `banger vm list` to see what is there.".into()],
            Self::Closing => vec!["Run the command again; `banger` starts the daemon when it is needed.".into()],
        }
    }
}

/// Whether the VMM of `record` may be started.
///
/// # Errors
/// [`Refusal`].
pub fn may_launch(record: &VmRecord) -> Result<(), Refusal> {
    let (name, state) = (record.name.clone(), record.state);
    match state {
        VmState::Created => Err(Refusal::NotProvisioned { name }),
        VmState::Booting | VmState::Running | VmState::Stopping => Err(Refusal::AlreadyUp { name, state }),
        VmState::Provisioned | VmState::Stopped | VmState::Broken if record.runtime.is_some() => {
            Err(Refusal::StillAlive { name, state })
        }
        VmState::Provisioned | VmState::Stopped | VmState::Broken => Ok(()),
    }
}

/// What to do about a VM found in the store at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Its creation was interrupted, or its removal: take everything away.
    Remove,
    /// Its VMM runs: watch it again.
    Attach {
        /// How to reach it.
        running: Running,
        /// A stop was interrupted: ask again.
        stop_again: bool,
    },
    /// No VMM runs.
    Rest {
        /// The state it is found in.
        state: VmState,
        /// It ran when it was last seen, and nobody saw it end well.
        unclean: bool,
        /// What to tell, if something was lost.
        note: Option<String>,
    },
}

/// Decides what to do about `record` after a restart of the daemon or the host.
pub fn recover(record: &VmRecord, intent: Option<Action>, observed: Observed) -> Recovery {
    match (intent, observed) {
        (Some(Action::Create | Action::Remove), _) => Recovery::Remove,
        (intent, Observed::Running(running)) => Recovery::Attach { running, stop_again: intent == Some(Action::Stop) },
        (Some(Action::Launch), Observed::Gone) => {
            let note = "bangerd ended while it was starting this VM".to_owned();
            Recovery::Rest { state: at_rest(record.state), unclean: true, note: Some(note) }
        }
        (Some(Action::Stop) | None, Observed::Gone) => {
            // A stop that was under way had synced before the VMM could end; anything else is not known to have.
            let ran = matches!(record.state, VmState::Booting | VmState::Running);
            Recovery::Rest { state: at_rest(record.state), unclean: ran || record.unclean, note: None }
        }
    }
}

/// The state of a VM without a VMM. A reboot of the host is no fault of the VM.
fn at_rest(state: VmState) -> VmState {
    match state {
        VmState::Booting | VmState::Running | VmState::Stopping => VmState::Stopped,
        VmState::Created | VmState::Provisioned | VmState::Stopped | VmState::Broken => state,
    }
}

#[cfg(test)]
mod tests;
