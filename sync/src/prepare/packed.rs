//! Files that are in the pack a receiver gets anyway: it is told where, and makes them itself. And files that are objects
//! which came earlier: it is told which.
//!
//! ```text
//! objects and their index ──▶ PackedFiles ─▶ makes, checks digests ─▶ Need: what it could not make ─▶ sent as content
//! ObjectFiles ─▶ looks in its packs, makes, checks digests ─▶ Need
//! ```
//! Which object is which file is a guess from the index; the receiver checks each against the manifest's digest.

use std::collections::{HashMap, HashSet};

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Finish, ObjectFiles, PackedFiles};
use gix::index::entry::Stage;

use super::PrepareError;
use super::link::Link;
use crate::bitmap;
use crate::entry::{Entry, EntryKind, Reason};
use crate::frames::{PACKED_FILES, PACKED_SIZE};
use crate::overlay::index;
use crate::pack::Indexed;

/// Of files in a pack, from which on it is remembered before they are made.
const WORTH_REMEMBERING: u64 = 1 << 20;

/// Bytes of content; less than that is sent before an answer is there.
pub const WORTH_ASKING: u64 = 1 << 20;

/// A pack the receiver has got.
pub struct SentPack {
    /// What it is called there.
    pub name: String,
    /// Sorted by name.
    pub objects: Vec<Indexed>,
    /// What the receiver may remember.
    pub brought: Finish,
}

/// One file in it.
struct File {
    index: u32,
    /// Where the whole object is that it is made of, in one step or several; its own place if it is whole.
    root: u64,
    offset: u64,
    length: u32,
    size: u64,
}

/// Files of the manifest that are probably in a pack.
pub struct InPack {
    pack: String,
    brought: Finish,
    files: Vec<File>,
}

/// Files and bytes of content that need not be sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Saved {
    pub files: u64,
    pub bytes: u64,
}

/// True if the index says that this file is an object of the commit.
pub fn may_be_packed(entry: &Entry) -> bool {
    entry.reason == Reason::Tracked
        && matches!(entry.kind, EntryKind::File | EntryKind::Executable)
        && entry.size <= PACKED_SIZE
}

/// Looks up what is `needed`. An index that cannot be read any more finds nothing: all content is sent then.
pub fn find(repository: &gix::Repository, needed: &[(u32, Entry)], sent: SentPack) -> InPack {
    let roots = roots(&sent.objects);
    let objects = objects_of(repository, needed);
    let located = objects.iter().filter_map(|object| locate(&sent.objects, &object.id, (object.index, object.size)));
    let mut files: Vec<File> = located.collect();
    // As they lie, as neighbours of the tree are neighbours there; but what is made of an object, which may be anywhere behind
    // it, right after it, so that it need not be made twice.
    for file in &mut files {
        file.root = roots.get(&file.offset).copied().unwrap_or(file.offset);
    }
    files.sort_unstable_by_key(|file| (file.root, file.offset));
    InPack { pack: sent.name, brought: sent.brought, files }
}

/// A file and what the index says it is.
pub struct ObjectFile {
    index: u32,
    id: gix::ObjectId,
    size: u64,
}

/// Those of `needed` that the receiver may have as objects, if they are at least `least` bytes together.
pub fn worth_asking(repository: &gix::Repository, needed: &[(u32, Entry)], least: u64) -> Vec<ObjectFile> {
    let size: u64 = needed.iter().filter(|(_, entry)| may_be_packed(entry)).map(|(_, entry)| entry.size).sum();
    if size < least { Vec::new() } else { objects_of(repository, needed) }
}

/// As the index has them. One that cannot be read any more finds nothing.
fn objects_of(repository: &gix::Repository, needed: &[(u32, Entry)]) -> Vec<ObjectFile> {
    let mut files = Vec::new();
    let Ok(index) = index::read(repository) else { return files };
    let mut indexed = index.entries().iter().peekable();
    for (position, entry) in needed.iter().filter(|(_, entry)| may_be_packed(entry)) {
        let path = entry.path.as_bytes();
        while indexed.next_if(|next| &**next.path(&index) < path).is_some() {}
        let Some(next) = indexed.peek() else { break };
        if &**next.path(&index) == path && next.stage() == Stage::Unconflicted {
            files.push(ObjectFile { index: *position, id: next.id, size: entry.size });
        }
    }
    files
}

/// Of each object that is made of another one, where the whole one is at the end.
fn roots(objects: &[Indexed]) -> HashMap<u64, u64> {
    let mut made: Vec<(u64, u64)> = objects.iter().filter_map(|object| Some((object.offset, object.base?))).collect();
    made.sort_unstable();
    let mut roots = HashMap::with_capacity(made.len());
    for (offset, base) in made {
        let root = roots.get(&base).copied().unwrap_or(base);
        roots.insert(offset, root);
    }
    roots
}

fn locate(objects: &[Indexed], id: &gix::oid, (index, size): (u32, u64)) -> Option<File> {
    let at = objects.binary_search_by(|object| object.id.as_ref().cmp(id)).ok()?;
    let object = &objects[at];
    Some(File { index, root: object.offset, offset: object.offset, length: u32::try_from(object.length).ok()?, size })
}

/// Has the receiver make them; returns the positions of those it made.
pub async fn make(link: &mut Link, in_pack: InPack, saved: impl FnMut(Saved)) -> Result<HashSet<u32>, PrepareError> {
    // Writing that down takes as long as the tree is large: not for what would come again in a moment.
    let size: u64 = in_pack.files.iter().map(|file| u64::from(file.length)).sum();
    let mut brought = Some(in_pack.brought).filter(|_| size > WORTH_REMEMBERING);
    let request = |files: &[File]| {
        Request::PackedFiles(PackedFiles {
            pack: in_pack.pack.clone(),
            indexes: files.iter().map(|file| file.index).collect(),
            offsets: files.iter().map(|file| file.offset).collect(),
            lengths: files.iter().map(|file| file.length).collect(),
            brought: brought.take(),
            is_next: bitmap::render((0..files.len()).map(|at| at > 0 && files[at - 1].root == files[at].root)),
        })
    };
    make_listed(link, (&in_pack.files, request), |file| (file.index, file.size), saved).await
}

/// Has the receiver make those of which it has the objects; returns the positions of those it made.
pub async fn make_of_objects(
    link: &mut Link,
    files: &[ObjectFile],
    saved: impl FnMut(Saved),
) -> Result<HashSet<u32>, PrepareError> {
    let request = |files: &[ObjectFile]| {
        let indexes = files.iter().map(|file| file.index).collect();
        let ids = files.iter().flat_map(|file| file.id.as_slice()).copied().collect();
        Request::ObjectFiles(ObjectFiles { indexes, ids })
    };
    make_listed(link, (files, request), |file| (file.index, file.size), saved).await
}

/// `of`: a file's position and size.
async fn make_listed<T>(
    link: &mut Link,
    (files, mut request): (&[T], impl FnMut(&[T]) -> Request),
    of: impl Fn(&T) -> (u32, u64),
    mut saved: impl FnMut(Saved),
) -> Result<HashSet<u32>, PrepareError> {
    let mut made = HashSet::with_capacity(files.len());
    let mut ahead = files.chunks(PACKED_FILES);
    if let Some(files) = ahead.next() {
        link.send(&request(files)).await?;
    }
    for files in files.chunks(PACKED_FILES) {
        // It has something to do while the reply is on its way.
        if let Some(next) = ahead.next() {
            link.send_ahead(request(next)).await?;
        }
        let Reply::Need(need) = link.reply().await? else {
            return Err(PrepareError::Unexpected { expected: "what could not be made" });
        };
        let Some(bits) = bitmap::parse(&need.bitmap, files.len()) else {
            return Err(PrepareError::Unexpected { expected: "one bit a file" });
        };
        let mut now = Saved::default();
        for (file, _) in files.iter().zip(bits).filter(|(_, is_needed)| !*is_needed) {
            let (index, size) = of(file);
            made.insert(index);
            now = Saved { files: now.files + 1, bytes: now.bytes + size };
        }
        saved(now);
    }
    Ok(made)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_delta_is_whole() {
        let object = |(offset, base): (u64, Option<u64>)| {
            let id = gix::ObjectId::null(gix::hash::Kind::Sha1);
            Indexed { id, crc32: 0, offset, length: 1, base }
        };
        // By name, so in no order; 60 is made of 40, that of 20, and 70 of an object that is not in the list.
        let objects = [(60, Some(40)), (20, None), (70, Some(30)), (10, None), (40, Some(20)), (50, Some(10))];
        let roots = roots(&objects.map(object));
        let sorted: std::collections::BTreeMap<u64, u64> = roots.into_iter().collect();
        assert_eq!(sorted.into_iter().collect::<Vec<_>>(), [(40, 20), (50, 10), (60, 20), (70, 30)]);
    }
}
