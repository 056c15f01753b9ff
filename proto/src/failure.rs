//! Errors that survive gRPC: kind, chain, hints, operation id.
//!
//! Each program keeps its own `thiserror` enums; at its edge it turns them into a [`Failure`] with
//! [`Failure::from_error`]. The CLI renders the same value whether the error was its own or came
//! from the daemon. [`Kind`] is the published vocabulary; its exit codes are in docs/cli.md.

use std::error::Error;
use std::fmt;

use crate::v1;

/// The finite set of failure classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It did not work.
    Failed,
    /// What was asked for is malformed.
    Usage,
    /// It names something that does not exist.
    NotFound,
    /// It exists already or is in the wrong state.
    Conflict,
    /// Policy or safety forbids it.
    Refused,
    /// The daemon cannot be reached.
    Unreachable,
    /// The host lacks a tool, device, setting or space.
    HostNotReady,
    /// The user stopped it.
    Cancelled,
    /// A bug in banger.
    Internal,
}

impl Kind {
    /// Exit code of the process (docs/cli.md).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Refused => 5,
            Self::Unreachable => 6,
            Self::HostNotReady => 7,
            Self::Cancelled => 130,
            Self::Internal => 70,
        }
    }

    /// The name in `--json` output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::HostNotReady => "host_not_ready",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    fn to_wire(self) -> v1::FailureKind {
        match self {
            Self::Failed => v1::FailureKind::Failed,
            Self::Usage => v1::FailureKind::Usage,
            Self::NotFound => v1::FailureKind::NotFound,
            Self::Conflict => v1::FailureKind::Conflict,
            Self::Refused => v1::FailureKind::Refused,
            Self::Unreachable => v1::FailureKind::Unreachable,
            Self::HostNotReady => v1::FailureKind::HostNotReady,
            Self::Cancelled => v1::FailureKind::Cancelled,
            Self::Internal => v1::FailureKind::Internal,
        }
    }

    fn from_wire(kind: v1::FailureKind) -> Self {
        match kind {
            v1::FailureKind::Failed => Self::Failed,
            v1::FailureKind::Usage => Self::Usage,
            v1::FailureKind::NotFound => Self::NotFound,
            v1::FailureKind::Conflict => Self::Conflict,
            v1::FailureKind::Refused => Self::Refused,
            v1::FailureKind::Unreachable => Self::Unreachable,
            v1::FailureKind::HostNotReady => Self::HostNotReady,
            v1::FailureKind::Cancelled => Self::Cancelled,
            v1::FailureKind::Internal | v1::FailureKind::Unspecified => Self::Internal,
        }
    }
}

/// Implemented beside every operation's error: its class and the ways out.
pub trait Classified: Error {
    /// The class; match exhaustively.
    fn kind(&self) -> Kind;

    /// Full sentences, each naming a command to run. Empty if there is nothing useful to say.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An error ready to be shown or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub kind: Kind,
    /// Outermost first; never empty.
    pub chain: Vec<String>,
    /// Ways out, deduplicated, in order.
    pub hints: Vec<String>,
    /// Operation to look for in the log, or empty.
    pub operation_id: String,
    /// What could not be released.
    pub left_behind: Vec<String>,
}

impl Failure {
    /// A failure with one message and no cause.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            chain: vec![message.into()],
            hints: Vec::new(),
            operation_id: String::new(),
            left_behind: Vec::new(),
        }
    }

    /// The error, its chain of sources and its hints.
    pub fn from_error<E: Classified>(error: &E) -> Self {
        let mut failure = Self::new(error.kind(), error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if failure.chain.last() != Some(&text) {
                failure.chain.push(text);
            }
            source = cause.source();
        }
        for hint in error.hints() {
            failure = failure.hint(hint);
        }
        failure
    }

    /// Adds a hint unless it is there already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }

    /// Puts a message in front of the chain.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        self.chain.insert(0, message.into());
        self
    }

    /// Appends a cause to the chain.
    #[must_use]
    pub fn caused_by(mut self, message: impl Into<String>) -> Self {
        self.chain.push(message.into());
        self
    }

    /// Names the operation it belongs to, unless one is named already.
    #[must_use]
    pub fn in_operation(mut self, id: &str) -> Self {
        if self.operation_id.is_empty() {
            id.clone_into(&mut self.operation_id);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl Error for Failure {}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind.to_wire().into(),
            chain: failure.chain.clone(),
            hints: failure.hints.clone(),
            operation_id: failure.operation_id.clone(),
            left_behind: failure.left_behind.clone(),
        }
    }
}

impl From<v1::Failure> for Failure {
    fn from(wire: v1::Failure) -> Self {
        let kind = Kind::from_wire(wire.kind());
        let chain = if wire.chain.is_empty() { vec!["the daemon gave no reason".to_owned()] } else { wire.chain };
        Self { kind, chain, hints: wire.hints, operation_id: wire.operation_id, left_behind: wire.left_behind }
    }
}

/// Failure ↔ gRPC status: the message is the joined chain, the details carry the whole [`v1::Failure`].
#[cfg(any(feature = "client", feature = "server"))]
mod status {
    use prost::Message;
    use tonic::{Code, Status};

    use super::{Failure, Kind};
    use crate::v1;

    impl From<&Failure> for Status {
        fn from(failure: &Failure) -> Self {
            let code = match failure.kind {
                Kind::Failed => Code::Unknown,
                Kind::Usage => Code::InvalidArgument,
                Kind::NotFound => Code::NotFound,
                Kind::Conflict => Code::FailedPrecondition,
                Kind::Refused => Code::PermissionDenied,
                Kind::Unreachable => Code::Unavailable,
                Kind::HostNotReady => Code::ResourceExhausted,
                Kind::Cancelled => Code::Cancelled,
                Kind::Internal => Code::Internal,
            };
            Status::with_details(code, failure.to_string(), v1::Failure::from(failure).encode_to_vec().into())
        }
    }

    impl From<Failure> for Status {
        fn from(failure: Failure) -> Self {
            Self::from(&failure)
        }
    }

    impl From<Status> for Failure {
        fn from(status: Status) -> Self {
            if !status.details().is_empty()
                && let Ok(wire) = v1::Failure::decode(status.details())
            {
                return wire.into();
            }
            // No details: the transport itself failed, or the peer is not ours.
            let kind = match status.code() {
                Code::Cancelled => Kind::Cancelled,
                Code::Unavailable | Code::DeadlineExceeded => Kind::Unreachable,
                // A cause does not travel: this side made the status because the connection broke.
                Code::Unknown if std::error::Error::source(&status).is_some() => Kind::Unreachable,
                Code::InvalidArgument => Kind::Usage,
                Code::NotFound => Kind::NotFound,
                Code::PermissionDenied | Code::Unauthenticated => Kind::Refused,
                _ => Kind::Internal,
            };
            Failure::new(
                kind,
                if status.message().is_empty() {
                    status.code().description().to_owned()
                } else {
                    status.message().to_owned()
                },
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer {
        source: std::io::Error,
    }

    impl Classified for Outer {
        fn kind(&self) -> Kind {
            Kind::HostNotReady
        }
        fn hints(&self) -> Vec<String> {
            vec!["Run `banger doctor`.".into(), "Run `banger doctor`.".into()]
        }
    }

    #[test]
    fn the_chain_keeps_each_cause_once_and_hints_are_deduplicated() {
        let error = Outer { source: std::io::Error::other("disk is gone") };
        let failure = Failure::from_error(&error);
        assert_eq!(failure.chain, ["cannot open the store", "disk is gone"]);
        assert_eq!(failure.hints, ["Run `banger doctor`."]);
    }

    #[test]
    fn nothing_is_lost_on_the_wire() {
        let mut failure = Failure::new(Kind::Conflict, "a").caused_by("b").hint("Run `c`.").in_operation("op-1");
        failure.left_behind.push("tap".into());
        assert_eq!(Failure::from(v1::Failure::from(&failure)), failure);
    }

    #[cfg(any(feature = "client", feature = "server"))]
    #[test]
    fn a_broken_connection_is_told_from_an_unknown_answer() {
        use tonic::Status;
        assert_eq!(Failure::from(Status::from_error("transport error".into())).kind, Kind::Unreachable);
        assert_eq!(Failure::from(Status::unknown("transport error")).kind, Kind::Internal);
    }
}
