//! Installs the git metadata a host sends, each file at the one place its role has.
//!
//! A file that the guest changed since it was installed is kept: configuration and excludes one by one. Once
//! `HEAD` or its branch moved in the guest nothing is installed at all; the history there is the guest's own. Each
//! submodule of a full copy ([`super::module`]) is such a repository of its own, with its own answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use banger_proto::guest::v1::{
    GitFileDigest, GitFileEnd, GitFileStart, GitRole, ModulePath, Modules, PackedFiles, SyncState,
};

use super::error::ReceiverError;
use super::home::Home;
use super::module::Told;
use super::refs;
use crate::dir::{Dir, Replace, is_absent};
use crate::entry::Mtime;
use crate::path::TreePath;

/// Longest `HEAD`, reference or shallow file that is looked into.
const SMALL: u64 = 16 << 20;
const INCOMING: &[u8] = b"incoming";
/// Where unfinished runs put `HEAD` and branches: `<branch> <commit>` a line.
pub const MOVES: &[u8] = b"moves";

/// What our references were when they were last installed.
const PACKED_REFS: &[u8] = b"packed-refs";
/// Every line of `shallow` that was ever ours.
const SHALLOW: &[u8] = b"shallow";

/// The git files of one repository, and what is remembered of them.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// `.git`
    pub git: &'a Dir,
    /// `.git/banger`
    pub memory: &'a Dir,
    /// Its part about git.
    pub state: &'a SyncState,
}

struct Incoming {
    /// 0: the tree's own repository; else one more than the position among the submodules.
    module: u32,
    role: GitRole,
    name: String,
    /// `None`: it is read past.
    file: Option<File>,
    hasher: blake3::Hasher,
}

/// Takes git files in the order they are to become visible: objects first, `HEAD` last.
pub struct GitInstaller<'a> {
    home: &'a Home,
    modules: Option<Told>,
    incoming: Option<Incoming>,
    installed: Vec<(u32, GitFileDigest)>,
    /// Names of packs of the tree's own repository whose index has arrived, too.
    packs: Vec<String>,
    /// References that were ours and are no longer.
    dropped: Vec<(u32, Vec<u8>)>,
    past: bool,
    kept: bool,
}

impl<'a> GitInstaller<'a> {
    /// Makes the directories every repository has.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn new(home: &'a Home) -> Result<Self, ReceiverError> {
        make_directories(&home.git)?;
        Ok(Self {
            home,
            modules: None,
            incoming: None,
            installed: Vec::new(),
            packs: Vec::new(),
            dropped: Vec::new(),
            past: false,
            kept: false,
        })
    }

    /// Takes the files off the stream and leaves everything as it is.
    #[must_use]
    pub fn reading_past(self) -> Self {
        Self { past: true, ..self }
    }

    /// True if there was a file that was read past.
    pub fn has_kept(&self) -> bool {
        self.kept
    }

    /// Which submodules there are.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn modules(&mut self, told: Modules) -> Result<(), ReceiverError> {
        if self.modules.is_some() || self.past {
            return Err(ReceiverError::Unexpected { expected: "no submodules" });
        }
        self.modules = Some(Told::receive(self.home, told)?);
        Ok(())
    }

    fn side(&self, module: u32) -> Option<Side<'_>> {
        match module.checked_sub(1) {
            None => Some(self.home.side()),
            Some(position) => self.modules.as_ref()?.side(usize::try_from(position).ok()?),
        }
    }

    /// A file begins.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn start(&mut self, start: &GitFileStart) -> Result<(), ReceiverError> {
        let role = start.role();
        if self.incoming.is_some() || place_of(role, &start.name).is_none() || self.side(start.module).is_none() {
            return Err(ReceiverError::Unexpected { expected: "a git file with a known place" });
        }
        let mode = if matches!(role, GitRole::Pack | GitRole::PackIndex) { 0o444 } else { 0o644 };
        let file = if self.past {
            self.kept = true;
            None
        } else {
            let made = self.home.memory.create_file(INCOMING, mode);
            Some(made.map_err(ReceiverError::in_git("write", "banger"))?)
        };
        let (module, name) = (start.module, start.name.clone());
        self.incoming = Some(Incoming { module, role, name, file, hasher: blake3::Hasher::new() });
        Ok(())
    }

    /// A part of it.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn chunk(&mut self, data: &[u8]) -> Result<(), ReceiverError> {
        let Some(incoming) = &mut self.incoming else {
            return Err(ReceiverError::Unexpected { expected: "the start of a file" });
        };
        incoming.hasher.update(data);
        match &mut incoming.file {
            Some(file) => file.write_all(data).map_err(ReceiverError::in_git("write", "banger")),
            None => Ok(()),
        }
    }

    /// It ends and gets its name.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn end(&mut self, end: &GitFileEnd) -> Result<(), ReceiverError> {
        let Some(incoming) = self.incoming.take() else {
            return Err(ReceiverError::Unexpected { expected: "the start of a git file" });
        };
        let digest = incoming.hasher.finalize();
        if digest.as_bytes()[..] != end.digest[..] || end.mtime_nanos >= 1_000_000_000 {
            return Err(ReceiverError::Content { path: format!("{:?} of .git", incoming.role) });
        }
        if incoming.file.is_none() {
            return Ok(());
        }
        let mtime = Mtime { seconds: end.mtime_seconds, nanos: end.mtime_nanos };
        self.install(&incoming, digest, mtime).map_err(ReceiverError::in_git("install a file in", ""))
    }

    /// Opens the pack that files are in, and remembers what it brought.
    ///
    /// # Errors
    /// [`ReceiverError::Unexpected`] if it did not come in this conversation.
    pub fn arrived(&self, files: &PackedFiles) -> Result<File, ReceiverError> {
        let place = place_of(GitRole::Pack, &files.pack).filter(|_| self.packs.contains(&files.pack));
        let Some((path, name)) = place else {
            return Err(ReceiverError::Unexpected { expected: "files in a pack that has arrived" });
        };
        if let Some(brought) = &files.brought {
            self.home.note_objects(brought)?;
        }
        let opened = open_directory(&self.home.git, &path).and_then(|dir| dir.open_file(&name));
        opened.map_err(ReceiverError::in_git("open a pack in", "objects/pack"))
    }

    /// Where packs are; `None` as long as there are none.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn packs(&self) -> Result<Option<Dir>, ReceiverError> {
        match open_directory(&self.home.git, "objects/pack") {
            Ok(packs) => Ok(Some(packs)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(ReceiverError::in_git("open", "objects/pack")(error)),
        }
    }

    /// What was installed.
    ///
    /// # Errors
    /// [`ReceiverError::Unexpected`] within a file.
    pub fn finish(self) -> Result<Installed, ReceiverError> {
        if self.incoming.is_some() {
            return Err(ReceiverError::Unexpected { expected: "the rest of a git file" });
        }
        let touched: BTreeSet<u32> = self.installed.iter().map(|(module, _)| *module).collect();
        for module in touched {
            self.forget_loose(module).map_err(ReceiverError::in_git("clear", "refs/heads"))?;
        }
        let (own, others): (Vec<_>, Vec<_>) = self.installed.into_iter().partition(|(module, _)| *module == 0);
        let others: Vec<(usize, GitFileDigest)> =
            others.into_iter().filter_map(|(module, file)| Some((usize::try_from(module - 1).ok()?, file))).collect();
        let modules = self.modules.map(|told| told.finish(&others)).transpose()?;
        Ok(Installed { files: own.into_iter().map(|(_, file)| file).collect(), modules })
    }

    fn install(&mut self, incoming: &Incoming, digest: blake3::Hash, mtime: Mtime) -> io::Result<()> {
        let staging = &self.home.memory;
        let (path, name) = place_of(incoming.role, &incoming.name).ok_or(ErrorKind::InvalidInput)?;
        let side = self.side(incoming.module).ok_or(ErrorKind::InvalidInput)?;
        let dir = directory(side.git, &path)?;
        let mut dropped = Vec::new();
        let mut now_ours = None;
        match incoming.role {
            GitRole::Shallow | GitRole::ShallowExactly => self.merge_lines(side, &dir, incoming.role)?,
            GitRole::PackedRefs => {
                let now = read_small_bytes(staging, INCOMING)?.unwrap_or_default();
                if !refs::are_branches_and_tags(&now) {
                    return Err(ErrorKind::InvalidInput.into());
                }
                let before = read_small_bytes(side.memory, PACKED_REFS)?.unwrap_or_default();
                let guest = read_small_bytes(&dir, &name)?.unwrap_or_default();
                // Before the first run there is nothing the guest could have deleted.
                let merged = refs::merge(&before, &now, &guest);
                dropped.extend(refs::dropped(&before, &now).into_iter().map(|name| (incoming.module, name)));
                rewrite(staging, INCOMING, &merged)?;
                now_ours = Some(now);
            }
            role if is_plain(role) && changed_in_guest(side, &dir, role, &name)? => {
                return staging.remove_file(INCOMING);
            }
            GitRole::Index => staging.set_mtime(INCOMING, mtime)?,
            GitRole::Branch => {
                let target = read_small(staging, INCOMING)?.unwrap_or_default();
                note_move(side.memory, &incoming.name, target.trim_end())?;
            }
            GitRole::Head => {
                let head = read_small(staging, INCOMING)?.unwrap_or_default();
                let (branch, target) = resolve_head(side.git, &head)?;
                note_move(side.memory, &branch, &target)?;
            }
            _ => {}
        }
        staging.rename_to(INCOMING, &dir, &name, Replace::Yes)?;
        if incoming.role == GitRole::ShallowExactly && read_small(&dir, &name)?.is_some_and(|lines| lines.is_empty()) {
            dir.remove_file(&name)?;
        }
        if let Some(now) = now_ours {
            rewrite(side.memory, PACKED_REFS, &now)?;
        }
        self.dropped.extend(dropped);
        let digest = digest.as_bytes().to_vec();
        if (incoming.role, incoming.module) == (GitRole::PackIndex, 0) {
            self.packs.push(incoming.name.clone());
        }
        if !matches!(incoming.role, GitRole::Pack | GitRole::PackIndex) {
            let file = GitFileDigest { role: incoming.role.into(), name: incoming.name.clone(), digest };
            self.installed.push((incoming.module, file));
        }
        Ok(())
    }

    /// The guest's own lines stay, and with [`GitRole::Shallow`] ours of earlier runs as well.
    fn merge_lines(&self, side: Side<'_>, dir: &Dir, role: GitRole) -> io::Result<()> {
        let staging = &self.home.memory;
        let there = read_small(dir, SHALLOW)?.unwrap_or_default();
        let ours = read_small(side.memory, SHALLOW)?.unwrap_or_default();
        let new = read_small(staging, INCOMING)?.unwrap_or_default();
        let text = |lines: BTreeSet<&str>| lines.into_iter().map(|line| format!("{line}\n")).collect::<String>();
        rewrite(side.memory, SHALLOW, text(ours.lines().chain(new.lines()).collect()).as_bytes())?;
        let mut lines: BTreeSet<&str> = there.lines().collect();
        if role == GitRole::ShallowExactly {
            let ours: BTreeSet<&str> = ours.lines().collect();
            lines.retain(|line| !ours.contains(line));
        }
        lines.extend(new.lines());
        rewrite(staging, INCOMING, text(lines).as_bytes())
    }

    /// A branch `HEAD` was on is a file of its own, which hides what the packed references say since. Files that are
    /// as we put them go where those say something else.
    fn forget_loose(&self, module: u32) -> io::Result<()> {
        let Some(side) = self.side(module) else { return Ok(()) };
        let Some(packed) = read_small_bytes(side.memory, PACKED_REFS)? else { return Ok(()) };
        let head = read_small(side.git, b"HEAD")?.unwrap_or_default();
        let installed = self.installed.iter().filter(|(of, _)| *of == module).map(|(_, file)| file);
        let mut ours: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for file in side.state.git_files.iter().chain(installed).filter(|file| file.role() == GitRole::Branch) {
            ours.insert(&file.name, &file.digest);
        }
        for (name, digest) in ours {
            let Some((path, file)) = place_of(GitRole::Branch, name) else { continue };
            if head.trim_end().strip_prefix("ref: ") == Some(name) {
                continue;
            }
            let dir = match open_directory(side.git, &path) {
                Ok(dir) => dir,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            let Some(there) = read_small_bytes(&dir, &file)? else { continue };
            if blake3::hash(&there).as_bytes()[..] != *digest {
                continue;
            }
            let outdated = match refs::get(&packed, name) {
                Some(now) => now != there.trim_ascii_end(),
                None => self.dropped.iter().any(|(of, gone)| *of == module && gone == name.as_bytes()),
            };
            if outdated {
                dir.remove_file(&file)?;
            }
        }
        Ok(())
    }
}

/// What a run installed.
#[derive(Debug, Default)]
pub struct Installed {
    /// Of the tree's own repository.
    pub files: Vec<GitFileDigest>,
    /// The submodules there are now, if that was told.
    pub modules: Option<Vec<ModulePath>>,
}

/// Makes the directories every repository has.
///
/// # Errors
/// [`ReceiverError::Io`].
pub(super) fn make_directories(git: &Dir) -> Result<(), ReceiverError> {
    for path in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
        directory(git, path).map_err(ReceiverError::in_git("make", path))?;
    }
    Ok(())
}

/// True if a file is there that is not the one installed last.
fn changed_in_guest(side: Side<'_>, dir: &Dir, role: GitRole, name: &[u8]) -> io::Result<bool> {
    let Some(there) = read_small_bytes(dir, name)? else { return Ok(false) };
    let installed = installed_digest(side.state, role);
    // An interrupted first run may have left exactly the new content.
    Ok(installed.is_some_and(|digest| *digest != blake3::hash(&there).as_bytes()[..]))
}

fn rewrite(dir: &Dir, name: &[u8], bytes: &[u8]) -> io::Result<()> {
    dir.remove_file(name)?;
    dir.create_file(name, 0o644)?.write_all(bytes)
}

/// True once the guest committed, switched or reset: `HEAD` or its branch is neither as the last finished run
/// left it nor as an unfinished one may have.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn was_moved(side: Side<'_>) -> Result<bool, ReceiverError> {
    let Side { git, memory, state } = side;
    let head = read_small_bytes(git, b"HEAD").map_err(ReceiverError::in_git("read", "HEAD"))?;
    let Some(head) = head else { return Ok(installed_digest(state, GitRole::Head).is_some()) };
    let (branch, target) = read_head(git)?;
    let as_finished = installed_digest(state, GitRole::Head)
        .is_some_and(|digest| *digest == blake3::hash(&head).as_bytes()[..])
        && branch == state.branch
        && target == state.branch_target;
    let moves = read_small(memory, MOVES).map_err(ReceiverError::in_git("read", "banger"))?.unwrap_or_default();
    let ours = moves.lines().any(|line| line.split_once(' ') == Some((&branch, &target)));
    Ok(!as_finished && !ours)
}

/// Notes where an unfinished run is about to put `HEAD` or a branch.
fn note_move(memory: &Dir, branch: &str, target: &str) -> io::Result<()> {
    let mut moves = read_small(memory, MOVES)?.unwrap_or_default();
    moves.push_str(&format!("{branch} {target}\n"));
    memory.remove_file(b"new")?;
    memory.create_file(b"new", 0o600)?.write_all(moves.as_bytes())?;
    memory.rename(b"new", MOVES, Replace::Yes)
}

/// The branch `HEAD` is on (empty: none) and the commit it is at (empty: none yet).
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn read_head(git: &Dir) -> Result<(String, String), ReceiverError> {
    let failed = ReceiverError::in_git("read the branch of", "HEAD");
    let head = read_small(git, b"HEAD").map(Option::unwrap_or_default);
    head.and_then(|head| resolve_head(git, &head)).map_err(failed)
}

fn resolve_head(git: &Dir, head: &str) -> io::Result<(String, String)> {
    match head.trim_end().strip_prefix("ref: ") {
        Some(branch) => Ok((branch.to_owned(), read_reference(git, branch)?.unwrap_or_default())),
        None => Ok((String::new(), head.trim_end().to_owned())),
    }
}

fn read_reference(git: &Dir, name: &str) -> io::Result<Option<String>> {
    if let Some((path, file)) = place_of(GitRole::Branch, name) {
        match open_directory(git, &path) {
            Ok(dir) => {
                if let Some(target) = read_small(&dir, &file)? {
                    return Ok(Some(target.trim_end().to_owned()));
                }
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let packed = read_small(git, b"packed-refs")?.unwrap_or_default();
    let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.find(|(_, packed_name)| *packed_name == name).map(|(target, _)| target.to_owned()))
}

fn installed_digest(state: &SyncState, role: GitRole) -> Option<&Vec<u8>> {
    state.git_files.iter().rev().find(|file| file.role() == role).map(|file| &file.digest)
}

/// Files a person edits: the guest's edits win.
fn is_plain(role: GitRole) -> bool {
    matches!(
        role,
        GitRole::Config | GitRole::Exclude | GitRole::Attributes | GitRole::GlobalAttributes | GitRole::SparseCheckout
    )
}

/// Directory and name below `.git`; `None` if the name is not one for this role.
fn place_of(role: GitRole, name: &str) -> Option<(String, Vec<u8>)> {
    let fixed = |dir: &str, file: &str| name.is_empty().then(|| (dir.to_owned(), file.as_bytes().to_vec()));
    let is_checksum = name.len() == 40 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let pack =
        |suffix: &str| is_checksum.then(|| ("objects/pack".to_owned(), format!("pack-{name}.{suffix}").into_bytes()));
    match role {
        GitRole::Unspecified => None,
        GitRole::Pack => pack("pack"),
        GitRole::PackIndex => pack("idx"),
        GitRole::Shallow | GitRole::ShallowExactly => fixed("", "shallow"),
        GitRole::PackedRefs => fixed("", "packed-refs"),
        GitRole::Config => fixed("", "config"),
        GitRole::Exclude => fixed("info", "exclude"),
        GitRole::Attributes => fixed("info", "attributes"),
        GitRole::GlobalAttributes => fixed("banger", "attributes"),
        GitRole::SparseCheckout => fixed("info", "sparse-checkout"),
        GitRole::Index => fixed("", "index"),
        GitRole::Head => fixed("", "HEAD"),
        GitRole::Branch => branch_place(name),
    }
}

fn branch_place(name: &str) -> Option<(String, Vec<u8>)> {
    let branch = name.strip_prefix("refs/heads/")?;
    let path = TreePath::parse(branch.as_bytes()).ok()?;
    let plain = path.components().all(|part| !part.ends_with(b".lock") && !part.starts_with(b"."));
    let (parent, file) = path.split();
    let parent = std::str::from_utf8(parent).ok()?;
    let dir = if parent.is_empty() { "refs/heads".to_owned() } else { format!("refs/heads/{parent}") };
    plain.then(|| (dir, file.to_vec()))
}

/// Opens `path` below `git`, making what is missing.
fn directory(git: &Dir, path: &str) -> io::Result<Dir> {
    descend(git, path, Dir::ensure_dir)
}

fn open_directory(git: &Dir, path: &str) -> io::Result<Dir> {
    descend(git, path, Dir::open_dir)
}

fn descend(git: &Dir, path: &str, step: fn(&Dir, &[u8]) -> io::Result<Dir>) -> io::Result<Dir> {
    let mut dir = git.try_clone()?;
    for component in path.split('/').filter(|component| !component.is_empty()) {
        dir = step(&dir, component.as_bytes())?;
    }
    Ok(dir)
}

fn read_small(dir: &Dir, name: &[u8]) -> io::Result<Option<String>> {
    Ok(read_small_bytes(dir, name)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn read_small_bytes(dir: &Dir, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match dir.open_file(name) {
        Ok(file) => {
            file.take(SMALL).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
