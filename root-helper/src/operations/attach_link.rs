//! A tap for one VM on the bridge, isolated from the other ports, that passes only the VM's own address.

use std::net::Ipv4Addr;

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::tap;
use banger_proto::names::VmId;

use super::ensure_network::{self, EnsureNetworkError};
use crate::error::StepError;
use crate::ledger::Intent;
use crate::world::World;

/// The link cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachLinkError {
    /// There is no network to attach it to.
    #[error("cannot attach the link of the VM {vm}")]
    Network {
        /// Which VM.
        vm: VmId,
        /// Why.
        source: EnsureNetworkError,
    },
    /// A link of that name exists and is not in the ledger.
    #[error("cannot attach the link of the VM {vm}: a link named {name} exists that is not banger's")]
    Foreign {
        /// Which VM.
        vm: VmId,
        /// The name.
        name: String,
    },
    /// A step failed.
    #[error("cannot attach the link of the VM {vm}")]
    Step {
        /// Which VM.
        vm: VmId,
        /// Which step and why.
        source: StepError,
    },
}

impl Classified for AttachLinkError {
    fn kind(&self) -> Kind {
        match self {
            Self::Network { source, .. } => source.kind(),
            Self::Foreign { .. } => Kind::Conflict,
            Self::Step { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Network { source, .. } => source.hints(),
            Self::Foreign { name, .. } => vec![format!("See whose it is with `ip link show {name}`.")],
            Self::Step { .. } => Vec::new(),
        }
    }
}

/// Attaches it; what is attached is put right again.
///
/// # Errors
/// [`AttachLinkError`]; a link that was not there before is gone again then.
pub fn perform(world: &mut World, vm: &VmId, address: Ipv4Addr) -> Result<(), AttachLinkError> {
    let failed = |source| AttachLinkError::Step { vm: vm.clone(), source };
    ensure_network::make_bridge(world).map_err(|source| AttachLinkError::Network { vm: vm.clone(), source })?;
    if world.holdings(vm).link == Some(address) {
        return ensure_network::apply_policy(world).and_then(|()| world.host.ensure_tap(address)).map_err(failed);
    }
    let name = tap(address);
    if world.host.has_link(&name).map_err(failed)? {
        return Err(AttachLinkError::Foreign { vm: vm.clone(), name });
    }
    world.begin(vm, Intent::AttachLink, |holdings| holdings.link = Some(address)).map_err(failed)?;
    // The rules first: the tap passes nothing but its guest's frames from its first moment on.
    let attached = ensure_network::apply_policy(world).and_then(|()| world.host.ensure_tap(address));
    match attached {
        Ok(()) => world.end(vm, |_| ()).map_err(failed),
        Err(error) => {
            // The first error is the answer; if this fails too, the entry stays and teardown will try again.
            if world.host.remove_tap(address).is_ok() && world.end(vm, |holdings| holdings.link = None).is_ok() {
                let _ = ensure_network::apply_rules(world);
            }
            Err(failed(error))
        }
    }
}
