//! A signal to a VM's machine monitor, by descriptor: never to a process that only has its number.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use crate::error::StepError;
use crate::request::Signal;
use crate::world::World;

/// It cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot signal the machine monitor of the VM {vm}")]
pub struct SignalVmError {
    /// Which VM.
    pub vm: VmId,
    /// Why.
    pub source: StepError,
}

impl Classified for SignalVmError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Sends it; content if the machine monitor does not run.
///
/// # Errors
/// [`SignalVmError`].
pub fn perform(world: &World, vm: &VmId, signal: Signal) -> Result<(), SignalVmError> {
    match world.holdings(vm).machine.and_then(|machine| machine.process) {
        Some(process) => world.host.signal(process, signal).map_err(|source| SignalVmError { vm: vm.clone(), source }),
        None => Ok(()),
    }
}
