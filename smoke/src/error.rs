//! Why a run could not be made. That a scenario failed is no error but a result ([`crate::report`]).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation.
    #[error("cannot {what} {path}")]
    File {
        /// As an infinitive.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ended badly.
    #[error("{what} failed with status {status}:\n{end}")]
    Failed {
        /// What it was for.
        what: String,
        /// Its exit status.
        status: i32,
        /// The end of what it printed.
        end: String,
    },
    /// A program did not end.
    #[error("{what} did not end within {} s:\n{end}", limit.as_secs())]
    TookTooLong {
        /// What it was for.
        what: String,
        /// How long it had.
        limit: Duration,
        /// The end of what it printed.
        end: String,
    },
    /// The host does not answer.
    #[error("the test host did not come up: {reason}\nits console ends with:\n{console}")]
    HostIsDown {
        /// What was waited for, or what was seen.
        reason: String,
        /// The end of its console.
        console: String,
    },
    /// A download is not what it should be.
    #[error("{path} has sha256 {found}, not {expected}")]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A scenario's header.
    #[error("{path}: {reason}")]
    Header {
        /// The scenario.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No scenario of that name.
    #[error("there is no scenario {name:?}")]
    NoSuchScenario {
        /// What was asked for.
        name: String,
    },
    /// Two runs would take each other's machine.
    #[error("another run uses {path}")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The workspace cannot be found.
    #[error("{path} is not a checkout of banger")]
    NoWorkspace {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A store without what is needed.
    #[error("there is no finished {name} in {shelf}")]
    NotInStore {
        /// What was looked for.
        name: &'static str,
        /// Where.
        shelf: PathBuf,
    },
    /// `--local` on a machine that is no supported host.
    #[error("this machine is no supported host: {reason}")]
    Unsupported {
        /// What it lacks.
        reason: &'static str,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("Install what is missing with `make install-deps`.")
            }
            // What `timeout` returns for a program that is not there.
            Self::Failed { status: 127, .. } => Some("Install what is missing with `make install-deps`."),
            Self::NoSuchScenario { .. } => Some("See them with `banger-smoke run --list`."),
            Self::Busy { .. } => Some("Wait for it: two emulated hosts at once only slow each other down."),
            Self::NoWorkspace { .. } => Some("Start `banger-smoke` in a checkout, or set `BANGER_WORKSPACE`."),
            Self::Unsupported { .. } => Some("Run the scenarios in a virtual host: `banger-smoke run`."),
            _ => None,
        }
    }

    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::File { what, path, source }
    }
}
