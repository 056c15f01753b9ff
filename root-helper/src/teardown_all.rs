//! `bangerd-root teardown-all`, for root at the command line while the service is stopped: everything the ledger lists
//! goes, and then the network. Says each thing that went in one line.

use std::io::Write;

use banger_proto::names::VmId;

use crate::operations::{remove_network, teardown_vm};
use crate::serve::{ServeError, open_world};

/// Takes everything away; false if something stayed, which it says.
///
/// # Errors
/// [`ServeError`] if it cannot begin.
pub fn run(output: &mut impl Write) -> Result<bool, ServeError> {
    let mut world = open_world()?;
    let vms: Vec<VmId> = world.ledger().vms().map(|(vm, _)| vm.clone()).collect();
    let mut left_behind = Vec::new();
    let mut say = |line: String| {
        // Who does not read what went still wants it gone.
        let _ = writeln!(output, "{line}");
    };
    for vm in vms {
        match teardown_vm::perform(&mut world, &vm) {
            Ok(()) => say(format!("removed VM {vm}")),
            Err(error) => left_behind.extend(error.left_behind),
        }
    }
    let network = world.ledger().network.clone();
    let stayed = remove_network::perform(&mut world);
    if stayed.is_empty() {
        if network.bridge {
            say(format!("removed bridge {} and the tables banger", world.install.network.bridge));
        }
        if network.resolver {
            say("removed the resolver's route to names of VMs".to_owned());
        }
        if network.forwarding_before == Some(false) {
            say("switched IPv4 forwarding off again".to_owned());
        }
    }
    left_behind.extend(stayed);
    left_behind.iter().for_each(|what| say(format!("left behind: {what}")));
    Ok(left_behind.is_empty())
}
