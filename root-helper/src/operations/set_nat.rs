//! Whether one VM's traffic may leave the host, switched while it runs.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use super::ensure_network::{apply_forwarding, apply_rules};
use crate::error::StepError;
use crate::request::Switch;
use crate::world::World;

/// It cannot be switched.
#[derive(Debug, thiserror::Error)]
#[error("cannot switch the nat of the VM {vm}")]
pub struct SetNatError {
    /// Which VM.
    pub vm: VmId,
    /// Which step and why.
    pub source: StepError,
}

impl Classified for SetNatError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Switches it.
///
/// # Errors
/// [`SetNatError`]; what the ledger says is put in place by the next request that touches the network.
pub fn perform(world: &mut World, vm: &VmId, nat: Switch) -> Result<(), SetNatError> {
    let failed = |source| SetNatError { vm: vm.clone(), source };
    world.change(vm, |holdings| holdings.nat = nat == Switch::On).map_err(failed)?;
    apply_rules(world).map_err(failed)?;
    apply_forwarding(world).map_err(failed)
}
