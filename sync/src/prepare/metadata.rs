//! Decides which git files the receiver lacks and sends them: objects first, `HEAD` last.

use std::io::{self, Read, Write};

use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Chunk, Finish, GitFileDigest, GitFileEnd, GitFileStart, GitRole, Welcome};
use gix::ObjectId;
use gix::bstr::ByteSlice;
use tokio::sync::mpsc;

use super::{GitOutcome, Outgoing, PrepareError, hand_over, outgoing};
use crate::entry::Mtime;
use crate::frames::CHUNK;
use crate::overlay::config::push_value;
use crate::overlay::{GuestGit, GuestHead};
use crate::pack::{PackPlan, write_pack};

/// How many of the guest's commits are worth leaving out; more only cost time.
const KNOWN_COMMITS: usize = 32;

/// A small git file.
struct Piece {
    role: GitRole,
    name: String,
    bytes: Vec<u8>,
    mtime: Mtime,
}

/// What is to be sent.
pub struct Metadata {
    pieces: Vec<Piece>,
    pack: Option<PackPlan>,
    commit: Vec<u8>,
    object_set: Vec<u8>,
    moved: bool,
}

impl Metadata {
    /// Compares what the guest should have with what it was told to have.
    pub fn plan(git: &GuestGit, welcome: &Welcome, guest_path: &str) -> Self {
        let has_set = welcome.object_sets.iter().any(|set| *set == git.object_set);
        let pack = (!has_set && !welcome.git_moved).then(|| PackPlan {
            commit: git.commit,
            objects: git.objects.clone(),
            blobs: git.blobs.clone(),
            known: welcome
                .commits
                .iter()
                .rev()
                .take(KNOWN_COMMITS)
                .filter_map(|bytes| ObjectId::try_from(&bytes[..]).ok())
                .collect(),
        });
        let mut pieces = pieces(git, guest_path);
        pieces.retain(|piece| {
            let digest = blake3::hash(&piece.bytes);
            !welcome.git_moved
                && !welcome.git_files.iter().any(|known| {
                    known.role() == piece.role && known.name == piece.name && known.digest == digest.as_bytes()
                })
        });
        Self {
            pieces,
            pack,
            commit: git.commit.map(|id| id.as_slice().to_vec()).unwrap_or_default(),
            object_set: git.object_set.to_vec(),
            moved: welcome.git_moved,
        }
    }

    /// Sends everything.
    pub fn send(&self, repository: &gix::Repository, out: &mpsc::Sender<Outgoing>) -> Result<(), PrepareError> {
        if let Some(plan) = &self.pack {
            send_pack(repository, plan, out)?;
        }
        for piece in &self.pieces {
            start(out, piece.role, &piece.name)?;
            let digest = stream(out, &piece.bytes[..])?;
            end(out, digest, piece.mtime)?;
        }
        Ok(())
    }

    /// True if the receiver has everything.
    pub fn is_empty(&self) -> bool {
        self.pack.is_none() && self.pieces.is_empty()
    }

    /// Has the receiver's memory say what it says once this is installed.
    pub fn note(&self, welcome: &mut Welcome) {
        if self.pack.is_some() {
            for (list, new) in [(&mut welcome.commits, &self.commit), (&mut welcome.object_sets, &self.object_set)] {
                if !new.is_empty() && !list.contains(new) {
                    list.push(new.clone());
                }
            }
        }
        for piece in &self.pieces {
            welcome.git_files.retain(|known| known.role() != piece.role || known.name != piece.name);
            welcome.git_files.push(GitFileDigest {
                role: piece.role.into(),
                name: piece.name.clone(),
                digest: blake3::hash(&piece.bytes).as_bytes().to_vec(),
            });
        }
    }

    /// What it comes to.
    pub fn outcome(&self) -> GitOutcome {
        if self.moved {
            GitOutcome::KeptGuestHistory
        } else if self.pack.is_none() && self.pieces.is_empty() {
            GitOutcome::Unchanged
        } else {
            GitOutcome::Installed
        }
    }

    /// What the receiver is to remember about the objects.
    pub fn finish(&self) -> Finish {
        match self.pack {
            Some(_) => Finish { commit: self.commit.clone(), object_set: self.object_set.clone() },
            None => Finish::default(),
        }
    }
}

/// In the order they are to become visible.
fn pieces(git: &GuestGit, guest_path: &str) -> Vec<Piece> {
    let piece =
        |role, bytes: &[u8]| Piece { role, name: String::new(), bytes: bytes.to_vec(), mtime: Mtime::default() };
    let mut pieces = Vec::new();
    if !git.shallow.is_empty() {
        let lines: String = git.shallow.iter().map(|commit| format!("{commit}\n")).collect();
        pieces.push(piece(GitRole::Shallow, lines.as_bytes()));
    }
    let mut config = git.config.config.clone();
    if let Some(attributes) = &git.config.global_attributes
        && guest_path.starts_with('/')
    {
        pieces.push(piece(GitRole::GlobalAttributes, attributes));
        config.extend_from_slice(b"[core]\n");
        let place = format!("{}/.git/banger/attributes", guest_path.trim_end_matches('/'));
        push_value(&mut config, "attributesFile", place.as_bytes().as_bstr());
    }
    pieces.push(piece(GitRole::Config, &config));
    pieces.push(piece(GitRole::Exclude, &git.config.exclude));
    for (role, bytes) in
        [(GitRole::Attributes, &git.config.attributes), (GitRole::SparseCheckout, &git.config.sparse_checkout)]
    {
        pieces.extend(bytes.as_ref().map(|bytes| piece(role, bytes)));
    }
    if let (GuestHead::Branch(name), Some(commit)) = (&git.head, git.commit) {
        pieces.push(Piece { name: name.clone(), ..piece(GitRole::Branch, format!("{commit}\n").as_bytes()) });
    }
    if let Some(index) = &git.index {
        pieces.push(Piece { mtime: index.mtime, ..piece(GitRole::Index, &index.bytes) });
    }
    pieces.push(piece(GitRole::Head, git.head.render().as_bytes()));
    pieces
}

/// Sends the pack as it is made; nothing of it is kept here.
fn send_pack(repository: &gix::Repository, plan: &PackPlan, out: &mpsc::Sender<Outgoing>) -> Result<(), PrepareError> {
    let name = pack_name()?;
    let mut frames = PackFrames { out, name: &name, hasher: blake3::Hasher::new(), chunk: Vec::new(), started: false };
    let written = write_pack(repository, plan, &mut frames);
    let Some(pack) = written.map_err(|source| PrepareError::Pack { source })? else { return Ok(()) };
    frames.hand_over_chunk()?;
    end(out, frames.hasher.finalize(), Mtime::default())?;
    send_file(out, GitRole::PackIndex, &name, &pack.index[..])
}

/// Nobody but git's own tools looks for the checksum in it, and it is not known until the pack is written. No two
/// packs share a name, so an interrupted run never leaves one pack with the index of another.
fn pack_name() -> Result<String, PrepareError> {
    let mut bytes = [0_u8; 20];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|source| PrepareError::Temporary { source: source.into() })?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Collects what is written into frames.
struct PackFrames<'a> {
    out: &'a mpsc::Sender<Outgoing>,
    name: &'a str,
    hasher: blake3::Hasher,
    chunk: Vec<u8>,
    started: bool,
}

impl PackFrames<'_> {
    fn hand_over_chunk(&mut self) -> Result<(), PrepareError> {
        if !self.started {
            start(self.out, GitRole::Pack, self.name)?;
            self.started = true;
        }
        let data = std::mem::take(&mut self.chunk);
        self.hasher.update(&data);
        let bytes = data.len() as u64;
        hand_over(self.out, Outgoing { more_bytes: bytes, ..outgoing(Request::Chunk(Chunk { data }), 0, bytes) })
    }
}

impl Write for PackFrames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(CHUNK);
        }
        let room = CHUNK - self.chunk.len();
        let taken = bytes.len().min(room);
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.hand_over_chunk().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn send_file(out: &mpsc::Sender<Outgoing>, role: GitRole, name: &str, from: impl Read) -> Result<(), PrepareError> {
    start(out, role, name)?;
    let digest = stream(out, from)?;
    end(out, digest, Mtime::default())
}

fn start(out: &mpsc::Sender<Outgoing>, role: GitRole, name: &str) -> Result<(), PrepareError> {
    let start = GitFileStart { role: role.into(), name: name.to_owned() };
    hand_over(out, outgoing(Request::GitFileStart(start), 0, 0))
}

fn stream(out: &mpsc::Sender<Outgoing>, mut from: impl Read) -> Result<blake3::Hash, PrepareError> {
    let mut hasher = blake3::Hasher::new();
    loop {
        let mut data = Vec::with_capacity(CHUNK);
        read_chunk(&mut from, &mut data).map_err(|source| PrepareError::Temporary { source })?;
        if data.is_empty() {
            return Ok(hasher.finalize());
        }
        hasher.update(&data);
        let bytes = data.len() as u64;
        hand_over(out, Outgoing { more_bytes: bytes, ..outgoing(Request::Chunk(Chunk { data }), 0, bytes) })?;
    }
}

fn read_chunk(from: &mut impl Read, data: &mut Vec<u8>) -> io::Result<usize> {
    from.by_ref().take(CHUNK as u64).read_to_end(data)
}

fn end(out: &mpsc::Sender<Outgoing>, digest: blake3::Hash, mtime: Mtime) -> Result<(), PrepareError> {
    let end = GitFileEnd { digest: digest.as_bytes().to_vec(), mtime_seconds: mtime.seconds, mtime_nanos: mtime.nanos };
    hand_over(out, outgoing(Request::GitFileEnd(end), 0, 0))
}
