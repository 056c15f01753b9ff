//! The receiver's memory of a root: what it put there, and what an unfinished run may have changed.
//!
//! ```text
//! <root>/.git/banger/lock      held while a run lasts
//!                    state     what the last finished run applied
//!                    pending   what unfinished runs since may have changed
//!                    journal   what a followed workspace changed since, in place of `pending` ([`super::journal`])
//!                    incoming  a git file on its way
//!                    tree      a whole tree on its way ([`super::staging`])
//! ```
//! `pending` is written before the first change and removed after `state`, so at every moment the two together
//! tell our work from the guest's.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use banger_proto::guest::v1::{Finish, GitFileDigest, GitRole, StateEntry, SyncPending, SyncState, WireEntry};
use prost::Message;
use rustix::fs::FlockOperation;

use super::apply::Applied;
use super::error::ReceiverError;
use super::git::{self, Installed, Side};
use super::journal::{self, Journal};
use super::plan::Plan;
use super::staging::TREE;
use crate::dir::{Dir, Replace, Stamp, Walker, is_absent};
use crate::entry::{Content, Entry, Mtime};
use crate::frames::VERSION;
use crate::path::TreePath;
use crate::wire::parse_entry;

/// Names of files on their way into the tree start with this.
pub const TEMPORARY: &[u8] = b".banger-tmp-";
const MEMORY_LIMIT: u64 = 2 << 30;
/// What a fresh file system may contain without being occupied.
pub(super) const NOT_CONTENT: &[&[u8]] = &[b"lost+found"];
/// How long to wait for another transfer: a batch of a followed workspace is over in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// The same between two batches, when somebody may be reading the whole tree.
const RETAKE_PATIENCE: Duration = Duration::from_secs(600);

/// What a finished run knew about one of its entries.
#[derive(Debug, Clone)]
pub struct Known {
    /// What was put there.
    pub entry: Entry,
    /// How it looked right afterwards.
    pub stamp: Stamp,
}

/// An open root with its lock held.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// The tree's root.
    pub root: Dir,
    /// `.git`
    pub git: Dir,
    /// `.git/banger`
    pub memory: Dir,
    /// As decoded; `entries` moved to [`Home::known`].
    pub state: SyncState,
    /// The last finished run's entries.
    pub known: HashMap<TreePath, Known>,
    /// Further contents a path may have from unfinished runs.
    pub pending: HashMap<TreePath, Vec<Option<Content>>>,
    /// Nothing at all was there.
    pub fresh: bool,
    /// Batches since the state was written.
    pub(super) journal: Journal,
    /// The state file as we know it.
    state_seen: Option<Stamp>,
    lock: File,
}

impl Home {
    /// Makes or opens `path`, refuses one with foreign content, takes the lock and clears up after an
    /// interrupted run.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn open(path: &Path) -> Result<Self, ReceiverError> {
        let failed = |action| move |source| ReceiverError::Root { action, root: path.to_owned(), source };
        fs::create_dir_all(path).map_err(failed("create the directory"))?;
        let root = Dir::open_root(path).map_err(failed("open the directory"))?;
        let names = root.names().map_err(failed("read the directory"))?;
        let fresh = names.iter().all(|(name, _)| NOT_CONTENT.contains(&&name[..]));
        if !fresh && !is_ours(&root) {
            return Err(ReceiverError::Occupied { root: path.to_owned() });
        }
        let git = root.ensure_dir(b".git").map_err(failed("create .git in"))?;
        let memory = git.ensure_dir(b"banger").map_err(failed("create .git/banger in"))?;
        let lock = take_lock(&memory).map_err(failed("lock"))?;
        let Some(lock) = lock else { return Err(ReceiverError::Busy { root: path.to_owned() }) };
        let mut home = Self {
            path: path.to_owned(),
            root,
            git,
            memory,
            state: SyncState::default(),
            known: HashMap::new(),
            pending: HashMap::new(),
            fresh,
            journal: Journal::default(),
            state_seen: None,
            lock,
        };
        home.load()?;
        home.clear_temporaries()?;
        Ok(home)
    }

    /// Opens what an earlier run made and changes nothing.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn open_existing(path: &Path) -> Result<Self, ReceiverError> {
        let missing = || ReceiverError::NoWorkspace { root: path.to_owned() };
        let root = Dir::open_root(path).map_err(|_| missing())?;
        let git = root.open_dir(b".git").map_err(|_| missing())?;
        let memory = git.open_dir(b"banger").map_err(|_| missing())?;
        let failed = |action| move |source| ReceiverError::Root { action, root: path.to_owned(), source };
        let Some(lock) = take_lock(&memory).map_err(failed("lock"))? else {
            return Err(ReceiverError::Busy { root: path.to_owned() });
        };
        let mut home = Self {
            path: path.to_owned(),
            root,
            git,
            memory,
            state: SyncState::default(),
            known: HashMap::new(),
            pending: HashMap::new(),
            fresh: false,
            journal: Journal::default(),
            state_seen: None,
            lock,
        };
        home.load()?;
        Ok(home)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A way through the tree from its root.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn walker(&self) -> Result<Walker, ReceiverError> {
        Ok(Walker::new(self.root.try_clone().map_err(ReceiverError::in_git("open", ".."))?))
    }

    /// The git files of the tree's own repository.
    pub fn side(&self) -> Side<'_> {
        Side { git: &self.git, memory: &self.memory, state: &self.state }
    }

    /// Every content of ours `path` may have, `None` standing for absent.
    pub fn bases(&self, path: &TreePath) -> Vec<Option<Content>> {
        self.bases_beside(self.known.get(path), path)
    }

    /// The same for whoever has looked up what is known already.
    pub fn bases_beside(&self, known: Option<&Known>, path: &TreePath) -> Vec<Option<Content>> {
        let mut bases = vec![known.map(|known| known.entry.content())];
        bases.extend(self.pending.get(path).into_iter().flatten().copied());
        bases
    }

    /// Remembers what the plan is about to change, together with what earlier runs left unfinished.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn save_pending(&self, plan: &Plan) -> Result<(), ReceiverError> {
        let mut entries: Vec<WireEntry> = plan.writes().map(WireEntry::from).collect();
        entries.extend(plan.removals.iter().map(absent));
        for (path, contents) in &self.pending {
            entries.extend(contents.iter().map(|content| match content {
                Some(content) => WireEntry {
                    path: path.as_bytes().to_vec(),
                    kind: crate::wire::wire_kind(content.kind).into(),
                    digest: content.digest.as_bytes().to_vec(),
                    ..WireEntry::default()
                },
                None => absent(path),
            }));
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.replace(b"pending", &SyncPending { entries }.encode_to_vec())
    }

    /// Lets others at the root until [`Home::retake`].
    ///
    /// # Errors
    /// [`ReceiverError::Root`].
    pub fn release(&self) -> Result<(), ReceiverError> {
        let released = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
        released.map_err(|error| self.cannot("unlock", error.into()))
    }

    /// Waits for the lock again.
    ///
    /// # Errors
    /// [`ReceiverError::Busy`] also if another transfer changed what is remembered meanwhile.
    pub fn retake(&self) -> Result<(), ReceiverError> {
        let taken = wait_for(&self.lock, RETAKE_PATIENCE).map_err(|source| self.cannot("lock", source))?;
        let read = |source| self.cannot("look at the record of", source);
        let same = self.memory.stamp(b"state").map_err(read)? == self.state_seen;
        let alone = self.memory.stamp(b"pending").map_err(read)?.is_none();
        if taken && same && alone { Ok(()) } else { Err(ReceiverError::Busy { root: self.path.clone() }) }
    }

    fn cannot(&self, action: &'static str, source: io::Error) -> ReceiverError {
        ReceiverError::Root { action, root: self.path.clone(), source }
    }

    /// Goes on from a finished run in the same process.
    pub fn adopt(&mut self, known: Vec<Known>) {
        self.known = known.into_iter().map(|known| (known.entry.path.clone(), known)).collect();
        self.pending.clear();
        self.fresh = false;
    }

    /// Remembers a finished run.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn save_state(&mut self, applied: &Applied, git: Installed, finish: &Finish) -> Result<(), ReceiverError> {
        let entries = applied.known.iter().map(state_entry).collect();
        self.write_state(entries, git, finish)
    }

    /// The same for everything that is known: the journal begins anew.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn checkpoint(&mut self, git: Installed, finish: &Finish) -> Result<(), ReceiverError> {
        let entries = self.known.values().map(state_entry).collect();
        self.write_state(entries, git, finish)
    }

    /// Remembers objects that came before the run is finished: a next one need not bring them again.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn note_objects(&self, brought: &Finish) -> Result<(), ReceiverError> {
        let mut state = self.state.clone();
        state.entries = self.known.values().map(state_entry).collect();
        take_over(&mut state, &self.git, Vec::new(), brought)?;
        self.replace(b"state", &state.encode_to_vec())
    }

    fn write_state(&mut self, entries: Vec<StateEntry>, git: Installed, finish: &Finish) -> Result<(), ReceiverError> {
        let mut state = std::mem::take(&mut self.state);
        state.entries = entries;
        take_over(&mut state, &self.git, git.files, finish)?;
        if let Some(modules) = git.modules {
            state.modules = modules;
        }
        self.replace(b"state", &state.encode_to_vec())?;
        state.entries = Vec::new();
        self.state = state;
        self.journal = Journal::default();
        let cleared = (|| {
            self.memory.remove_file(git::MOVES)?;
            self.memory.remove_file(b"pending")?;
            self.memory.remove_file(journal::NAME)?;
            self.memory.stamp(b"state")
        })();
        self.state_seen = cleared.map_err(ReceiverError::in_git("clear", "banger"))?;
        Ok(())
    }

    pub(super) fn replace(&self, name: &[u8], bytes: &[u8]) -> Result<(), ReceiverError> {
        let written = (|| {
            self.memory.remove_file(b"new")?;
            self.memory.create_file(b"new", 0o600)?.write_all(bytes)?;
            self.memory.rename(b"new", name, Replace::Yes)
        })();
        written.map_err(ReceiverError::in_git("write", "banger"))
    }

    fn load(&mut self) -> Result<(), ReceiverError> {
        let path = self.path.clone();
        let damaged = || ReceiverError::State { root: path.clone() };
        if let Some(bytes) = self.read(b"state")? {
            let mut state = SyncState::decode(&bytes[..]).map_err(|_| damaged())?;
            self.known.reserve(state.entries.len());
            for stored in std::mem::take(&mut state.entries) {
                let known = known_entry(stored).ok_or_else(damaged)?;
                self.known.insert(known.entry.path.clone(), known);
            }
            self.state = state;
            self.state_seen = self.memory.stamp(b"state").map_err(ReceiverError::in_git("read", "banger"))?;
        }
        if let Some(bytes) = self.read(b"pending")? {
            let pending = SyncPending::decode(&bytes[..]).map_err(|_| damaged())?;
            for wire in &pending.entries {
                let (path, content) = intended(wire).ok_or_else(damaged)?;
                self.pending.entry(path).or_default().push(content);
            }
        }
        if let Some(bytes) = self.read(journal::NAME)? {
            journal::replay(self, &bytes).ok_or_else(damaged)?;
        }
        Ok(())
    }

    pub(super) fn read(&self, name: &[u8]) -> Result<Option<Vec<u8>>, ReceiverError> {
        let mut bytes = Vec::new();
        match self.memory.open_file(name) {
            Ok(file) => {
                file.take(MEMORY_LIMIT).read_to_end(&mut bytes).map_err(ReceiverError::in_git("read", "banger"))?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ReceiverError::in_git("read", "banger")(error)),
        }
    }

    /// An interrupted run leaves a temporary for each core, in directories of paths it was going to write.
    fn clear_temporaries(&self) -> Result<(), ReceiverError> {
        let mut walker = Walker::new(self.root.try_clone().map_err(ReceiverError::in_git("open", "banger"))?);
        let mut paths: Vec<&TreePath> = self.pending.keys().collect();
        paths.sort_unstable();
        paths.dedup_by(|one, other| one.split().0 == other.split().0);
        for path in paths {
            let dir = match walker.parent(path) {
                Ok((dir, _)) => dir,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(ReceiverError::at("open the directory of", path)(error)),
            };
            let failed = || ReceiverError::at("clear the directory of", path);
            for (name, _) in dir.names().map_err(failed())? {
                if name.starts_with(TEMPORARY) {
                    dir.remove_file(&name).map_err(failed())?;
                }
            }
        }
        self.memory.remove_tree(TREE).map_err(ReceiverError::in_git("remove", "banger/tree"))?;
        self.memory.remove_file(b"incoming").map_err(ReceiverError::in_git("remove", "banger/incoming"))
    }
}

/// Notes in `state` what was installed in `git`.
///
/// # Errors
/// [`ReceiverError::Io`].
pub(super) fn take_over(
    state: &mut SyncState,
    git: &Dir,
    files: Vec<GitFileDigest>,
    finish: &Finish,
) -> Result<(), ReceiverError> {
    state.version = VERSION;
    if !files.is_empty() {
        for file in files {
            state.git_files.retain(|known| known.role != file.role || known.name != file.name);
            // One file with two roles: what the other said of it is over.
            let other = match file.role() {
                GitRole::Shallow => GitRole::ShallowExactly,
                GitRole::ShallowExactly => GitRole::Shallow,
                _ => GitRole::Unspecified,
            };
            let count = state.git_files.len();
            state.git_files.retain(|known| known.role() != other);
            if file.role() == GitRole::Shallow && state.git_files.len() < count {
                // The history of a full copy is cut now; what lies beyond may be collected as garbage.
                state.tips.clear();
                state.object_sets.clear();
            }
            state.git_files.push(file);
        }
        (state.branch, state.branch_target) = git::read_head(git)?;
    }
    for (list, new) in [(&mut state.commits, &finish.commit), (&mut state.object_sets, &finish.object_set)] {
        if !new.is_empty() && !list.contains(new) {
            list.push(new.clone());
        }
    }
    if !finish.tips.is_empty() {
        state.tips.clone_from(&finish.tips);
    }
    Ok(())
}

pub(super) fn state_entry(known: &Known) -> StateEntry {
    StateEntry {
        entry: Some(WireEntry::from(&known.entry)),
        inode: known.stamp.inode,
        ctime_seconds: known.stamp.ctime.seconds,
        ctime_nanos: known.stamp.ctime.nanos,
        mtime_seconds: known.stamp.mtime.seconds,
        mtime_nanos: known.stamp.mtime.nanos,
    }
}

pub(super) fn known_entry(stored: StateEntry) -> Option<Known> {
    let entry = parse_entry(&stored.entry.unwrap_or_default()).ok()?;
    let stamp = Stamp {
        inode: stored.inode,
        size: entry.size,
        mtime: Mtime { seconds: stored.mtime_seconds, nanos: stored.mtime_nanos },
        ctime: Mtime { seconds: stored.ctime_seconds, nanos: stored.ctime_nanos },
        mode: 0,
    };
    Some(Known { entry, stamp })
}

/// What a path may contain because of an unfinished run; no kind is absent.
pub(super) fn intended(wire: &WireEntry) -> Option<(TreePath, Option<Content>)> {
    let path = TreePath::parse(&wire.path).ok()?;
    let content = match crate::wire::parse_kind(wire.kind()) {
        Some(kind) => Some(Content { kind, digest: crate::wire::parse_digest(&wire.digest)? }),
        None => None,
    };
    Some((path, content))
}

pub(super) fn absent(path: &TreePath) -> WireEntry {
    WireEntry { path: path.as_bytes().to_vec(), ..WireEntry::default() }
}

fn is_ours(root: &Dir) -> bool {
    root.open_dir(b".git").and_then(|git| git.open_dir(b"banger")).is_ok()
}

/// `None` if somebody else holds it.
pub(super) fn take_lock(memory: &Dir) -> io::Result<Option<File>> {
    let file = match memory.create_file(b"lock", 0o600) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => memory.open_file(b"lock")?,
        Err(error) => return Err(error),
    };
    Ok(wait_for(&file, LOCK_PATIENCE)?.then_some(file))
}

fn wait_for(file: &File, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
