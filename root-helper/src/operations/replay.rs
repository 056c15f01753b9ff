//! At start: every entry becomes true again. What to do is decided in [`ledger::replay`](crate::ledger::replay).

use banger_proto::names::VmId;

use super::{ensure_network, set_resolver, settle, teardown_vm};
use crate::ledger::replay::{self, Replay, Undo};
use crate::request::Switch;
use crate::world::{CleanUp, World};

/// Replays the whole ledger; says what did not work, for the log.
pub fn perform(world: &mut World) -> Vec<String> {
    let mut clean_up = CleanUp::default();
    let boot_id = world.host.boot_id().to_owned();
    if world.ledger().network.boot_id != boot_id {
        // Bridge, tables, forwarding and what the resolver was told ended with the kernel that had them.
        clean_up.attempt(world.change_network(|network| *network = Default::default()));
    }
    let entries: Vec<VmId> = world.ledger().vms().map(|(vm, _)| vm.clone()).collect();
    for vm in entries {
        let replay = replay::plan(&world.holdings(&vm), &boot_id);
        apply(world, &vm, replay, &mut clean_up);
    }
    clean_up.left_behind.extend(settle::perform(world, None));
    if world.ledger().network.bridge || world.ledger().vms().any(|(_, holdings)| holdings.link.is_some()) {
        let ensured = ensure_network::perform(world);
        clean_up.left_behind.extend(ensured.err().map(|error| crate::error::chain(&error)));
    }
    if world.ledger().network.resolver {
        let set = set_resolver::perform(world, Switch::On);
        clean_up.left_behind.extend(set.err().map(|error| crate::error::chain(&error)));
    }
    clean_up.left_behind
}

fn apply(world: &mut World, vm: &VmId, replay: Replay, clean_up: &mut CleanUp) {
    let mut is_undone = true;
    for undo in replay.undo {
        is_undone &= match undo {
            Undo::Machine => {
                clean_up.attempt(world.host.stop_machine(vm)) & clean_up.attempt(world.host.remove_jail(vm))
            }
            Undo::ActiveDisk => clean_up.attempt(world.host.deactivate_disk(vm)),
            Undo::Store => clean_up.attempt(world.host.remove_store(vm)),
            Undo::Link(guest) => clean_up.attempt(world.host.remove_tap(guest)),
            Undo::All => {
                let torn_down = teardown_vm::perform(world, vm);
                clean_up.left_behind.extend(torn_down.err().map(|error| crate::error::chain(&error)));
                return;
            }
        };
    }
    // What could not be undone stays written: the next start, or a teardown, tries again.
    if is_undone {
        clean_up.attempt(world.change(vm, |holdings| *holdings = replay.holdings));
    }
}
