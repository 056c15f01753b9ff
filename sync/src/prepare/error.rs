//! Why a prepare failed, as the host tells it.

use std::io;
use std::sync::Arc;

use banger_proto::failure::{Classified, Kind};
use banger_proto::frame::InvalidFrame;
use banger_proto::guest::v1::{FailureClass, SyncFailure};

use crate::digest::TreeDigest;
use crate::overlay::OverlayError;
use crate::pack::PackError;
use crate::ssh::{ExitStatus, SessionError};

/// How much of a guest's own words is repeated.
const CHAIN: usize = 8;
const CHARACTERS: usize = 500;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The channel.
    #[error("cannot talk to the receiver in the guest")]
    Session {
        /// Why not.
        source: SessionError,
    },
    /// The receiver went away.
    #[error("the receiver in the guest ended early ({}){}", ended(status.as_ref()), said(output))]
    ReceiverGone {
        /// How, if it was not the connection.
        status: Option<ExitStatus>,
        /// What it wrote to standard error.
        output: String,
    },
    /// Bytes that are not ours.
    #[error("the guest sends something that is not the transfer protocol")]
    Invalid {
        /// What is wrong with it.
        source: InvalidFrame,
    },
    /// Something prints before the receiver starts.
    #[error("the guest prints {text:?} where the receiver should answer")]
    Noise {
        /// The beginning of it.
        text: String,
    },
    /// A guest of another version.
    #[error("the guest speaks version {theirs} of the transfer protocol, this host version {}", crate::frames::VERSION)]
    Version {
        /// The guest's.
        theirs: u32,
    },
    /// A message that does not belong here.
    #[error("expected {expected} from the guest and received something else")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
    },
    /// The receiver reports a failure.
    #[error("{}", chain.join(": "))]
    Guest {
        /// What kind.
        class: FailureClass,
        /// Its own words, outermost first.
        chain: Vec<String>,
    },
    /// The working tree cannot be read any more.
    #[error("cannot read the working tree for the guest")]
    Content {
        /// Why not.
        source: OverlayError,
    },
    /// The objects cannot be packed.
    #[error("cannot make the guest's git objects")]
    Pack {
        /// Why not.
        source: PackError,
    },
    /// The guest's index cannot be made.
    #[error("cannot make the guest's git index")]
    Index {
        /// Why not.
        source: Arc<OverlayError>,
    },
    /// No place for the pack.
    #[error("cannot keep the git objects in a temporary file")]
    Temporary {
        /// Why not.
        source: io::Error,
    },
    /// The two sides do not agree.
    #[error("the guest has the tree {guest} where the host has {host}")]
    DigestMismatch {
        /// Ours.
        host: TreeDigest,
        /// Theirs.
        guest: TreeDigest,
    },
    /// The caller gave up.
    #[error("the transfer was cancelled")]
    Cancelled,
}

impl PrepareError {
    pub(super) fn from_guest(failure: SyncFailure) -> Self {
        let class = failure.class();
        let mut chain: Vec<String> = failure.chain.iter().take(CHAIN).map(|text| printable(text)).collect();
        if chain.is_empty() {
            chain.push("the guest gave no reason".into());
        }
        Self::Guest { class, chain }
    }
}

impl Classified for PrepareError {
    fn kind(&self) -> Kind {
        match self {
            Self::Session { source } => source.kind(),
            Self::Content { source } => source.kind(),
            Self::Pack { source } => source.kind(),
            Self::Index { source } => source.kind(),
            Self::ReceiverGone { .. } | Self::Noise { .. } => Kind::Failed,
            Self::Invalid { .. } | Self::Unexpected { .. } | Self::DigestMismatch { .. } => Kind::Internal,
            Self::Version { .. } => Kind::Conflict,
            Self::Temporary { .. } => Kind::HostNotReady,
            Self::Cancelled => Kind::Cancelled,
            Self::Guest { class, .. } => match class {
                FailureClass::Occupied | FailureClass::Busy | FailureClass::Version => Kind::Conflict,
                FailureClass::Protocol => Kind::Internal,
                FailureClass::NotFound => Kind::NotFound,
                FailureClass::NoSpace
                | FailureClass::NoGit
                | FailureClass::ReadOnly
                | FailureClass::Permission
                | FailureClass::Io
                | FailureClass::Unspecified => Kind::Failed,
            },
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Session { source } => source.hints(),
            Self::Content { source } => source.hints(),
            Self::Pack { source } => source.hints(),
            Self::Index { source } => source.hints(),
            Self::ReceiverGone { .. } => vec!["See what the guest says with `banger vm logs`.".into()],
            Self::Version { .. } => {
                vec!["The VM was made by another version of banger; make it anew with `banger vm create`.".into()]
            }
            Self::Noise { .. } => vec![
                "A shell start-up file in the guest may print something; see it with `banger vm ssh VM -- true`."
                    .into(),
            ],
            Self::DigestMismatch { .. } => vec!["Run the same command again; it sends only what differs.".into()],
            Self::Temporary { .. } => vec!["See whether the disk is full with `df -h`.".into()],
            Self::Invalid { .. } | Self::Unexpected { .. } | Self::Cancelled => Vec::new(),
            Self::Guest { class, .. } => match class {
                FailureClass::NoSpace => {
                    vec!["Give the VM a larger work disk with `banger vm create --disk-size`.".into()]
                }
                FailureClass::Occupied => {
                    vec!["Choose another directory in the guest with `--guest-path`.".into()]
                }
                FailureClass::Busy => vec!["Wait for the other transfer; see it with `banger vm list`.".into()],
                FailureClass::NotFound => vec![
                    "See what is there with `banger vm exec VM -- git log`, or put a workspace there with `banger vm workspace prepare VM`.".into(),
                ],
                FailureClass::NoGit => vec![
                    "Install git in the guest, for example with `banger vm exec VM -- apt-get install git`, or fetch the files alone with `banger vm exec VM -- tar -c . > work.tar`.".into(),
                ],
                FailureClass::ReadOnly
                | FailureClass::Permission
                | FailureClass::Version
                | FailureClass::Protocol
                | FailureClass::Io
                | FailureClass::Unspecified => Vec::new(),
            },
        }
    }
}

/// Text of a guest for a person's terminal: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .take(CHARACTERS)
        .flat_map(|letter| {
            let escaped = letter.is_control().then(|| letter.escape_default());
            escaped.clone().into_iter().flatten().chain(escaped.is_none().then_some(letter))
        })
        .collect()
}

fn ended(status: Option<&ExitStatus>) -> String {
    match status {
        Some(ExitStatus::Code(127)) => "its program was not found".into(),
        Some(ExitStatus::Code(code)) => format!("exit status {code}"),
        Some(ExitStatus::Signal(name)) => format!("killed by SIG{name}"),
        None => "the connection was lost".into(),
    }
}

fn said(output: &str) -> String {
    if output.trim().is_empty() { String::new() } else { format!(": {}", output.trim()) }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_guest_cannot_write_to_the_terminal() {
        assert_eq!(printable("plain é\u{1b}[31m\n"), "plain é\\u{1b}[31m\\n");
        assert_eq!(printable(&"x".repeat(9999)).len(), super::CHARACTERS);
    }
}
