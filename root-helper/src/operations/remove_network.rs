//! What exists once for all VMs goes: for `bangerd-root teardown-all`, never over the socket.

use crate::host::rules;
use crate::request::Switch;
use crate::world::{CleanUp, World};

/// Takes it away; says what stayed.
pub fn perform(world: &mut World) -> Vec<String> {
    let mut clean_up = CleanUp::default();
    let network = world.ledger().network.clone();
    if network.resolver {
        clean_up.attempt(world.host.set_resolver(Switch::Off));
    }
    if network.forwarding_before == Some(false) {
        clean_up.attempt(world.host.set_forwarding(Switch::Off));
    }
    if network.bridge {
        clean_up.attempt(world.host.remove_bridge());
        clean_up.attempt(world.host.apply_rules(&rules::render_removal()));
    }
    if clean_up.left_behind.is_empty() {
        clean_up.attempt(world.change_network(|network| *network = Default::default()));
    }
    clean_up.attempt(world.host.remove_slice());
    clean_up.left_behind
}
