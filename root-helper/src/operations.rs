//! A permit is used up here: one file per operation, each with its own error.
//!
//! Every operation writes into the ledger what may come to exist, asks the host, and writes what does. What fails half
//! way is undone; what cannot be undone is told. Nothing here decides whether: see [`policy`](crate::policy).

pub mod attach_link;
pub mod create_root_disk;
pub mod detach_link;
pub mod ensure_network;
pub mod inventory;
pub mod launch_vm;
pub mod remove_network;
pub mod replay;
pub mod set_nat;
pub mod set_resolver;
pub mod settle;
pub mod signal_vm;
pub mod teardown_vm;

use banger_proto::failure::{Classified, Failure};

use crate::permit::Permit;
use crate::receipt::Receipt;
use crate::request::Operation;
use crate::world::World;

/// Performs what was permitted.
///
/// # Errors
/// The operation's own, ready to be sent.
pub fn perform(permit: Permit, world: &mut World) -> Result<Receipt, Failure> {
    match permit.into_operation() {
        Operation::EnsureNetwork => done(ensure_network::perform(world)),
        Operation::AttachLink { vm, address } => done(attach_link::perform(world, &vm, address)),
        Operation::DetachLink { vm } => done(detach_link::perform(world, &vm)),
        Operation::SetNat { vm, nat } => done(set_nat::perform(world, &vm, nat)),
        Operation::SetResolver { resolver } => done(set_resolver::perform(world, resolver)),
        Operation::CreateRootDisk { vm, image, build, copy_on_write_mib } => {
            done(create_root_disk::perform(world, &vm, create_root_disk::Wanted { image, build, copy_on_write_mib }))
        }
        Operation::LaunchVm { vm, machine } => launch_vm::perform(world, &vm, machine)
            .map_err(|error| Failure { left_behind: error.left_behind().to_vec(), ..Failure::from_error(&error) }),
        Operation::SignalVm { vm, signal } => done(signal_vm::perform(world, &vm, signal)),
        Operation::TeardownVm { vm } => teardown_vm::perform(world, &vm)
            .map(|()| Receipt::Done)
            .map_err(|error| Failure { left_behind: error.left_behind.clone(), ..Failure::from_error(&error) }),
        Operation::Inventory => Ok(Receipt::Holdings(inventory::perform(world))),
    }
}

fn done<E: Classified>(outcome: Result<(), E>) -> Result<Receipt, Failure> {
    outcome.map(|()| Receipt::Done).map_err(|error| Failure::from_error(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
