//! Why a transfer stopped, as the receiver saw it, and how the host is told.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest::v1::{FailureClass, SyncFailure};

use crate::frames::FrameError;
use crate::path::{TreePath, render};
use crate::wire::{InvalidEntry, class_of_io};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The channel.
    #[error("the transfer broke off")]
    Stream {
        /// Why.
        source: FrameError,
    },
    /// The host went away before it was done.
    #[error("the host ended the transfer before it was complete")]
    HostGone,
    /// A host of another version.
    #[error("the host speaks version {theirs} of the transfer protocol, this guest version {}", crate::frames::VERSION)]
    Version {
        /// The host's.
        theirs: u32,
    },
    /// A message that does not belong here.
    #[error("expected {expected} from the host and received something else")]
    Unexpected {
        /// What would have been right.
        expected: &'static str,
    },
    /// The manifest as a whole is wrong.
    #[error("the manifest is invalid: {problem}")]
    Manifest {
        /// What is wrong.
        problem: &'static str,
    },
    /// A part of it is.
    #[error("the manifest is invalid")]
    Entry {
        /// What is wrong.
        source: InvalidEntry,
    },
    /// The content is not what was announced.
    #[error("the content received for {path} does not match its digest")]
    Content {
        /// Of which file.
        path: String,
    },
    /// There is something there already.
    #[error("the directory {} in the guest is not empty and was not made by banger", root.display())]
    Occupied {
        /// The root.
        root: PathBuf,
    },
    /// Somebody else is at it.
    #[error("another transfer into {} is running", root.display())]
    Busy {
        /// The root.
        root: PathBuf,
    },
    /// The memory of earlier runs cannot be understood.
    #[error("the record of earlier transfers in {} is damaged", root.display())]
    State {
        /// The root.
        root: PathBuf,
    },
    /// The root itself.
    #[error("cannot {action} {} in the guest", root.display())]
    Root {
        /// What was tried.
        action: &'static str,
        /// The root.
        root: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing of ours is there.
    #[error("there is no workspace in {}", root.display())]
    NoWorkspace {
        /// The root.
        root: PathBuf,
    },
    /// The guest does not have what to compare with.
    #[error("the guest does not have the commit {base}")]
    UnknownBase {
        /// In hexadecimal.
        base: String,
    },
    /// git in the guest, or the room it needs.
    #[error("cannot {action} the workspace")]
    Export {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something beneath it.
    #[error("cannot {action} {} in the guest", render(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// Relative to the root.
        path: Vec<u8>,
        /// Why not.
        source: io::Error,
    },
}

impl ReceiverError {
    pub(super) fn at(action: &'static str, path: &TreePath) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_bytes().to_vec();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn in_git(action: &'static str, name: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: [b".git/", name.as_bytes()].concat(), source }
    }

    /// What the host is told; nothing if it cannot hear.
    pub(super) fn to_wire(&self) -> Option<SyncFailure> {
        let class = match self {
            Self::Stream { source: FrameError::Invalid { .. } } => FailureClass::Protocol,
            Self::Stream { .. } | Self::HostGone => return None,
            Self::Version { .. } => FailureClass::Version,
            Self::Unexpected { .. } | Self::Manifest { .. } | Self::Entry { .. } | Self::Content { .. } => {
                FailureClass::Protocol
            }
            Self::Occupied { .. } => FailureClass::Occupied,
            Self::Busy { .. } => FailureClass::Busy,
            Self::State { .. } => FailureClass::Io,
            Self::NoWorkspace { .. } | Self::UnknownBase { .. } => FailureClass::NotFound,
            Self::Export { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureClass::NoGit,
            Self::Export { source, .. } => class_of_io(source),
            Self::Root { source, .. } | Self::Io { source, .. } => class_of_io(source),
        };
        let mut chain = vec![self.to_string()];
        let mut cause = self.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        Some(SyncFailure { class: class.into(), chain })
    }
}

impl Classified for ReceiverError {
    fn kind(&self) -> Kind {
        match self {
            Self::Stream { .. }
            | Self::HostGone
            | Self::State { .. }
            | Self::Export { .. }
            | Self::Root { .. }
            | Self::Io { .. } => Kind::Failed,
            Self::NoWorkspace { .. } | Self::UnknownBase { .. } => Kind::NotFound,
            Self::Version { .. } | Self::Occupied { .. } | Self::Busy { .. } => Kind::Conflict,
            Self::Unexpected { .. } | Self::Manifest { .. } | Self::Entry { .. } | Self::Content { .. } => {
                Kind::Internal
            }
        }
    }
}
