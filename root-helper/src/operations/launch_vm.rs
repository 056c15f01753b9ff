//! The root disk becomes a device, and the jailed machine monitor runs in a unit of its own.
//!
//! The unit's program is `bangerd-root run-vm ID` ([`run_vm`](crate::run_vm)), which becomes the jailer, which becomes
//! the machine monitor: one process throughout.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use crate::error::StepError;
use crate::host::Limits;
use crate::ledger::{Intent, Machine};
use crate::receipt::Receipt;
use crate::world::{CleanUp, World};

/// It cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchVmError {
    /// A step before the machine monitor.
    #[error("cannot launch the VM {vm}")]
    Prepare {
        /// Which VM.
        vm: VmId,
        /// Which step and why.
        source: StepError,
        /// What could not be undone.
        left_behind: Vec<String>,
    },
    /// The machine monitor itself.
    #[error("cannot launch the VM {vm}")]
    Start {
        /// Which VM.
        vm: VmId,
        /// Why, as far as the helper can tell.
        source: StepError,
        /// What could not be undone.
        left_behind: Vec<String>,
    },
}

impl LaunchVmError {
    /// What could not be undone.
    pub fn left_behind(&self) -> &[String] {
        match self {
            Self::Prepare { left_behind, .. } | Self::Start { left_behind, .. } => left_behind,
        }
    }
}

impl Classified for LaunchVmError {
    fn kind(&self) -> Kind {
        match self {
            Self::Prepare { source, .. } | Self::Start { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Prepare { .. } => Vec::new(),
            Self::Start { vm, .. } => {
                vec![format!("Read why in `journalctl -u {}`.", crate::kernel_names::unit(vm))]
            }
        }
    }
}

/// Launches it.
///
/// # Errors
/// [`LaunchVmError`]; the disk is inactive and no process is left then, or it says what is.
pub fn perform(world: &mut World, vm: &VmId, machine: Machine) -> Result<Receipt, LaunchVmError> {
    let prepare = |source| LaunchVmError::Prepare { vm: vm.clone(), source, left_behind: Vec::new() };
    let disk = world.holdings(vm).root_disk.expect("the policy permits a launch only with a root disk");
    let (vcpus, memory_mib) = (machine.vcpus, machine.memory_mib);
    world
        .begin(vm, Intent::LaunchVm, |holdings| {
            holdings.disk_active = true;
            holdings.machine = Some(machine);
        })
        .map_err(prepare)?;
    // What an earlier machine monitor left is in the way of the new one.
    let prepared = clear(world, vm).and_then(|()| world.host.activate_disk(vm, &disk)).and_then(|root_device| {
        world.change(vm, |holdings| {
            if let Some(machine) = &mut holdings.machine {
                machine.root_device = Some(root_device);
            }
        })?;
        Ok(root_device)
    });
    let root_device = prepared.map_err(|source| {
        let left_behind = undo(world, vm);
        LaunchVmError::Prepare { vm: vm.clone(), source, left_behind }
    })?;
    let launched = world.host.start_machine(vm, Limits { vcpus, memory_mib, root_device }).and_then(|launched| {
        world.end(vm, |holdings| {
            if let Some(machine) = &mut holdings.machine {
                machine.process = Some(launched.0);
            }
        })?;
        Ok(launched)
    });
    match launched {
        Ok((process, pidfd)) => Ok(Receipt::Launched { process, pidfd }),
        Err(source) => {
            let left_behind = undo(world, vm);
            Err(LaunchVmError::Start { vm: vm.clone(), source, left_behind })
        }
    }
}

fn clear(world: &World, vm: &VmId) -> Result<(), StepError> {
    // Asking systemd to stop what is not there takes longer than to see that it is not.
    if world.host.has_machine(vm)? {
        world.host.stop_machine(vm)?;
    }
    world.host.remove_jail(vm)?;
    world.host.deactivate_disk(vm)
}

/// Takes everything of the launch away; says what stayed.
fn undo(world: &mut World, vm: &VmId) -> Vec<String> {
    let mut clean_up = CleanUp::default();
    let stopped = clean_up.attempt(world.host.stop_machine(vm));
    clean_up.attempt(world.host.remove_jail(vm));
    let inactive = clean_up.attempt(world.host.deactivate_disk(vm));
    if stopped {
        clean_up.attempt(world.end(vm, |holdings| {
            holdings.machine = None;
            holdings.disk_active = !inactive;
        }));
    }
    clean_up.left_behind
}
