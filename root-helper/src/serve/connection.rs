//! One client: packet in, packet out, until it goes or is silent for too long.
//!
//! Descriptors a client sends are dropped by the kernel: no room is given for them.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use banger_proto::failure::{Failure, Kind};
use prost::Message as _;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::socket;
use crate::audit::{self, Decision, Entry};
use crate::caller::Caller;
use crate::error::chain;
use crate::operations::{self, settle};
use crate::policy;
use crate::receipt::{self, Receipt};
use crate::request::{self, InvalidRequest, LIMIT, Request};
use crate::world::World;

/// Serves it.
pub fn serve(client: &OwnedFd, caller: Caller, world: &Mutex<World>) {
    let mut buffer = [0; LIMIT];
    loop {
        // TRUNC: says how long the packet was, of which only what fits is here.
        let length = match recv(client, &mut buffer, RecvFlags::TRUNC) {
            Ok((_, 0)) => return,
            Ok((_, length)) => length,
            Err(Errno::INTR) => continue,
            // Silent for too long, or gone.
            Err(_) => return,
        };
        let began = Instant::now();
        let packet = buffer.get(..length).ok_or(InvalidRequest::TooLong { length });
        let (operation_id, outcome) = answer(packet, caller, world, began);
        let (response, descriptor) = receipt::render(operation_id, outcome);
        if let Err(error) = socket::send(client, &response.encode_to_vec(), descriptor.as_ref()) {
            return audit::note(5, &chain(&error));
        }
    }
}

fn answer(
    packet: Result<&[u8], InvalidRequest>,
    caller: Caller,
    world: &Mutex<World>,
    began: Instant,
) -> (String, Result<Receipt, Failure>) {
    let Request { operation_id, operation } = match packet.and_then(request::parse) {
        Ok(request) => request,
        Err(error) => {
            let entry = Entry {
                operation_id: "-",
                caller,
                operation: None,
                decision: Decision::Refuse(chain(&error)),
                failure: None,
                took: began.elapsed(),
            };
            audit::record(&entry);
            return (String::new(), Err(Failure::from_error(&error)));
        }
    };
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let (decision, outcome) = guarded(&mut world, |world| {
        for problem in settle::perform(world, operation.vm()) {
            audit::note(4, &format!("settle: {problem}"));
        }
        match policy::decide(caller, world.scope(), operation.clone()) {
            Err(denied) => (Decision::Refuse(chain(&denied)), Err(Failure::from_error(&denied))),
            Ok(permit) => (Decision::Permit, operations::perform(permit, world)),
        }
    });
    // Still under the lock: the order of the lines is the order of what was done.
    let entry = Entry {
        operation_id: &operation_id,
        caller,
        operation: Some(&operation),
        decision,
        failure: outcome.as_ref().err(),
        took: began.elapsed(),
    };
    audit::record(&entry);
    (operation_id, outcome)
}

type Decided = (Decision, Result<Receipt, Failure>);

/// A panic ends the request, not the helper.
fn guarded(world: &mut World, operation: impl FnOnce(&mut World) -> Decided) -> Decided {
    let outcome = catch_unwind(AssertUnwindSafe(|| operation(world)));
    outcome.unwrap_or_else(|_| {
        let failure = Failure::new(Kind::Internal, "the helper failed in the middle of the operation");
        let failure = match world.reload() {
            Ok(()) => failure,
            Err(error) => failure.caused_by(chain(&error)),
        };
        (Decision::Permit, Err(failure))
    })
}
