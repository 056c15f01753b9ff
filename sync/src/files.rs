//! Files of the owner's home that every guest gets: read beneath the home, delivered below the guest's.
//!
//! ```text
//! Wanted ─read──▶ Files (content in memory, bounded) ─deliver─▶ receiver ─▶ Delivered
//!        source                                       one SSH channel
//! ```
//! Everything is read before a guest exists, so that what cannot be read stops the command early, and what is sent is what
//! was checked. Contents may be secrets: they have no `Debug`, are in no message and are written nowhere on this side.

mod error;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Chunk, DeliverEntry, DeliverPart, SyncPurpose};

use crate::bitmap;
use crate::frames::CHUNK;
use crate::path::TreePath;
pub use crate::piece::{BYTES_LIMIT, PIECES_LIMIT};
use crate::piece::{Piece, What};
use crate::prepare::link::Link;
use crate::prepare::{Conflict, PrepareError, outcome};
use crate::ssh::Connection;
pub use error::FilesError;

/// How deep a directory may go.
pub const DEPTH_LIMIT: usize = 64;
/// Permissions of a file for which none are given.
const FILE_MODE: u32 = 0o600;
/// Of a directory nobody names, on the way to what is named.
const PARENT_MODE: u32 = 0o700;
/// Entries in one part; with the longest paths and targets still far below the limit of a frame.
const ENTRIES_A_PART: usize = 200;

/// One entry of the configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its number, counted from 1, for messages.
    pub entry: usize,
    /// Below the home.
    pub host: PathBuf,
    /// As it was written, for messages.
    pub shown: String,
    /// Below the guest's home.
    pub guest: TreePath,
    /// Permissions of a file; a directory has its own.
    pub mode: Option<u32>,
}

/// Who may have written what is in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Its image and nobody else: what is in the way is replaced.
    Fresh,
    /// Anybody: what is not ours is kept.
    Used,
}

/// What was read.
#[derive(Default)]
pub struct Files {
    items: Vec<Item>,
    warnings: Vec<String>,
}

struct Item {
    piece: Piece,
    content: Vec<u8>,
    /// Only on the way to something that is named.
    implied: bool,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Files and links that were written.
    pub written: u64,
    /// Bytes that were sent.
    pub bytes_sent: u64,
    /// What the guest keeps.
    pub conflicts: Vec<Conflict>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} items, {} bytes)", self.items.len(), self.bytes())
    }
}

impl Files {
    /// Reads what is wanted beneath `home`. What is missing, or cannot be in a guest, is a warning.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn read(home: &Path, wanted: &[Wanted]) -> Result<Self, FilesError> {
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let mut source = source::Source::open(home)?;
        for one in wanted {
            source.take(one)?;
        }
        Ok(source.finish())
    }

    /// True if there is nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many files and links.
    pub fn count(&self) -> usize {
        self.items.iter().filter(|item| item.piece.what != What::Directory).count()
    }

    /// How many bytes are in them.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.piece.what.size()).sum()
    }

    /// What was left out, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Brings them below the guest's home, through the receiver that `command` starts.
///
/// # Errors
/// [`PrepareError`]; what was delivered before it stays.
pub async fn deliver(
    connection: &Connection,
    files: &Files,
    guest: Guest,
    command: &str,
) -> Result<Delivered, PrepareError> {
    if files.is_empty() {
        return Ok(Delivered { written: 0, bytes_sent: 0, conflicts: Vec::new() });
    }
    let (mut link, _) = Link::greet(connection, command, SyncPurpose::Deliver).await?;
    let mut parts = files.items.chunks(ENTRIES_A_PART).peekable();
    while let Some(part) = parts.next() {
        let entries = part.iter().map(|item| DeliverEntry::from(&item.piece)).collect();
        let fresh_guest = guest == Guest::Fresh;
        link.send(&Request::Deliver(DeliverPart { entries, fresh_guest, last: parts.peek().is_none() })).await?;
    }
    let Reply::Need(need) = link.reply().await? else {
        return Err(PrepareError::Unexpected { expected: "the list of needed files" });
    };
    let bits = bitmap::parse(&need.bitmap, files.items.len());
    let Some(bits) = bits else { return Err(PrepareError::Unexpected { expected: "one bit an entry" }) };
    let mut bytes_sent = 0;
    for (item, _) in files.items.iter().zip(bits).filter(|(_, is_needed)| *is_needed) {
        for chunk in item.content.chunks(CHUNK) {
            link.send(&Request::Chunk(Chunk { data: chunk.to_vec().into() })).await?;
        }
        bytes_sent += item.content.len() as u64;
    }
    let outcome = outcome(&mut link).await?;
    Ok(Delivered { written: outcome.done.files_written, bytes_sent, conflicts: outcome.conflicts })
}
