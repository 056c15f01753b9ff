//! Bridge, its address, forwarding and the tables are as the ledger says. Puts back what others removed.

use banger_proto::failure::{Classified, Kind};

use crate::error::StepError;
use crate::host::rules;
use crate::request::Switch;
use crate::world::World;

/// The network cannot be put in place.
#[derive(Debug, thiserror::Error)]
pub enum EnsureNetworkError {
    /// A link of that name exists and is not in the ledger.
    #[error("cannot make the bridge {bridge}: a link of that name exists that is not banger's")]
    Foreign {
        /// Its name.
        bridge: String,
    },
    /// A step failed.
    #[error("cannot put the network of the VMs in place")]
    Step {
        /// Which and why.
        #[from]
        source: StepError,
    },
}

impl Classified for EnsureNetworkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Foreign { .. } => Kind::Conflict,
            Self::Step { source } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Foreign { bridge } => vec![
                format!("See whose it is with `ip link show {bridge}`."),
                "Choose another name with `sudo banger system install --owner USER --bridge NAME`.".to_owned(),
            ],
            Self::Step { .. } => Vec::new(),
        }
    }
}

/// Puts it in place, with every link that is attached to it.
///
/// # Errors
/// [`EnsureNetworkError`]; what was put in place stays.
pub fn perform(world: &mut World) -> Result<(), EnsureNetworkError> {
    ensure_bridge(world)?;
    for guest in world.ledger().links() {
        world.host.ensure_tap(guest)?;
    }
    Ok(())
}

/// The same without the links.
///
/// # Errors
/// [`EnsureNetworkError`].
fn ensure_bridge(world: &mut World) -> Result<(), EnsureNetworkError> {
    make_bridge(world)?;
    Ok(apply_policy(world)?)
}

/// The bridge alone: nothing is on it that was not before.
///
/// # Errors
/// [`EnsureNetworkError`].
pub fn make_bridge(world: &mut World) -> Result<(), EnsureNetworkError> {
    let bridge = &world.install.network.bridge;
    if !world.ledger().network.bridge && world.host.has_link(bridge)? {
        return Err(EnsureNetworkError::Foreign { bridge: bridge.clone() });
    }
    world.change_network(|network| network.bridge = true)?;
    Ok(world.host.ensure_bridge()?)
}

/// Tables and forwarding are what the ledger says.
///
/// # Errors
/// The step that failed.
pub fn apply_policy(world: &mut World) -> Result<(), StepError> {
    // The rules before forwarding: never a moment in which the host forwards what they would drop.
    apply_rules(world)?;
    apply_forwarding(world)
}

/// The tables are what the ledger says.
///
/// # Errors
/// The step that failed.
pub fn apply_rules(world: &World) -> Result<(), StepError> {
    world.host.apply_rules(&rules::render(&world.install.network, world.ledger()))
}

/// The host forwards while a guest needs it, and then as it did before.
///
/// # Errors
/// The step that failed.
pub fn apply_forwarding(world: &mut World) -> Result<(), StepError> {
    if world.ledger().needs_forwarding() {
        if world.ledger().network.forwarding_before.is_none() {
            let before = world.host.is_forwarding()?;
            world.change_network(|network| network.forwarding_before = Some(before))?;
        }
        return world.host.set_forwarding(Switch::On);
    }
    if let Some(before) = world.ledger().network.forwarding_before {
        if !before {
            world.host.set_forwarding(Switch::Off)?;
        }
        world.change_network(|network| network.forwarding_before = None)?;
    }
    Ok(())
}
