//! Brings an overlay into a guest over one SSH channel, and proves that the guest has it.
//!
//! ```text
//!  overlay ──manifest──▶ receiver ──which entries it needs──▶ a blocking thread reads, hashes, frames
//!                                                             a second one writes the pack meanwhile
//!          ◀──digest, conflicts── receiver ◀──frames──────────┘
//! ```
//! A second prepare sends only what changed. Nothing is retried here; a failed prepare can simply be run again.
//! [`link`] is the channel, [`content`] the files ([`difference`] of large ones), [`metadata`] the git files, [`packed`] the
//! files that come with those, [`error`] what can go wrong.

pub(crate) mod content;
mod difference;
mod error;
pub(crate) mod link;
pub(crate) mod metadata;
pub(crate) mod packed;

use std::collections::HashMap;

use banger_proto::frame::frame;
use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{
    ManifestEnd, ManifestPart, SyncDone, SyncPurpose, SyncRequest, Welcome, WireConflict, WireEntry,
};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::bitmap;
use crate::blocks::Known;
use crate::diff::ConflictReason;
use crate::digest::{DigestBuilder, TreeDigest};
use crate::entry::Entry;
use crate::overlay::{Overlay, Source};
use crate::path::TreePath;
use crate::receiver::sync_command;
use crate::ssh::Connection;
use crate::wire::parse_conflict;
pub use error::PrepareError;
use link::Link;
pub use packed::WORTH_ASKING;

/// Frames made ahead of the channel.
const FRAMES_AHEAD: usize = 6;
/// Entries in one part of the manifest; with the longest paths still far below the limit of a frame.
const ENTRIES_A_PART: usize = 500;

/// Most memory that conflicts told by a guest may take.
const CONFLICT_BYTES: usize = 64 << 20;

/// How far a prepare is. Totals can grow while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrepareProgress {
    /// Files sent.
    pub files_done: u64,
    /// Files to send.
    pub files_total: u64,
    /// Bytes sent, git objects included.
    pub bytes_done: u64,
    /// Bytes to send.
    pub bytes_total: u64,
}

/// Something the guest keeps although the host has it differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: TreePath,
    /// Why.
    pub reason: ConflictReason,
}

/// What happened to the guest's git metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitOutcome {
    /// It was made or brought up to date.
    Installed,
    /// It was right already.
    Unchanged,
    /// The guest has commits or another branch of its own: nothing was changed.
    KeptGuestHistory,
}

/// A finished prepare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The host's paths as they are in the guest. Equal to the overlay's unless there are conflicts or files
    /// changed meanwhile.
    pub tree_digest: TreeDigest,
    /// Files that were sent.
    pub files_sent: u64,
    /// Bytes that were sent, git objects included.
    pub bytes_sent: u64,
    /// Files the guest had already.
    pub files_unchanged: u64,
    /// Files that were removed in the guest.
    pub files_removed: u64,
    /// Kept as the guest made them.
    pub conflicts: Vec<Conflict>,
    /// The git metadata.
    pub git: GitOutcome,
}

/// One frame on its way, and what it means for the progress.
pub(crate) struct Outgoing {
    frame: Bytes,
    /// Files it completes.
    pub files: u64,
    /// Bytes of content in it.
    pub bytes: u64,
    /// Bytes of content that it saves to send.
    pub saved_bytes: u64,
    more_bytes: u64,
}

/// A receiver that runs and waits: it can be started while the tree is still being read. It has not looked at anything in the
/// guest yet and made nothing there.
pub struct Receiver {
    link: Link,
}

impl Receiver {
    /// Starts the one that every guest has, for the tree at `guest_path`.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn open(connection: &Connection, guest_path: &str) -> Result<Self, PrepareError> {
        Self::open_with(connection, &sync_command(guest_path)).await
    }

    /// [`Receiver::open`] with another one.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn open_with(connection: &Connection, command: &str) -> Result<Self, PrepareError> {
        Ok(Self { link: Link::open(connection, command).await? })
    }

    /// Makes its tree, which is the one at `guest_path`, equal to `overlay`.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub async fn prepare(
        mut self,
        overlay: &Overlay,
        guest_path: &str,
        progress: &(dyn Fn(PrepareProgress) + Send + Sync),
    ) -> Result<Prepared, PrepareError> {
        let welcome = self.link.exchange_greetings(SyncPurpose::Prepare).await?;
        let whole = whole(&mut self.link, &welcome, overlay, (guest_path, progress)).await?;
        Ok(whole.prepared)
    }
}

/// A whole tree that arrived, and what a next batch has to know.
pub(crate) struct Whole {
    pub prepared: Prepared,
    /// Entries that turned out different from the manifest; `None` is gone.
    pub changed: content::Changed,
    /// What there was to say about git.
    pub metadata: metadata::Metadata,
}

/// From the manifest to the result.
pub(crate) async fn whole(
    link: &mut Link,
    welcome: &Welcome,
    overlay: &Overlay,
    (guest_path, progress): (&str, &(dyn Fn(PrepareProgress) + Send + Sync)),
) -> Result<Whole, PrepareError> {
    overlay.begin_sending();
    send_manifest(link, &overlay.manifest.entries).await?;
    let needed = match link.reply().await? {
        Reply::Need(need) => select(&overlay.manifest.entries, &need.bitmap)?,
        _ => return Err(PrepareError::Unexpected { expected: "the list of needed files" }),
    };
    let files_unchanged = (overlay.manifest.entries.len() - needed.len()) as u64;
    let mut counter = Counter::start(&needed, progress);
    let blocks = link.known_blocks(&needed).await?;
    let mut producer = Producer::new(overlay, guest_path, welcome.clone(), (needed, blocks));
    if link.makes_packed_files && producer.may_use_objects() {
        let (ready, in_pack) = transmit(link, move |out| producer.objects(out), |next| counter.sent(next)).await?;
        producer = ready;
        if let Some(in_pack) = in_pack {
            let made = packed::make(link, in_pack, |saved| counter.saved(saved)).await?;
            producer.needed.retain(|(index, _)| !made.contains(index));
        }
    }
    if link.makes_object_files && producer.may_use_objects() {
        let (ready, objects) = blocking(move || producer.worth_asking()).await;
        producer = ready;
        let made = packed::make_of_objects(link, &objects, |saved| counter.saved(saved)).await?;
        producer.needed.retain(|(index, _)| !made.contains(index));
    }
    let produced = transmit(link, move |out| producer.run(out), |next| counter.sent(next)).await?;
    link.send(&Request::Finish(produced.metadata.finish())).await?;
    let Outcome { conflicts, done, .. } = outcome(link).await?;
    let guest = digest(&done.applied_digest)?;
    let host = expected_digest(&overlay.manifest.entries, &produced.changed, &conflicts);
    if guest != host {
        return Err(PrepareError::DigestMismatch { host, guest });
    }
    let prepared = Prepared {
        tree_digest: digest(&done.tree_digest)?,
        files_sent: counter.now.files_done,
        bytes_sent: counter.now.bytes_done,
        files_unchanged: files_unchanged.saturating_sub(conflicts.len() as u64),
        files_removed: done.files_removed,
        conflicts,
        git: produced.metadata.outcome(),
    };
    Ok(Whole { prepared, changed: produced.changed, metadata: produced.metadata })
}

/// Counts what is sent, and tells.
struct Counter<'a> {
    now: PrepareProgress,
    tell: &'a (dyn Fn(PrepareProgress) + Send + Sync),
}

impl<'a> Counter<'a> {
    fn start(needed: &[(u32, Entry)], tell: &'a (dyn Fn(PrepareProgress) + Send + Sync)) -> Self {
        let now = PrepareProgress {
            files_total: needed.len() as u64,
            bytes_total: needed.iter().map(|(_, entry)| entry.size).sum(),
            ..PrepareProgress::default()
        };
        tell(now);
        Self { now, tell }
    }

    fn sent(&mut self, next: &Outgoing) {
        let Outgoing { files, bytes, saved_bytes, more_bytes, .. } = next;
        self.add((*files, *bytes), *more_bytes, *saved_bytes);
    }

    fn saved(&mut self, saved: packed::Saved) {
        self.add((saved.files, 0), 0, saved.bytes);
    }

    fn add(&mut self, (files, bytes): (u64, u64), more: u64, saved: u64) {
        self.now.files_done += files;
        self.now.bytes_done += bytes;
        self.now.bytes_total = (self.now.bytes_total + more).saturating_sub(saved).max(self.now.bytes_done);
        (self.tell)(self.now);
    }
}

/// Sends what a blocking `producer` makes, as it is made.
pub(crate) async fn transmit<T: Send + 'static>(
    link: &mut Link,
    producer: impl FnOnce(&mpsc::Sender<Outgoing>) -> Result<T, PrepareError> + Send + 'static,
    mut sent: impl FnMut(&Outgoing),
) -> Result<T, PrepareError> {
    let (sender, mut outgoing) = mpsc::channel(FRAMES_AHEAD);
    let producing = tokio::task::spawn_blocking(move || producer(&sender));
    while let Some(next) = outgoing.recv().await {
        link.send_frame(next.frame.clone()).await?;
        sent(&next);
    }
    producing.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

/// What a receiver says at the end of a batch.
pub(crate) struct Outcome {
    pub conflicts: Vec<Conflict>,
    /// Older versions of ours, to be sent again.
    pub outdated: Vec<TreePath>,
    pub done: SyncDone,
}

/// Waits for it.
pub(crate) async fn outcome(link: &mut Link) -> Result<Outcome, PrepareError> {
    let (mut conflicts, mut outdated) = (Vec::new(), Vec::new());
    let mut conflict_bytes = 0;
    loop {
        match link.reply().await? {
            Reply::Conflicts(part) => {
                for conflict in part.conflicts {
                    conflict_bytes += conflict.path.len();
                    if conflict_bytes > CONFLICT_BYTES {
                        return Err(PrepareError::Unexpected { expected: "fewer conflicts" });
                    }
                    let path = TreePath::parse(&conflict.path)
                        .map_err(|_| PrepareError::Unexpected { expected: "the path of a conflict" })?;
                    match conflict.reason() {
                        WireConflict::Outdated => outdated.push(path),
                        reason => conflicts.push(Conflict { path, reason: parse_conflict(reason) }),
                    }
                }
            }
            Reply::Done(done) => return Ok(Outcome { conflicts, outdated, done }),
            _ => return Err(PrepareError::Unexpected { expected: "the result" }),
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Result<TreeDigest, PrepareError> {
    let bytes = bytes.try_into().map_err(|_| PrepareError::Unexpected { expected: "a digest" })?;
    Ok(TreeDigest::from_bytes(bytes))
}

pub(crate) async fn send_manifest(link: &mut Link, entries: &[Entry]) -> Result<(), PrepareError> {
    for part in entries.chunks(ENTRIES_A_PART) {
        let entries = part.iter().map(WireEntry::from).collect();
        link.send(&Request::Manifest(ManifestPart { entries })).await?;
    }
    link.send(&Request::ManifestEnd(ManifestEnd { count: entries.len() as u64 })).await
}

fn select(entries: &[Entry], bitmap: &[u8]) -> Result<Vec<(u32, Entry)>, PrepareError> {
    let bits = bitmap::parse(bitmap, entries.len());
    let Some(bits) = bits else { return Err(PrepareError::Unexpected { expected: "one bit an entry" }) };
    let mut needed = Vec::new();
    for ((index, entry), _) in entries.iter().enumerate().zip(bits).filter(|(_, is_needed)| *is_needed) {
        let index = u32::try_from(index).map_err(|_| PrepareError::Unexpected { expected: "fewer files" })?;
        needed.push((index, entry.clone()));
    }
    Ok(needed)
}

/// The digest the guest must report: the manifest with what changed while it was sent, without conflicts.
fn expected_digest(entries: &[Entry], changed: &[(u32, Option<Entry>)], conflicts: &[Conflict]) -> TreeDigest {
    let mut builder = DigestBuilder::default();
    let kept: std::collections::HashSet<&TreePath> = conflicts.iter().map(|conflict| &conflict.path).collect();
    let changed: std::collections::HashMap<u32, &Option<Entry>> =
        changed.iter().map(|(index, entry)| (*index, entry)).collect();
    for (index, entry) in (0_u32..).zip(entries) {
        let entry = match changed.get(&index) {
            Some(Some(newer)) => newer,
            Some(None) => continue,
            None => entry,
        };
        if !kept.contains(&entry.path) {
            builder.push(entry.path.as_bytes(), entry.content());
        }
    }
    builder.finish()
}

/// Everything the blocking side needs.
struct Producer {
    overlay: Overlay,
    guest_path: String,
    welcome: Welcome,
    needed: Vec<(u32, Entry)>,
    blocks: HashMap<u32, Known>,
    /// Once it is planned.
    metadata: Option<metadata::Metadata>,
}

/// What it found out.
struct Produced {
    changed: content::Changed,
    metadata: metadata::Metadata,
}

impl Producer {
    fn new(
        overlay: &Overlay,
        guest_path: &str,
        welcome: Welcome,
        (needed, blocks): (Vec<(u32, Entry)>, HashMap<u32, Known>),
    ) -> Self {
        // The manifest is not needed any more, and it is the large part.
        let overlay = Overlay { manifest: crate::manifest::Manifest::default(), ..overlay.clone() };
        Self { overlay, guest_path: guest_path.to_owned(), welcome, needed, blocks, metadata: None }
    }

    /// True if files are needed that are objects as well.
    fn may_use_objects(&self) -> bool {
        matches!(self.overlay.source, Source::Worktree)
            && self.needed.iter().any(|(_, entry)| packed::may_be_packed(entry))
    }

    fn plan(&mut self) -> Result<metadata::Metadata, PrepareError> {
        match self.metadata.take() {
            Some(planned) => Ok(planned),
            None => metadata::Metadata::plan_all(&self.overlay, &self.welcome, &self.guest_path),
        }
    }

    /// Sends objects before anything else, if there are any to send; which files they are.
    fn objects(mut self, out: &mpsc::Sender<Outgoing>) -> Result<(Self, Option<packed::InPack>), PrepareError> {
        let mut metadata = self.plan()?;
        let repository = self.overlay.repository.to_thread_local();
        let sent = metadata.send_objects(&repository, out)?;
        let in_pack = sent.map(|sent| packed::find(&repository, &self.needed, sent));
        self.metadata = Some(metadata);
        Ok((self, in_pack))
    }

    /// Files that may be objects the receiver has.
    fn worth_asking(self) -> (Self, Vec<packed::ObjectFile>) {
        let files = packed::worth_asking(&self.overlay.repository.to_thread_local(), &self.needed, WORTH_ASKING);
        (self, files)
    }

    fn run(mut self, out: &mpsc::Sender<Outgoing>) -> Result<Produced, PrepareError> {
        let metadata = self.plan()?;
        let contents = content::Contents::of(&self.overlay);
        let changed = content::send(&contents, (&self.needed, &self.blocks), out)?;
        metadata.send(&self.overlay.repository.to_thread_local(), out)?;
        Ok(Produced { changed, metadata })
    }
}

pub(crate) fn outgoing(request: Request, files: u64, bytes: u64) -> Outgoing {
    let frame = frame(&SyncRequest { body: Some(request) }).into();
    Outgoing { frame, files, bytes, saved_bytes: 0, more_bytes: 0 }
}

/// Hands a frame over; an error means nobody takes it any more.
pub(crate) fn hand_over(out: &mpsc::Sender<Outgoing>, frame: Outgoing) -> Result<(), PrepareError> {
    out.blocking_send(frame).map_err(|_| PrepareError::Cancelled)
}
