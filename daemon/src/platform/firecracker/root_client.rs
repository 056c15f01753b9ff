//! Asks the root helper: one packet there, one packet back, with a deadline; and what to make of its answers.
//!
//! A connection carries one request: the helper may restart between any two. What it was asked for is asked again
//! after a restart, except for a launch, of which nobody can tell how far it came.

mod exchange;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_proto::failure::{Failure, Kind};
use banger_proto::root::v1::{
    Holdings, Inventory, Launched, Receipt, Refusal, Request, Response, receipt, request::Operation, response,
};
use prost::Message as _;
use tokio::sync::Semaphore;

use self::exchange::{ExchangeError, Limits};
use crate::platform::{PlatformError, error};

/// The version of the boundary.
const VERSION: u32 = 1;
/// For what starts or ends a VM.
const LONG: Duration = Duration::from_secs(60);
/// For all else.
const SHORT: Duration = Duration::from_secs(20);
/// The helper does one thing at a time; more would only wait there instead of here, against their deadlines.
const AT_ONCE: usize = 4;
/// How long a helper that restarts is waited for.
const RETURN: Duration = Duration::from_secs(10);

/// A good answer.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// A VMM runs.
    Launched {
        /// Which.
        launched: Launched,
        /// A handle on it.
        pidfd: Option<OwnedFd>,
    },
    /// What there is.
    Holdings(Holdings),
}

/// The way to the helper.
#[derive(Debug)]
pub struct RootClient {
    socket: PathBuf,
    turns: Semaphore,
    patience: Patience,
}

/// How long what is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer to what starts or ends a VM.
    pub long: Duration,
    /// For any other answer.
    pub short: Duration,
    /// For a helper that is not there.
    pub absence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { long: LONG, short: SHORT, absence: RETURN }
    }
}

impl RootClient {
    /// Connects to nothing yet.
    pub fn new(socket: &Path, patience: Patience) -> Self {
        Self { socket: socket.to_owned(), turns: Semaphore::new(AT_ONCE), patience }
    }

    /// Asks for something that is done or not.
    ///
    /// # Errors
    /// The helper's own, or that it cannot be asked.
    pub async fn perform(&self, operation_id: &str, operation: Operation) -> Result<(), PlatformError> {
        let name = name(&operation);
        match self.ask(operation_id, operation).await? {
            Answer::Done => Ok(()),
            Answer::Launched { .. } | Answer::Holdings(_) => Err(mismatch(name)),
        }
    }

    /// What the helper holds.
    ///
    /// # Errors
    /// The helper's own, or that it cannot be asked.
    pub async fn inventory(&self, operation_id: &str) -> Result<Holdings, PlatformError> {
        let operation = Operation::Inventory(Inventory {});
        let name = name(&operation);
        match self.ask(operation_id, operation).await? {
            Answer::Holdings(holdings) => Ok(holdings),
            Answer::Done | Answer::Launched { .. } => Err(mismatch(name)),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// The helper's own with everything it said, or that it cannot be asked.
    pub async fn ask(&self, operation_id: &str, operation: Operation) -> Result<Answer, PlatformError> {
        let name = name(&operation);
        let answer = if is_long(&operation) { self.patience.long } else { self.patience.short };
        let repeatable = !matches!(operation, Operation::LaunchVm(_));
        let request = Request { version: VERSION, operation_id: plain_id(operation_id), operation: Some(operation) };
        let bytes = request.encode_to_vec();
        let limits = Limits { answer, absence: self.patience.absence };
        let _turn = self.turns.acquire().await.expect("the turns are never closed");
        let mut outcome = self.exchange(bytes.clone(), limits).await;
        if repeatable && matches!(outcome, Err(ExchangeError::HungUp { .. })) {
            tracing::info!("the root helper hung up during {name}; asking again");
            outcome = self.exchange(bytes, limits).await;
        }
        let (answer, descriptor) =
            outcome.map_err(|source| error::classified(format!("cannot have the root helper {name}"), source))?;
        read_answer(name, &answer, descriptor)
    }

    async fn exchange(&self, request: Vec<u8>, limits: Limits) -> Result<(Vec<u8>, Option<OwnedFd>), ExchangeError> {
        let socket = self.socket.clone();
        let exchanged = tokio::task::spawn_blocking(move || exchange::exchange(&socket, &request, limits)).await;
        exchanged.unwrap_or_else(|_| Err(ExchangeError::HungUp { source: None }))
    }
}

fn read_answer(name: &str, bytes: &[u8], descriptor: Option<OwnedFd>) -> Result<Answer, PlatformError> {
    let response = Response::decode(bytes).map_err(|source| mismatch(name).because(source))?;
    match response.outcome {
        Some(response::Outcome::Receipt(Receipt { kind: Some(kind) })) => Ok(match kind {
            receipt::Kind::Done(_) => Answer::Done,
            receipt::Kind::Launched(launched) => Answer::Launched { launched, pidfd: descriptor },
            receipt::Kind::Holdings(holdings) => Answer::Holdings(holdings),
        }),
        Some(response::Outcome::Refusal(refusal)) => Err(refused(refusal)),
        Some(response::Outcome::Receipt(Receipt { kind: None })) | None => Err(mismatch(name)),
    }
}

/// Everything the helper said, as an error of ours.
fn refused(refusal: Refusal) -> PlatformError {
    let failure = Failure::from(banger_proto::v1::Failure {
        kind: refusal.kind.cast_signed(),
        chain: refusal.chain,
        hints: refusal.hints,
        operation_id: String::new(),
        left_behind: refusal.left_behind,
    });
    let mut chain = failure.chain.into_iter();
    let attempt = chain.next().unwrap_or_default();
    let cause = chain.rev().fold(None, |source, text| Some(Box::new(Cause { text, source })));
    PlatformError {
        attempt,
        kind: failure.kind,
        hints: failure.hints,
        source: cause.map(|cause| cause as Box<dyn std::error::Error + Send + Sync>),
        left_behind: failure.left_behind,
    }
}

/// One link of a chain of causes that came as text.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Cause {
    text: String,
    source: Option<Box<Cause>>,
}

fn mismatch(name: &str) -> PlatformError {
    error::plain(Kind::Internal, format!("the root helper gave an answer to {name:?} that does not fit"))
        .hint("Install the same version of both services with `sudo banger system install --owner USER`.")
}

/// Starting and ending a VM takes the helper longer than anything else.
fn is_long(operation: &Operation) -> bool {
    match operation {
        Operation::LaunchVm(_) | Operation::TeardownVm(_) => true,
        Operation::EnsureNetwork(_)
        | Operation::AttachLink(_)
        | Operation::DetachLink(_)
        | Operation::SetNat(_)
        | Operation::SetResolver(_)
        | Operation::CreateRootDisk(_)
        | Operation::SignalVm(_)
        | Operation::Inventory(_) => false,
    }
}

/// Completes "cannot have the root helper".
fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::EnsureNetwork(_) => "put the network in place",
        Operation::AttachLink(_) => "attach a link",
        Operation::DetachLink(_) => "detach a link",
        Operation::SetNat(_) => "switch NAT",
        Operation::SetResolver(_) => "switch the resolver",
        Operation::CreateRootDisk(_) => "create a root disk",
        Operation::LaunchVm(_) => "launch a VM",
        Operation::SignalVm(_) => "signal a VM",
        Operation::TeardownVm(_) => "take a VM away",
        Operation::Inventory(_) => "tell what there is",
    }
}

/// The helper's log takes 1 to 64 of `a-z 0-9 -`.
fn plain_id(operation_id: &str) -> String {
    let plain = |byte: char| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == '-';
    let id: String = operation_id.chars().filter(|byte| plain(*byte)).take(64).collect();
    if id.is_empty() { "-".to_owned() } else { id }
}

#[cfg(test)]
mod tests;
