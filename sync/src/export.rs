//! Brings the guest's work back: as a patch, onto a clean working tree, or as a branch.
//!
//! The guest computes, the host receives bytes. Nothing that comes back is executed or can make something execute:
//! no configuration, hook, filter or submodule URL is taken. Nothing of the host's is ever overwritten: [`apply`]
//! wants a clean tree and files that are what the guest started from, [`branch`] only moves a branch forward.
//! [`caution`] names paths that other programs run by themselves.

pub mod apply;
pub mod branch;
pub mod bundle;
pub mod caution;
pub mod error;
mod placing;
pub mod work;

use std::io;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{ExportPart, ExportRequest, SyncPurpose};
use gix::ObjectId;

use crate::entry::EntryKind;
use crate::path::TreePath;
use crate::prepare::PrepareError;
use crate::prepare::link::Link;
use crate::ssh::Connection;
use crate::wire::{parse_digest, parse_kind};
pub use error::ExportError;

/// Most bytes a guest may send: it must not fill the host's disk.
pub const LIMIT: u64 = 16 << 30;

/// What is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// The commit to compare with; `None`: no files at all.
    pub base: Option<ObjectId>,
    /// The patch.
    pub patch: bool,
    /// Every changed file with its content.
    pub changes: bool,
    /// The guest's commits.
    pub pack: bool,
}

/// What the guest says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Full name of its branch; `None` if detached.
    pub branch: Option<String>,
    /// Its commit; `None` before the first.
    pub head: Option<ObjectId>,
    /// Commits the base does not have.
    pub commits: u64,
    /// Names the exported state, for [`work::mark_exported`].
    pub fingerprint: Vec<u8>,
}

/// One file that is not what the base has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What it is now; `None`: it is gone.
    pub kind: Option<EntryKind>,
    /// Its length.
    pub size: u64,
    /// blake3 of its content.
    pub digest: Option<blake3::Hash>,
    /// What the base has there.
    pub old: Option<(EntryKind, ObjectId)>,
}

/// What arrives, in this order: the patch, changes each with its content, the pack.
#[derive(Debug)]
pub enum Item<'a> {
    /// Bytes of the patch.
    Patch(&'a [u8]),
    /// A change; its content follows.
    Change(Change),
    /// Bytes of that content.
    Content(&'a [u8]),
    /// Bytes of the pack.
    Pack(&'a [u8]),
}

/// Asks the receiver that `command` starts for the guest's work.
///
/// # Errors
/// [`ExportError`].
pub async fn export(
    connection: &Connection,
    command: &str,
    wanted: Wanted,
    take: &mut (dyn FnMut(Item<'_>) -> io::Result<()> + Send),
) -> Result<Summary, ExportError> {
    let (mut link, _) = Link::greet(connection, command, SyncPurpose::Export).await?;
    let base = wanted.base.map(|id| id.as_slice().to_vec()).unwrap_or_default();
    let Wanted { patch, changes, pack, .. } = wanted;
    link.send(&Request::Export(ExportRequest { base, patch, changes, pack })).await?;
    let unexpected = |expected| ExportError::from(PrepareError::Unexpected { expected });
    let Reply::ExportSummary(told) = link.reply().await? else { return Err(unexpected("a summary")) };
    let summary = Summary {
        branch: Some(told.branch).filter(|branch| !branch.is_empty()),
        head: parse_id(&told.head),
        commits: told.commits,
        fingerprint: told.fingerprint,
    };
    let mut received: u64 = 0;
    let mut keep = |item: Item<'_>, bytes: usize| {
        received += bytes as u64;
        if received > LIMIT {
            return Err(ExportError::TooLarge { limit: LIMIT });
        }
        take(item).map_err(|source| ExportError::Keep { source })
    };
    loop {
        match link.reply().await? {
            Reply::ExportData(data) => {
                let bytes = &data.data[..];
                let item = match data.part() {
                    ExportPart::Patch if patch => Item::Patch(bytes),
                    ExportPart::Content if changes => Item::Content(bytes),
                    ExportPart::Pack if pack => Item::Pack(bytes),
                    _ => return Err(unexpected("what was asked for")),
                };
                keep(item, bytes.len())?;
            }
            Reply::ExportChange(change) if changes => {
                let path = TreePath::parse(&change.path).map_err(|_| unexpected("a path inside the tree"))?;
                let kind = parse_kind(change.kind());
                let digest = match kind {
                    Some(_) => Some(parse_digest(&change.digest).ok_or(unexpected("a digest"))?),
                    None => None,
                };
                let old = match parse_kind(change.old_kind()) {
                    Some(kind) => Some((kind, parse_id(&change.old_blob).ok_or(unexpected("an object name"))?)),
                    None => None,
                };
                let length = change.path.len();
                keep(Item::Change(Change { path, kind, size: change.size, digest, old }), length)?;
            }
            Reply::ExportEnd(end) if end.consistent => return Ok(summary),
            Reply::ExportEnd(_) => return Err(ExportError::Moved),
            _ => return Err(unexpected("the guest's work")),
        }
    }
}

fn parse_id(bytes: &[u8]) -> Option<ObjectId> {
    ObjectId::try_from(bytes).ok().filter(|id| !id.is_null())
}
