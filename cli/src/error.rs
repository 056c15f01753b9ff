//! The one error type of the CLI: every operation's own error, and every answer of the daemon, becomes a
//! [`Failure`] here, and here is how it looks and which exit code it means. Never prints: see [`crate::ui`].

use banger_proto::failure::{Classified, Failure, Kind};
use serde::Serialize;

use crate::ui::style::{Paint, escape, escape_lines};

/// Why a command ends early.
#[derive(Debug)]
pub enum CliError {
    /// Something failed and the user is told.
    Failed(Box<Failure>),
    /// The reader of our output has gone: nobody is left to tell, and nothing is wrong.
    OutputClosed,
}

/// What a command returns: the exit status of the process.
pub type CommandResult = Result<u8, CliError>;

/// Like a program that SIGPIPE ended.
pub const OUTPUT_CLOSED_STATUS: u8 = 128 + 13;

impl CliError {
    /// A failure with one message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self::Failed(Box::new(Failure::new(kind, message)))
    }

    /// What was typed makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The user stopped it.
    pub fn cancelled(what: impl Into<String>) -> Self {
        Self::new(Kind::Cancelled, what)
    }

    /// Adds a way out.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.map(|failure| failure.hint(hint))
    }

    /// Puts what was tried in front.
    #[must_use]
    pub fn context(self, message: impl Into<String>) -> Self {
        self.map(|failure| failure.context(message))
    }

    /// Changes the failure, if it is one.
    #[must_use]
    pub fn map(self, change: impl FnOnce(Failure) -> Failure) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(Box::new(change(*failure))),
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    /// The class, if something failed.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Failed(failure) => Some(failure.kind),
            Self::OutputClosed => None,
        }
    }

    /// Exit status of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(failure) => failure.kind.exit_code(),
            Self::OutputClosed => OUTPUT_CLOSED_STATUS,
        }
    }
}

impl<E: Classified> From<E> for CliError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(Failure::from_error(&error)))
    }
}

/// Turns the two error types that carry a ready-made failure into ours (they cannot implement `Classified`).
pub trait OrFail<T> {
    /// The value, or the failure inside the error.
    ///
    /// # Errors
    /// The failure.
    fn or_fail(self) -> Result<T, CliError>;
}

impl<T> OrFail<T> for Result<T, tonic::Status> {
    fn or_fail(self) -> Result<T, CliError> {
        self.map_err(|status| CliError::Failed(Box::new(Failure::from(status))))
    }
}

impl<T> OrFail<T> for Result<T, Failure> {
    fn or_fail(self) -> Result<T, CliError> {
        self.map_err(|failure| CliError::Failed(Box::new(failure)))
    }
}

/// A failure for people. Every line is safe on a terminal.
pub fn render(failure: &Failure, paint: Paint) -> String {
    let mut chain = failure.chain.iter().map(|text| escape_lines(text));
    let mut text = format!("{} {}\n", paint.error("error:"), chain.next().unwrap_or_default());
    for cause in chain {
        text += &format!("{} {cause}\n", paint.dim("caused by:"));
    }
    for left in &failure.left_behind {
        text += &format!("{} {}\n", paint.warning("left behind:"), escape(left));
    }
    for hint in &failure.hints {
        text += &format!("{} {}\n", paint.hint("hint:"), escape(hint));
    }
    if !failure.operation_id.is_empty() {
        text += &format!("{}\n", paint.dim(&format!("operation: {}", escape(&failure.operation_id))));
    }
    text
}

/// A failure for programs (docs/cli.md, "Errors").
#[derive(Debug, Serialize)]
pub struct FailureView<'a> {
    kind: &'static str,
    exit_code: u8,
    message: &'a str,
    causes: &'a [String],
    hints: &'a [String],
    operation_id: Option<&'a str>,
    left_behind: &'a [String],
}

impl<'a> From<&'a Failure> for FailureView<'a> {
    fn from(failure: &'a Failure) -> Self {
        let (message, causes) = match failure.chain.split_first() {
            Some((message, causes)) => (message.as_str(), causes),
            None => ("", [].as_slice()),
        };
        Self {
            kind: failure.kind.name(),
            exit_code: failure.kind.exit_code(),
            message,
            causes,
            hints: &failure.hints,
            operation_id: Some(failure.operation_id.as_str()).filter(|id| !id.is_empty()),
            left_behind: &failure.left_behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        let mut failure = Failure::new(Kind::Conflict, "cannot start VM box")
            .caused_by("it is \u{1b}[31mrunning\u{1b}[0m already")
            .hint("Stop it with `banger vm stop box`.")
            .in_operation("op-7");
        failure.left_behind.push("disk file".into());
        failure
    }

    #[test]
    fn every_part_has_its_own_line_and_control_characters_are_escaped() {
        assert_eq!(
            render(&failure(), Paint::plain()),
            "error: cannot start VM box\n\
             caused by: it is \\u{1b}[31mrunning\\u{1b}[0m already\n\
             left behind: disk file\n\
             hint: Stop it with `banger vm stop box`.\n\
             operation: op-7\n"
        );
    }

    #[test]
    fn the_json_form_has_stable_keys() {
        let json = serde_json::to_value(FailureView::from(&failure())).unwrap_or_default();
        assert_eq!(
            json,
            serde_json::json!({
                "kind": "conflict", "exit_code": 4, "message": "cannot start VM box",
                "causes": ["it is \u{1b}[31mrunning\u{1b}[0m already"],
                "hints": ["Stop it with `banger vm stop box`."],
                "operation_id": "op-7", "left_behind": ["disk file"],
            })
        );
    }

    #[test]
    fn every_kind_has_the_documented_exit_code() {
        for (kind, code) in [
            (Kind::Failed, 1),
            (Kind::Usage, 2),
            (Kind::NotFound, 3),
            (Kind::Conflict, 4),
            (Kind::Refused, 5),
            (Kind::Unreachable, 6),
            (Kind::HostNotReady, 7),
            (Kind::Internal, 70),
            (Kind::Cancelled, 130),
        ] {
            assert_eq!(CliError::new(kind, "x").exit_code(), code);
        }
        assert_eq!(CliError::OutputClosed.exit_code(), 141);
    }
}
