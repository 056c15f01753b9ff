//! The tap of one VM goes, and with it its address, its nat and, with the last of those, forwarding.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmId;

use super::ensure_network::{apply_forwarding, apply_rules};
use crate::error::StepError;
use crate::ledger::Intent;
use crate::world::World;

/// The link cannot be detached.
#[derive(Debug, thiserror::Error)]
#[error("cannot detach the link of the VM {vm}")]
pub struct DetachLinkError {
    /// Which VM.
    pub vm: VmId,
    /// Which step and why.
    pub source: StepError,
}

impl Classified for DetachLinkError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Detaches it; content if there is none.
///
/// # Errors
/// [`DetachLinkError`]; asking again goes on where it stopped.
pub fn perform(world: &mut World, vm: &VmId) -> Result<(), DetachLinkError> {
    let failed = |source| DetachLinkError { vm: vm.clone(), source };
    let Some(guest) = world.holdings(vm).link else { return Ok(()) };
    world.begin(vm, Intent::DetachLink, |_| ()).map_err(failed)?;
    world.host.remove_tap(guest).map_err(failed)?;
    world
        .end(vm, |holdings| {
            holdings.link = None;
            holdings.nat = false;
        })
        .map_err(failed)?;
    apply_forwarding(world).map_err(failed)?;
    apply_rules(world).map_err(failed)
}
