//! One exchange with the receiver: a batch of edits, a look of the guest at its tree, or one file back.

use std::path::PathBuf;
use std::time::SystemTime;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Check, DeltaPart, Fetch, WireEntry};

use super::mirror::Changes;
use crate::entry::Entry;
use crate::overlay::Source;
use crate::path::TreePath;
use crate::prepare::content::{self, Changed, Contents};
use crate::prepare::link::Link;
use crate::prepare::metadata::Metadata;
use crate::prepare::{Outcome, PrepareError, outcome, transmit};
use crate::wire::{LINK_LIMIT, parse_entry, parse_kind};

/// Entries in one part; with the longest paths still far below the limit of a frame.
const ENTRIES_A_PART: usize = 500;
/// Largest file that is taken back.
pub const FETCH_LIMIT: u64 = 1 << 30;

/// What a batch is made of.
pub struct Outgoing<'a> {
    pub changes: &'a Changes,
    pub root: PathBuf,
    pub began: SystemTime,
    /// Over what the guest changed as well.
    pub force: bool,
    /// The git files and where their objects are.
    pub git: Option<(Metadata, gix::ThreadSafeRepository)>,
}

/// What became of it.
pub struct Sent {
    pub outcome: Outcome,
    pub changed: Changed,
    pub files: u64,
    pub bytes: u64,
    pub git: Option<Metadata>,
}

/// Sends a batch and waits until it is applied.
pub async fn send(link: &mut Link, batch: Outgoing<'_>) -> Result<Sent, PrepareError> {
    let Outgoing { changes, root, began, force, git } = batch;
    announce(link, changes, force).await?;
    let needed: Vec<(u32, Entry)> = (0_u32..).zip(changes.upserts.iter().cloned()).collect();
    let blocks = link.known_blocks(&needed).await?;
    let (mut files, mut bytes) = (0, 0);
    let produce = move |out: &tokio::sync::mpsc::Sender<_>| {
        let contents = Contents { root: &root, began, source: &Source::Worktree };
        let changed = content::send(&contents, (&needed, &blocks), out)?;
        if let Some((metadata, repository)) = &git {
            metadata.send(&repository.to_thread_local(), out)?;
        }
        Ok((changed, git.map(|(metadata, _)| metadata)))
    };
    let (changed, git) = transmit(link, produce, |frame| {
        files += frame.files;
        bytes += frame.bytes;
    })
    .await?;
    let finish = git.as_ref().map(Metadata::finish).unwrap_or_default();
    link.send(&Request::Finish(finish)).await?;
    let outcome = outcome(link).await?;
    Ok(Sent { outcome, changed, files, bytes, git })
}

async fn announce(link: &mut Link, changes: &Changes, force: bool) -> Result<(), PrepareError> {
    let wire = |entries: &[Entry]| entries.iter().map(WireEntry::from).collect();
    let mut parts = Vec::new();
    for upserts in changes.upserts.chunks(ENTRIES_A_PART) {
        parts.push(DeltaPart { upserts: wire(upserts), ..DeltaPart::default() });
    }
    for removals in changes.removals.chunks(ENTRIES_A_PART) {
        let removals = removals.iter().map(|path| path.as_bytes().to_vec()).collect();
        parts.push(DeltaPart { removals, ..DeltaPart::default() });
    }
    for retimed in changes.retimed.chunks(ENTRIES_A_PART) {
        parts.push(DeltaPart { retimed: wire(retimed), ..DeltaPart::default() });
    }
    if parts.is_empty() {
        parts.push(DeltaPart::default());
    }
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        link.send(&Request::Delta(DeltaPart { force, last: number + 1 == count, ..part })).await?;
    }
    Ok(())
}

/// Has the guest look at everything.
pub async fn check(link: &mut Link) -> Result<Outcome, PrepareError> {
    link.send(&Request::Check(Check {})).await?;
    outcome(link).await
}

/// The guest's version of `path`; `None` if it has none.
pub async fn fetch(link: &mut Link, path: &TreePath) -> Result<Option<(Entry, Vec<u8>)>, PrepareError> {
    let unexpected = |expected| PrepareError::Unexpected { expected };
    link.send(&Request::Fetch(Fetch { path: path.as_bytes().to_vec() })).await?;
    let Reply::Fetched(mut part) = link.reply().await? else { return Err(unexpected("the file")) };
    let wire = part.entry.take().unwrap_or_default();
    if parse_kind(wire.kind()).is_none() {
        return if part.last { Ok(None) } else { Err(unexpected("nothing more")) };
    }
    let entry = parse_entry(&wire).map_err(|_| unexpected("a file of the workspace"))?;
    if entry.path != *path || entry.size > FETCH_LIMIT.max(LINK_LIMIT) {
        return Err(unexpected("the file that was asked for, of at most 1 GiB"));
    }
    let mut bytes = Vec::new();
    loop {
        bytes.append(&mut part.data);
        if bytes.len() as u64 > entry.size {
            return Err(unexpected("a file that does not grow"));
        }
        if part.last {
            break;
        }
        let Reply::Fetched(following) = link.reply().await? else { return Err(unexpected("the rest of the file")) };
        part = following;
    }
    if blake3::hash(&bytes) != entry.digest {
        return Err(unexpected("a file that does not change while it is read"));
    }
    Ok(Some((entry, bytes)))
}
