//! Reads the files a receiver needs and frames them; runs on a blocking thread.
//!
//! Small files travel together, large ones in pieces. A file may have changed since the manifest was made:
//! it is sent as it is now, with its new digest, and the caller is told. One that changes while it is read is
//! abandoned and read again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Chunk, FileBatch, FileData, FileEnd, FileStart, FileVanished, WireEntry};
use rustix::fs::FileType;
use tokio::sync::mpsc;

use super::difference::{self, Stop};
use super::{Outgoing, PrepareError, hand_over, outgoing};
use crate::blocks::Known;
use crate::dir::{Dir, Stamp, Walker, is_absent};
use crate::entry::{Entry, EntryKind};
use crate::frames::{BATCH, CHUNK};
use crate::overlay::branch::Checkout;
use crate::overlay::memory::is_past;
use crate::overlay::{Overlay, OverlayError, Source};
use crate::wire::wire_kind;

const ATTEMPTS: u32 = 6;
/// Files in one batch, so that metadata cannot outgrow a frame.
const FILES_A_BATCH: usize = 500;

/// Entries that turned out different from the manifest; `None` is gone.
pub type Changed = Vec<(u32, Option<Entry>)>;

/// Where the bytes are.
pub struct Contents<'a> {
    /// Of the working tree.
    pub root: &'a Path,
    /// When the planned entries began to be read.
    pub began: SystemTime,
    pub source: &'a Source,
}

impl<'a> Contents<'a> {
    /// As they were observed.
    pub fn of(overlay: &'a Overlay) -> Self {
        Self { root: &overlay.root, began: overlay.began, source: &overlay.source }
    }
}

/// Sends everything needed; of files of which the receiver has `blocks`, only others.
pub fn send(
    contents: &Contents<'_>,
    (needed, blocks): (&[(u32, Entry)], &HashMap<u32, Known>),
    out: &mpsc::Sender<Outgoing>,
) -> Result<Changed, PrepareError> {
    let content = |source| PrepareError::Content { source };
    let mut sender =
        Sender { out, began: contents.began, blocks, batch: Vec::new(), batch_bytes: 0, changed: Vec::new() };
    match contents.source {
        Source::Worktree => {
            let root = Dir::open_root(contents.root)
                .map_err(|source| content(OverlayError::Io { action: "open", path: b".".to_vec(), source }))?;
            let mut walker = Walker::new(root);
            for (index, entry) in needed {
                sender.worktree_file(&mut walker, *index, entry)?;
            }
        }
        Source::Objects(tree) => {
            let repository = tree.repository();
            let mut checkout = tree.checkout(&repository).map_err(content)?;
            for (index, entry) in needed {
                sender.object(&mut checkout, *index, entry)?;
            }
        }
    }
    sender.flush()?;
    Ok(sender.changed)
}

struct Sender<'a> {
    out: &'a mpsc::Sender<Outgoing>,
    /// When the planned entries began to be read.
    began: SystemTime,
    blocks: &'a HashMap<u32, Known>,
    batch: Vec<FileData>,
    batch_bytes: usize,
    changed: Changed,
}

/// A file as it was when reading it began.
struct Place<'a> {
    dir: &'a Dir,
    name: &'a [u8],
    before: Stamp,
    digest: Option<blake3::Hash>,
}

/// Position in the manifest, the entry as it is, its digest if it need not be computed.
type Now = (u32, Entry, Option<blake3::Hash>);

/// The outcome of one attempt.
enum Attempt {
    Sent,
    Gone,
    Unstable,
}

impl Sender<'_> {
    fn worktree_file(&mut self, walker: &mut Walker, index: u32, entry: &Entry) -> Result<(), PrepareError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(10 << attempt));
            }
            let outcome = match walker.parent(&entry.path) {
                Ok((dir, name)) => self.attempt(dir, name, index, entry)?,
                Err(error) if is_absent(&error) => Attempt::Gone,
                Err(source) => return Err(io_error("open the directory of", entry, source)),
            };
            match outcome {
                Attempt::Sent => return Ok(()),
                Attempt::Gone => return self.vanished(index),
                Attempt::Unstable => walker.forget(),
            }
        }
        Err(PrepareError::Content { source: OverlayError::Changing { path: entry.path.clone() } })
    }

    fn attempt(&mut self, dir: &Dir, name: &[u8], index: u32, entry: &Entry) -> Result<Attempt, PrepareError> {
        let failed = |action| move |source| io_error(action, entry, source);
        let Some(before) = dir.stamp(name).map_err(failed("look at"))? else { return Ok(Attempt::Gone) };
        let Some(kind) = before.kind() else {
            return if before.file_type() == FileType::Directory {
                Ok(Attempt::Gone)
            } else {
                Err(PrepareError::Content {
                    source: OverlayError::SpecialFile { path: entry.path.clone(), kind: "special file" },
                })
            };
        };
        let now = Entry { kind, size: before.size, mtime: before.mtime, ..entry.clone() };
        let digest = self.known_digest(before, entry);
        if kind == EntryKind::Symlink {
            let Ok(target) = dir.read_link(name) else { return Ok(Attempt::Unstable) };
            return self.if_stable(dir, name, before, |sender| sender.small((index, now, digest), entry, target));
        }
        let file = match dir.open_file(name) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(Attempt::Unstable),
            Err(source) => return Err(failed("read")(source)),
        };
        if before.size > CHUNK as u64 {
            return self.large(&Place { dir, name, before, digest }, file, index, entry);
        }
        let mut data = Vec::with_capacity(CHUNK.min(usize::try_from(before.size).unwrap_or(CHUNK)));
        // What was added meanwhile shows in the look afterwards.
        file.take(before.size).read_to_end(&mut data).map_err(failed("read"))?;
        self.if_stable(dir, name, before, |sender| sender.small((index, now, digest), entry, data))
    }

    fn if_stable(
        &mut self,
        dir: &Dir,
        name: &[u8],
        before: Stamp,
        send: impl FnOnce(&mut Self) -> Result<Attempt, PrepareError>,
    ) -> Result<Attempt, PrepareError> {
        match dir.stamp(name) {
            Ok(Some(after)) if after == before => send(self),
            _ => Ok(Attempt::Unstable),
        }
    }

    /// The planned digest, if nothing can have been written since it was computed. The receiver checks it as well.
    fn known_digest(&self, before: Stamp, planned: &Entry) -> Option<blake3::Hash> {
        let same = before.kind() == Some(planned.kind) && before.size == planned.size && before.mtime == planned.mtime;
        (same && is_past(before.ctime, self.began)).then_some(planned.digest)
    }

    fn small(&mut self, (index, now, digest): Now, planned: &Entry, data: Vec<u8>) -> Result<Attempt, PrepareError> {
        if now.size != data.len() as u64 {
            return Ok(Attempt::Unstable);
        }
        let now = Entry { digest: digest.unwrap_or_else(|| blake3::hash(&data)), ..now };
        self.note(index, &now, planned);
        self.batch_bytes += data.len();
        self.batch.push(FileData { index, entry: Some(WireEntry::from(&now)), data: data.into() });
        if self.batch_bytes >= BATCH || self.batch.len() >= FILES_A_BATCH {
            self.flush()?;
        }
        Ok(Attempt::Sent)
    }

    fn large(
        &mut self,
        place: &Place<'_>,
        mut file: File,
        index: u32,
        planned: &Entry,
    ) -> Result<Attempt, PrepareError> {
        let before = place.before;
        let kind = before.kind().unwrap_or(EntryKind::File);
        self.start(index, kind)?;
        let mut hasher = blake3::Hasher::new();
        let mut sent = 0;
        if let Some(known) = self.blocks.get(&index) {
            let hasher = place.digest.is_none().then_some(&mut hasher);
            let all = difference::send(known, (&file).take(before.size + 1), hasher, self.out);
            sent = all.map_err(|stop| match stop {
                Stop::Read(source) => io_error("read", planned, source),
                Stop::Send(error) => error,
            })?;
        }
        while sent <= before.size {
            let mut data = Vec::with_capacity(CHUNK);
            let count = (&mut file)
                .take(CHUNK as u64)
                .read_to_end(&mut data)
                .map_err(|source| io_error("read", planned, source))?;
            if count == 0 {
                break;
            }
            sent += count as u64;
            if place.digest.is_none() {
                hasher.update(&data);
            }
            hand_over(self.out, outgoing(Request::Chunk(Chunk { data: data.into() }), 0, count as u64))?;
        }
        let stable = sent == before.size && matches!(place.dir.stamp(place.name), Ok(Some(after)) if after == before);
        if !stable {
            let end = Request::FileEnd(FileEnd { entry: None, abandoned: true });
            hand_over(self.out, Outgoing { more_bytes: sent, ..outgoing(end, 0, 0) })?;
            return Ok(Attempt::Unstable);
        }
        let digest = place.digest.unwrap_or_else(|| hasher.finalize());
        let now = Entry { kind, size: sent, digest, mtime: before.mtime, ..planned.clone() };
        self.end(index, &now, planned)?;
        Ok(Attempt::Sent)
    }

    fn object(&mut self, checkout: &mut Checkout<'_>, index: u32, entry: &Entry) -> Result<(), PrepareError> {
        let data = checkout.content(&entry.path, entry.kind).map_err(|source| PrepareError::Content { source })?;
        if data.len() <= CHUNK {
            let now = Entry { size: data.len() as u64, ..entry.clone() };
            return self.small((index, now, None), entry, data).map(|_| ());
        }
        self.start(index, entry.kind)?;
        for chunk in data.chunks(CHUNK) {
            let chunk_frame = Request::Chunk(Chunk { data: chunk.to_vec().into() });
            hand_over(self.out, outgoing(chunk_frame, 0, chunk.len() as u64))?;
        }
        let now = Entry { size: data.len() as u64, digest: blake3::hash(&data), ..entry.clone() };
        self.end(index, &now, entry)
    }

    fn start(&mut self, index: u32, kind: EntryKind) -> Result<(), PrepareError> {
        self.flush()?;
        let start = FileStart { index, kind: wire_kind(kind).into() };
        hand_over(self.out, outgoing(Request::FileStart(start), 0, 0))
    }

    fn end(&mut self, index: u32, now: &Entry, planned: &Entry) -> Result<(), PrepareError> {
        self.note(index, now, planned);
        let end = FileEnd { entry: Some(WireEntry::from(now)), abandoned: false };
        hand_over(self.out, outgoing(Request::FileEnd(end), 1, 0))
    }

    fn vanished(&mut self, index: u32) -> Result<(), PrepareError> {
        self.changed.push((index, None));
        hand_over(self.out, outgoing(Request::Vanished(FileVanished { index }), 1, 0))
    }

    fn note(&mut self, index: u32, now: &Entry, planned: &Entry) {
        if now.content() != planned.content() {
            self.changed.push((index, Some(now.clone())));
        }
    }

    fn flush(&mut self) -> Result<(), PrepareError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let files = std::mem::take(&mut self.batch);
        let (count, bytes) = (files.len() as u64, self.batch_bytes as u64);
        self.batch_bytes = 0;
        hand_over(self.out, outgoing(Request::Batch(FileBatch { files }), count, bytes))
    }
}

fn io_error(action: &'static str, entry: &Entry, source: io::Error) -> PrepareError {
    PrepareError::Content { source: OverlayError::Io { action, path: entry.path.as_bytes().to_vec(), source } }
}
