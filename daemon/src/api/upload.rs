//! Files that a client sends, piece by piece, into a directory that disappears with its value.
//!
//! No path of the client's reaches further than into that directory, and no more arrives than announced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::{FilePiece, ProgressUnit};
use tempfile::TempDir;

use crate::artifact::{caused_by_full_disk, disk_full_hint};
use crate::reporter::Reporter;

const MOST_FILES: usize = 50_000;
const MOST_BYTES: u64 = 256 << 30;
const REPORT_EVERY: u64 = 32 << 20;

/// Why files did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The client broke off or sent something else.
    #[error("the client stopped sending files")]
    Client {
        /// The cause.
        source: tonic::Status,
    },
    /// The first message does not say what is coming.
    #[error("the files come without saying what they are")]
    NoStart,
    /// A path, size or offset that cannot be.
    #[error("the file {path:?} was sent in a wrong way: {reason}")]
    Piece {
        /// As sent.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It could not be written.
    #[error("cannot write the received file {path:?}")]
    Write {
        /// As sent.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The user stopped it.
    #[error("receiving the files was cancelled")]
    Cancelled,
}

impl Classified for UploadError {
    fn kind(&self) -> Kind {
        match self {
            Self::Client { .. } | Self::Cancelled => Kind::Cancelled,
            Self::NoStart | Self::Piece { .. } => Kind::Usage,
            Self::Write { .. } if caused_by_full_disk(self) => Kind::HostNotReady,
            Self::Write { .. } => Kind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        disk_full_hint(self)
    }
}

/// What has arrived.
pub(super) struct Upload {
    directory: TempDir,
    /// Pieces of one file follow each other.
    current: Option<(String, File, u64)>,
    files: usize,
    received: u64,
}

impl Upload {
    /// An empty one below `parent`.
    pub fn below(parent: &Path) -> Result<Self, UploadError> {
        let directory = tempfile::Builder::new().prefix("upload@").tempdir_in(parent);
        let directory =
            directory.map_err(|source| UploadError::Write { path: parent.display().to_string(), source })?;
        Ok(Self { directory, current: None, files: 0, received: 0 })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes one piece.
    pub fn take(&mut self, piece: &FilePiece, reporter: &Reporter) -> Result<(), UploadError> {
        let wrong = |reason| UploadError::Piece { path: piece.path.clone(), reason };
        let write = |source| UploadError::Write { path: piece.path.clone(), source };
        let end = piece.offset.checked_add(piece.data.len() as u64).ok_or_else(|| wrong("it ends nowhere"))?;
        if self.current.as_ref().is_none_or(|(path, ..)| *path != piece.path) {
            self.current = None;
            self.files += 1;
            if self.files > MOST_FILES || piece.size > MOST_BYTES {
                return Err(wrong("there are too many files, or it is too large"));
            }
            let path = self.place(&piece.path).ok_or_else(|| wrong("its path is not relative and plain"))?;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(write)?;
            }
            let file = File::options().write(true).create_new(true).open(&path).map_err(write)?;
            file.set_len(piece.size).map_err(write)?;
            self.current = Some((piece.path.clone(), file, piece.size));
        }
        let (_, file, size) = self.current.as_ref().expect("set above");
        if end > *size {
            return Err(wrong("it has more bytes than announced"));
        }
        file.write_all_at(&piece.data, piece.offset).map_err(write)?;
        let before = self.received;
        self.received += piece.data.len() as u64;
        if before / REPORT_EVERY != self.received / REPORT_EVERY {
            reporter.progress(self.received, 0, ProgressUnit::Bytes, "receiving files");
        }
        Ok(())
    }

    fn place(&self, path: &str) -> Option<PathBuf> {
        let relative = Path::new(path);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        (plain && !path.is_empty() && path.len() < 1024).then(|| self.path().join(relative))
    }
}
