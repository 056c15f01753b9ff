//! `bangerd-root teardown-all` and `remove-network`, for root at the command line while the service is stopped. They say
//! each thing that went in one line.
//!
//! The first takes away everything the ledger lists. The second leaves VMs that do not run their disks, for an
//! installation that is taken away without its data: only links and what all VMs share go.

use std::io::Write;

use banger_proto::names::VmId;

use crate::operations::{detach_link, remove_network, settle, teardown_vm};
use crate::serve::{ServeError, open_world};
use crate::world::World;

/// How much is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// `teardown-all`.
    Everything,
    /// `remove-network`.
    Network,
}

/// Takes it away; false if something stayed, which it says.
///
/// # Errors
/// [`ServeError`] if it cannot begin.
pub fn run(extent: Extent, output: &mut impl Write) -> Result<bool, ServeError> {
    let mut world = open_world()?;
    let mut lines = Vec::new();
    let mut left_behind = match extent {
        Extent::Everything => take_vms(&mut world, &mut lines),
        Extent::Network => take_links(&mut world),
    };
    // A bridge that is gone would take the running VMs' network away: nothing of that is to be had half.
    if extent == Extent::Everything || left_behind.is_empty() {
        left_behind.extend(take_network(&mut world, &mut lines));
    }
    lines.extend(left_behind.iter().map(|what| format!("left behind: {what}")));
    for line in lines {
        // Who does not read what went still wants it gone.
        let _ = writeln!(output, "{line}");
    }
    Ok(left_behind.is_empty())
}

fn take_vms(world: &mut World, lines: &mut Vec<String>) -> Vec<String> {
    let mut left_behind = Vec::new();
    for vm in vms(world) {
        match teardown_vm::perform(world, &vm) {
            Ok(()) => lines.push(format!("removed VM {vm}")),
            Err(error) => left_behind.extend(error.left_behind),
        }
    }
    left_behind
}

/// The links of VMs that do not run; one that does keeps everything.
fn take_links(world: &mut World) -> Vec<String> {
    let mut left_behind = settle::perform(world, None);
    let running = vms(world).into_iter().filter(|vm| world.holdings(vm).machine.is_some());
    left_behind.extend(running.map(|vm| format!("the VM {vm} runs")));
    if left_behind.is_empty() {
        for vm in vms(world) {
            left_behind.extend(detach_link::perform(world, &vm).err().map(|error| crate::error::chain(&error)));
        }
    }
    left_behind
}

fn take_network(world: &mut World, lines: &mut Vec<String>) -> Vec<String> {
    let network = world.ledger().network.clone();
    let stayed = remove_network::perform(world);
    if stayed.is_empty() {
        if network.bridge {
            lines.push(format!("removed bridge {} and the tables banger", world.install.network.bridge));
        }
        if network.resolver {
            lines.push("removed the resolver's route to names of VMs".to_owned());
        }
        if network.forwarding_before == Some(false) {
            lines.push("switched IPv4 forwarding off again".to_owned());
        }
    }
    stayed
}

fn vms(world: &World) -> Vec<VmId> {
    world.ledger().vms().map(|(vm, _)| vm.clone()).collect()
}
