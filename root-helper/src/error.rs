//! One step on the host that did not work, and how every error becomes an answer.

use std::error::Error;

use banger_proto::failure::{Classified, Kind};

/// What was tried and why it did not work.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt}")]
pub struct StepError {
    /// "create the tap fc-…": completes "cannot".
    attempt: String,
    kind: Kind,
    source: Box<dyn Error + Send + Sync>,
}

/// What a step gives.
pub type Step<T> = Result<T, StepError>;

impl StepError {
    /// It was tried and failed.
    pub fn new(attempt: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { attempt: attempt.into(), kind: Kind::Failed, source: source.into() }
    }

    /// It was not even tried: what was found must not be used.
    pub fn refused(attempt: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { attempt: attempt.into(), kind: Kind::Refused, source: reason.into().into() }
    }

    /// What it needs is not there.
    pub fn not_found(attempt: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { attempt: attempt.into(), kind: Kind::NotFound, source: source.into() }
    }
}

impl Classified for StepError {
    fn kind(&self) -> Kind {
        self.kind
    }
}

/// For `map_err`: names the attempt of a call that failed.
pub fn step<E: Into<Box<dyn Error + Send + Sync>>>(attempt: impl Into<String>) -> impl FnOnce(E) -> StepError {
    |source| StepError::new(attempt, source)
}

/// An error and its causes in one line, for what cannot be answered to anybody.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
