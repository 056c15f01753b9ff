//! What a performed operation answers, and how answers look on the wire.

use std::os::fd::OwnedFd;

use banger_proto::failure::Failure;
use banger_proto::root::v1 as wire;

use crate::ledger::Process;

/// The answer to an operation that was performed.
#[derive(Debug)]
pub enum Receipt {
    /// Nothing more to say.
    Done,
    /// The machine monitor, with a descriptor of it.
    Launched {
        /// Which process.
        process: Process,
        /// Travels beside the answer.
        pidfd: OwnedFd,
    },
    /// What exists.
    Holdings(wire::Holdings),
}

/// An answer and the descriptor beside it.
pub fn render(operation_id: String, outcome: Result<Receipt, Failure>) -> (wire::Response, Option<OwnedFd>) {
    use wire::receipt::Kind;
    let (outcome, descriptor) = match outcome {
        Ok(receipt) => {
            let (kind, descriptor) = match receipt {
                Receipt::Done => (Kind::Done(wire::Done {}), None),
                Receipt::Launched { process: Process { pid, start_time_ticks }, pidfd } => {
                    (Kind::Launched(wire::Launched { pid, start_time_ticks }), Some(pidfd))
                }
                Receipt::Holdings(holdings) => (Kind::Holdings(holdings), None),
            };
            (wire::response::Outcome::Receipt(wire::Receipt { kind: Some(kind) }), descriptor)
        }
        Err(failure) => (wire::response::Outcome::Refusal(refusal(&failure)), None),
    };
    (wire::Response { operation_id, outcome: Some(outcome) }, descriptor)
}

fn refusal(failure: &Failure) -> wire::Refusal {
    let failure = banger_proto::v1::Failure::from(failure);
    wire::Refusal {
        // A FailureKind is never negative.
        kind: failure.kind.cast_unsigned(),
        chain: failure.chain,
        hints: failure.hints,
        left_behind: failure.left_behind,
    }
}
