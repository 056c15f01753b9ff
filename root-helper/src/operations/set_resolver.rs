//! Whether the host's resolver asks bangerd for names of VMs.

use banger_proto::failure::{Classified, Kind};

use crate::error::StepError;
use crate::request::Switch;
use crate::world::World;

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
#[error("cannot switch whether the host resolves names of VMs")]
pub struct SetResolverError {
    /// Which step and why.
    #[from]
    pub source: StepError,
}

impl Classified for SetResolverError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }

    fn hints(&self) -> Vec<String> {
        vec!["Check `systemctl status systemd-resolved`; VMs are reachable by address without it.".to_owned()]
    }
}

/// Tells it.
///
/// # Errors
/// [`SetResolverError`].
pub fn perform(world: &mut World, resolver: Switch) -> Result<(), SetResolverError> {
    if resolver == Switch::On {
        world.change_network(|network| network.resolver = true)?;
        return Ok(world.host.set_resolver(resolver)?);
    }
    if world.ledger().network.resolver {
        world.host.set_resolver(resolver)?;
        world.change_network(|network| network.resolver = false)?;
    }
    Ok(())
}
