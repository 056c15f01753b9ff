//! Decides which git files the receiver lacks and sends them: objects first, `HEAD` last.

use std::io::{self, Read};

use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{
    Chunk, Finish, GitFileDigest, GitFileEnd, GitFileStart, GitRole, Module as WireModule, Modules, Welcome,
};
use bytes::Bytes;
use gix::ObjectId;
use gix::bstr::ByteSlice;
use tokio::sync::mpsc;

use super::packed::SentPack;
use super::{GitOutcome, Outgoing, PrepareError, hand_over, outgoing};
use crate::entry::Mtime;
use crate::frames::CHUNK;
use crate::overlay::config::push_value;
use crate::overlay::{GuestGit, GuestHead, Module, Overlay};
use crate::pack::{PackPlan, WrittenPack, write_pack};
use crate::receiver::module::git_dir;

/// How many of the guest's commits are worth leaving out; more only cost time.
const KNOWN_COMMITS: usize = 32;

/// How many tips of histories are remembered in all, so that they fit into a frame. Those that are not may be sent again.
const TIPS: usize = 65_536;

/// A small git file.
struct Piece {
    role: GitRole,
    name: String,
    bytes: Vec<u8>,
    mtime: Mtime,
}

/// What is to be sent: for the tree's own repository, and for its submodules.
pub struct Metadata {
    own: Part,
    /// With the repository its objects are in; `None` for a submodule that is not checked out.
    modules: Vec<Planned>,
    /// The receiver has to be told which submodules there are.
    tell_modules: bool,
}

impl Metadata {
    /// Compares what the guest should have with what it was told to have, without submodules.
    ///
    /// # Errors
    /// [`PrepareError::Index`].
    pub fn plan(git: &GuestGit, welcome: &Welcome, guest_path: &str) -> Result<Self, PrepareError> {
        let git_dir = format!("{}/.git", guest_path.trim_end_matches('/'));
        let own = Part::plan(git, welcome, (&git_dir, &[]), TIPS)?;
        Ok(Self { own, modules: Vec::new(), tell_modules: false })
    }

    /// The same for everything that was observed.
    ///
    /// # Errors
    /// [`PrepareError::Index`].
    pub fn plan_all(overlay: &Overlay, welcome: &Welcome, guest_path: &str) -> Result<Self, PrepareError> {
        let mut metadata = Self::plan(&overlay.git, welcome, guest_path)?;
        // The receiver takes no git files at all then.
        if welcome.git_moved {
            return Ok(metadata);
        }
        metadata.tell_modules = !overlay.modules.is_empty() || !welcome.modules.is_empty();
        let tips = (TIPS / overlay.modules.len().max(1)).max(1);
        let modules = overlay.modules.iter().map(|module| plan_module(module, welcome, guest_path, tips));
        metadata.modules = modules.collect::<Result<_, _>>()?;
        Ok(metadata)
    }

    /// Sends the objects of the tree's own repository ahead of everything; `None` if there are none to send.
    pub fn send_objects(
        &mut self,
        repository: &gix::Repository,
        out: &mpsc::Sender<Outgoing>,
    ) -> Result<Option<SentPack>, PrepareError> {
        let Some(plan) = self.own.pack.as_ref().filter(|_| !self.own.pack_is_sent) else { return Ok(None) };
        let sent = send_pack(repository, plan, &To { out, module: 0 })?;
        self.own.pack_is_sent = true;
        Ok(sent.map(|(name, pack)| SentPack { name, objects: pack.objects, brought: self.own.finish() }))
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let modules = self.modules.iter().filter_map(|(_, populated)| Some(&populated.as_ref()?.0));
        std::iter::once(&self.own).chain(modules)
    }

    /// Sends everything.
    pub fn send(&self, repository: &gix::Repository, out: &mpsc::Sender<Outgoing>) -> Result<(), PrepareError> {
        if self.tell_modules {
            let modules = self.modules.iter().map(|(parts, populated)| WireModule {
                parts: parts.clone(),
                populated: populated.is_some(),
                finish: populated.as_ref().filter(|(part, _)| !part.moved).map(|(part, _)| part.finish()),
            });
            hand_over(out, outgoing(Request::Modules(Modules { modules: modules.collect() }), 0, 0))?;
        }
        // Those inside first: the outer repository's index names their commits.
        for (number, (_, populated)) in (1..).zip(&self.modules) {
            if let Some((part, repository)) = populated {
                part.send(&repository.to_thread_local(), &To { out, module: number })?;
            }
        }
        self.own.send(repository, &To { out, module: 0 })
    }

    /// True if the receiver has everything.
    pub fn is_empty(&self) -> bool {
        self.parts().all(Part::is_empty)
    }

    /// Has the receiver's memory say what it says once this is installed; without submodules.
    pub fn note(&self, welcome: &mut Welcome) {
        self.own.note(welcome);
    }

    /// What it comes to.
    pub fn outcome(&self) -> GitOutcome {
        if self.parts().any(|part| part.moved) {
            GitOutcome::KeptGuestHistory
        } else if self.is_empty() {
            GitOutcome::Unchanged
        } else {
            GitOutcome::Installed
        }
    }

    /// What the receiver is to remember about the objects.
    pub fn finish(&self) -> Finish {
        self.own.finish()
    }
}

type Planned = (Vec<Vec<u8>>, Option<(Part, gix::ThreadSafeRepository)>);

fn plan_module(module: &Module, welcome: &Welcome, guest_path: &str, tips: usize) -> Result<Planned, PrepareError> {
    let parts: Vec<Vec<u8>> = module.parts.iter().map(|part| part.as_bytes().to_vec()).collect();
    let Some((git, repository)) = &module.git else { return Ok((parts, None)) };
    let known = welcome.modules.iter().find(|known| known.parts == parts).and_then(|known| known.welcome.clone());
    let place = git_dir(&parts);
    // From its git directory to its working tree.
    let depth = place.split(|byte| *byte == b'/').count();
    let mut work_tree = b"../".repeat(depth);
    work_tree.extend_from_slice(module.path.as_bytes());
    let mut config = b"[core]\n".to_vec();
    push_value(&mut config, "worktree", work_tree.as_bstr());
    let place = String::from_utf8_lossy(&place).into_owned();
    let place = format!("{}/{place}", guest_path.trim_end_matches('/'));
    let part = Part::plan(git, &known.unwrap_or_default(), (&place, &config), tips)?;
    Ok((parts, Some((part, repository.clone()))))
}

/// What is to be sent for one repository.
struct Part {
    pieces: Vec<Piece>,
    pack: Option<PackPlan>,
    /// Ahead of the rest.
    pack_is_sent: bool,
    commit: Vec<u8>,
    object_set: Vec<u8>,
    tips: Vec<Vec<u8>>,
    moved: bool,
}

impl Part {
    /// `git_dir`: its place in the guest; `config`: what its configuration needs besides.
    fn plan(
        git: &GuestGit,
        welcome: &Welcome,
        (git_dir, config): (&str, &[u8]),
        tips: usize,
    ) -> Result<Self, PrepareError> {
        let ids = |list: &[Vec<u8>]| list.iter().filter_map(|bytes| ObjectId::try_from(&bytes[..]).ok()).collect();
        let history = git.history.as_ref().map(|history| history.tips.clone()).unwrap_or_default();
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
            known_history: if history.is_empty() { Vec::new() } else { ids(&welcome.tips) },
            history: history.clone(),
        });
        let mut pieces = pieces(git, git_dir, config)?;
        pieces.retain(|piece| {
            let digest = blake3::hash(&piece.bytes);
            !welcome.git_moved
                && !welcome.git_files.iter().any(|known| {
                    known.role() == piece.role && known.name == piece.name && known.digest == digest.as_bytes()
                })
        });
        Ok(Self {
            pieces,
            pack,
            pack_is_sent: false,
            commit: git.commit.map(|id| id.as_slice().to_vec()).unwrap_or_default(),
            object_set: git.object_set.to_vec(),
            // The commit of `HEAD` first: most others are in its history.
            tips: git
                .commit
                .iter()
                .chain(history.iter().filter(|id| git.commit.as_ref() != Some(*id)))
                .take(tips.min(history.len()))
                .map(|id| id.as_slice().to_vec())
                .collect(),
            moved: welcome.git_moved,
        })
    }

    fn send(&self, repository: &gix::Repository, to: &To<'_>) -> Result<(), PrepareError> {
        if let Some(plan) = self.pack.as_ref().filter(|_| !self.pack_is_sent) {
            send_pack(repository, plan, to)?;
        }
        for piece in &self.pieces {
            start(to, piece.role, &piece.name)?;
            let digest = stream(to.out, &piece.bytes[..])?;
            end(to.out, digest, piece.mtime)?;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.pack.is_none() && self.pieces.is_empty()
    }

    fn note(&self, welcome: &mut Welcome) {
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

    fn finish(&self) -> Finish {
        match self.pack {
            Some(_) => {
                Finish { commit: self.commit.clone(), object_set: self.object_set.clone(), tips: self.tips.clone() }
            }
            None => Finish::default(),
        }
    }
}

/// Where frames go, and which repository they are about.
struct To<'a> {
    out: &'a mpsc::Sender<Outgoing>,
    module: u32,
}

/// In the order they are to become visible.
fn pieces(git: &GuestGit, git_dir: &str, more_config: &[u8]) -> Result<Vec<Piece>, PrepareError> {
    let piece =
        |role, bytes: &[u8]| Piece { role, name: String::new(), bytes: bytes.to_vec(), mtime: Mtime::default() };
    let mut pieces = Vec::new();
    let shallow: String = git.shallow.iter().map(|commit| format!("{commit}\n")).collect();
    if git.history.is_some() {
        pieces.push(piece(GitRole::ShallowExactly, shallow.as_bytes()));
    } else if !git.shallow.is_empty() {
        pieces.push(piece(GitRole::Shallow, shallow.as_bytes()));
    }
    let mut config = git.config.config.clone();
    if let Some(attributes) = &git.config.global_attributes
        && git_dir.starts_with('/')
    {
        pieces.push(piece(GitRole::GlobalAttributes, attributes));
        config.extend_from_slice(b"[core]\n");
        push_value(&mut config, "attributesFile", format!("{git_dir}/banger/attributes").as_bytes().as_bstr());
    }
    config.extend_from_slice(more_config);
    pieces.push(piece(GitRole::Config, &config));
    pieces.push(piece(GitRole::Exclude, &git.config.exclude));
    for (role, bytes) in
        [(GitRole::Attributes, &git.config.attributes), (GitRole::SparseCheckout, &git.config.sparse_checkout)]
    {
        pieces.extend(bytes.as_ref().map(|bytes| piece(role, bytes)));
    }
    if let Some(history) = &git.history {
        pieces.push(piece(GitRole::PackedRefs, &history.references));
    }
    if let (GuestHead::Branch(name), Some(commit)) = (&git.head, git.commit) {
        pieces.push(Piece { name: name.clone(), ..piece(GitRole::Branch, format!("{commit}\n").as_bytes()) });
    }
    if let Some(index) = &git.index {
        let index = index.finish().map_err(|source| PrepareError::Index { source })?;
        pieces.push(Piece { mtime: index.mtime, ..piece(GitRole::Index, &index.bytes) });
    }
    pieces.push(piece(GitRole::Head, git.head.render().as_bytes()));
    Ok(pieces)
}

/// Sends the pack as it is made, and its index; gives its name there. `None` if there is nothing in it.
fn send_pack(
    repository: &gix::Repository,
    plan: &PackPlan,
    to: &To<'_>,
) -> Result<Option<(String, WrittenPack)>, PrepareError> {
    let name = pack_name()?;
    let mut frames = PackFrames { to, name: &name, hasher: blake3::Hasher::new(), started: false };
    let written = write_pack(repository, plan, |block| frames.hand_over(block.into()).map_err(io::Error::other));
    let Some(pack) = written.map_err(|source| PrepareError::Pack { source })? else { return Ok(None) };
    end(to.out, frames.hasher.finalize(), Mtime::default())?;
    send_file(to, GitRole::PackIndex, &name, &pack.index[..])?;
    Ok(Some((name, pack)))
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

/// Puts what is written into frames.
struct PackFrames<'a> {
    to: &'a To<'a>,
    name: &'a str,
    hasher: blake3::Hasher,
    started: bool,
}

impl PackFrames<'_> {
    fn hand_over(&mut self, mut block: Bytes) -> Result<(), PrepareError> {
        if !self.started {
            start(self.to, GitRole::Pack, self.name)?;
            self.started = true;
        }
        self.hasher.update(&block);
        while !block.is_empty() {
            let data = block.split_to(block.len().min(CHUNK));
            let bytes = data.len() as u64;
            let chunk = outgoing(Request::Chunk(Chunk { data }), 0, bytes);
            hand_over(self.to.out, Outgoing { more_bytes: bytes, ..chunk })?;
        }
        Ok(())
    }
}

fn send_file(to: &To<'_>, role: GitRole, name: &str, from: impl Read) -> Result<(), PrepareError> {
    start(to, role, name)?;
    let digest = stream(to.out, from)?;
    end(to.out, digest, Mtime::default())
}

fn start(to: &To<'_>, role: GitRole, name: &str) -> Result<(), PrepareError> {
    let start = GitFileStart { role: role.into(), name: name.to_owned(), module: to.module };
    hand_over(to.out, outgoing(Request::GitFileStart(start), 0, 0))
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
        hand_over(
            out,
            Outgoing { more_bytes: bytes, ..outgoing(Request::Chunk(Chunk { data: data.into() }), 0, bytes) },
        )?;
    }
}

fn read_chunk(from: &mut impl Read, data: &mut Vec<u8>) -> io::Result<usize> {
    from.by_ref().take(CHUNK as u64).read_to_end(data)
}

fn end(out: &mpsc::Sender<Outgoing>, digest: blake3::Hash, mtime: Mtime) -> Result<(), PrepareError> {
    let end = GitFileEnd { digest: digest.as_bytes().to_vec(), mtime_seconds: mtime.seconds, mtime_nanos: mtime.nanos };
    hand_over(out, outgoing(Request::GitFileEnd(end), 0, 0))
}
