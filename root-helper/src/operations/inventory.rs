//! What exists, by the ledger and by a look at the kernel. Changes nothing.

use banger_proto::names::VmId;
use banger_proto::root::v1 as wire;

use crate::host::rules;
use crate::ledger::Holdings;
use crate::world::World;

/// Looks. What cannot be looked at is reported as not ready.
pub fn perform(world: &World) -> wire::Holdings {
    let network = &world.ledger().network;
    wire::Holdings {
        vms: world.ledger().vms().map(|(vm, holdings)| look(world, vm, holdings)).collect(),
        network_ready: network.bridge && is_network_ready(world),
        resolver_ready: network.resolver && world.host.is_resolver_ready().unwrap_or(false),
    }
}

fn is_network_ready(world: &World) -> bool {
    let batch = rules::render(&world.install.network, world.ledger());
    let links_are_there = world.ledger().links().all(|guest| world.host.is_tap_ready(guest).unwrap_or(false));
    let forwards_as_needed = !world.ledger().needs_forwarding() || world.host.is_forwarding().unwrap_or(false);
    links_are_there
        && forwards_as_needed
        && world.host.is_bridge_ready().unwrap_or(false)
        && world.host.has_rules(&batch).unwrap_or(false)
}

fn look(world: &World, vm: &VmId, holdings: &Holdings) -> wire::VmHoldings {
    let usage = if holdings.disk_active { world.host.disk_usage(vm).unwrap_or_default() } else { Default::default() };
    let process = holdings.machine.as_ref().and_then(|machine| machine.process);
    wire::VmHoldings {
        vm_id: vm.to_string(),
        address: holdings.link.map_or(0, |address| address.to_bits()),
        nat: holdings.nat,
        root_disk: holdings.root_disk.is_some(),
        copy_on_write_used_sectors: usage.used,
        copy_on_write_total_sectors: usage.total,
        pid: process.map_or(0, |process| process.pid),
        start_time_ticks: process.map_or(0, |process| process.start_time_ticks),
    }
}
