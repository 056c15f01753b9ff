//! One exchange with the receiver: a batch of edits, a look of the guest at its tree, or one file back.

use std::path::PathBuf;
use std::time::SystemTime;

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Check, DeltaPart, Fetch, WireEntry};
use tokio::sync::mpsc;

use super::mirror::Changes;
use crate::entry::Entry;
use crate::overlay::Source;
use crate::path::TreePath;
use crate::prepare::content::{self, Changed, Contents};
use crate::prepare::link::Link;
use crate::prepare::metadata::Metadata;
use crate::prepare::packed::{self, ObjectFile};
use crate::prepare::{self, Outcome, PrepareError, outcome, transmit};
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
    /// What there is to say about git.
    pub git: Option<Metadata>,
    /// Where objects are, if files may be some, and from how many bytes on it is worth asking for them.
    pub objects: Option<(gix::ThreadSafeRepository, u64)>,
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
    let Outgoing { changes, root, began, force, git, objects } = batch;
    announce(link, changes, force).await?;
    let needed: Vec<(u32, Entry)> = (0_u32..).zip(changes.upserts.iter().cloned()).collect();
    let mut pending = Pending { needed, git, objects };
    let (mut files, mut bytes) = (0, 0);
    // A save has nothing to ask, and is not to wait for a thread that finds that out.
    if link.makes_object_files && pending.objects.is_some() {
        let (ready, objects) = transmit(link, move |out| pending.objects(out), |frame| bytes += frame.bytes).await?;
        pending = ready;
        let made = packed::make_of_objects(link, &objects, |saved| files += saved.files).await?;
        pending.needed.retain(|(index, _)| !made.contains(index));
    }
    let blocks = link.known_blocks(&pending.needed).await?;
    let produce = move |out: &mpsc::Sender<_>| {
        let contents = Contents { root: &root, began, source: &Source::Worktree };
        let changed = content::send(&contents, (&pending.needed, &blocks), out)?;
        Ok((changed, pending.finish(out)?))
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

/// What of a batch is not sent yet.
struct Pending {
    needed: Vec<(u32, Entry)>,
    git: Option<Metadata>,
    objects: Option<(gix::ThreadSafeRepository, u64)>,
}

impl Pending {
    /// Sends objects ahead if files are made of them; which those may be.
    fn objects(mut self, out: &mpsc::Sender<prepare::Outgoing>) -> Result<(Self, Vec<ObjectFile>), PrepareError> {
        let Some((repository, least)) = &self.objects else { return Ok((self, Vec::new())) };
        let repository = repository.to_thread_local();
        let files = packed::worth_asking(&repository, &self.needed, *least);
        if let Some(metadata) = self.git.as_mut().filter(|_| !files.is_empty()) {
            metadata.send_objects(&repository, out)?;
        }
        Ok((self, files))
    }

    /// Sends what is left about git.
    fn finish(self, out: &mpsc::Sender<prepare::Outgoing>) -> Result<Option<Metadata>, PrepareError> {
        if let (Some(metadata), Some((repository, _))) = (&self.git, &self.objects) {
            metadata.send(&repository.to_thread_local(), out)?;
        }
        Ok(self.git)
    }
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
