//! Installs the git metadata a host sends, each file at the one place its role has.
//!
//! A file that the guest changed since it was installed is kept: configuration and excludes one by one. Once
//! `HEAD` or its branch moved in the guest nothing is installed at all; the history there is the guest's own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use banger_proto::guest::v1::{GitFileDigest, GitFileEnd, GitFileStart, GitRole};

use super::error::ReceiverError;
use super::home::Home;
use crate::dir::{Dir, Replace, is_absent};
use crate::entry::Mtime;
use crate::path::TreePath;

/// Longest `HEAD`, reference or shallow file that is looked into.
const SMALL: u64 = 16 << 20;
const INCOMING: &[u8] = b"incoming";
/// Where unfinished runs put `HEAD` and branches: `<branch> <commit>` a line.
pub const MOVES: &[u8] = b"moves";

struct Incoming {
    role: GitRole,
    name: String,
    /// `None`: it is read past.
    file: Option<File>,
    hasher: blake3::Hasher,
}

/// Takes git files in the order they are to become visible: objects first, `HEAD` last.
pub struct GitInstaller<'a> {
    home: &'a Home,
    incoming: Option<Incoming>,
    installed: Vec<GitFileDigest>,
    past: bool,
    kept: bool,
}

impl<'a> GitInstaller<'a> {
    /// Makes the directories every repository has.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn new(home: &'a Home) -> Result<Self, ReceiverError> {
        for path in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
            directory(&home.git, path).map_err(ReceiverError::in_git("make", path))?;
        }
        Ok(Self { home, incoming: None, installed: Vec::new(), past: false, kept: false })
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

    /// A file begins.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn start(&mut self, start: &GitFileStart) -> Result<(), ReceiverError> {
        let role = start.role();
        if self.incoming.is_some() || place_of(role, &start.name).is_none() {
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
        self.incoming = Some(Incoming { role, name: start.name.clone(), file, hasher: blake3::Hasher::new() });
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

    /// What was installed.
    ///
    /// # Errors
    /// [`ReceiverError::Unexpected`] within a file.
    pub fn finish(self) -> Result<Vec<GitFileDigest>, ReceiverError> {
        match self.incoming {
            Some(_) => Err(ReceiverError::Unexpected { expected: "the rest of a git file" }),
            None => Ok(self.installed),
        }
    }

    fn install(&mut self, incoming: &Incoming, digest: blake3::Hash, mtime: Mtime) -> io::Result<()> {
        let memory = &self.home.memory;
        let (path, name) = place_of(incoming.role, &incoming.name).ok_or(ErrorKind::InvalidInput)?;
        let dir = directory(&self.home.git, &path)?;
        match incoming.role {
            GitRole::Shallow => self.merge_lines(&dir, &name)?,
            role if is_plain(role) && self.changed_in_guest(&dir, role, &name)? => {
                return memory.remove_file(INCOMING);
            }
            GitRole::Index => memory.set_mtime(INCOMING, mtime)?,
            GitRole::Branch => {
                let target = read_small(memory, INCOMING)?.unwrap_or_default();
                note_move(memory, &incoming.name, target.trim_end())?;
            }
            GitRole::Head => {
                let head = read_small(memory, INCOMING)?.unwrap_or_default();
                let (branch, target) = resolve_head(&self.home.git, &head)?;
                note_move(memory, &branch, &target)?;
            }
            _ => {}
        }
        memory.rename_to(INCOMING, &dir, &name, Replace::Yes)?;
        let digest = digest.as_bytes().to_vec();
        if !matches!(incoming.role, GitRole::Pack | GitRole::PackIndex) {
            self.installed.push(GitFileDigest { role: incoming.role.into(), name: incoming.name.clone(), digest });
        }
        Ok(())
    }

    fn merge_lines(&self, dir: &Dir, name: &[u8]) -> io::Result<()> {
        let memory = &self.home.memory;
        let Some(old) = read_small(dir, name)? else { return Ok(()) };
        let new = read_small(memory, INCOMING)?.unwrap_or_default();
        let lines: BTreeSet<&str> = old.lines().chain(new.lines()).collect();
        let merged: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
        memory.remove_file(INCOMING)?;
        memory.create_file(INCOMING, 0o644)?.write_all(merged.as_bytes())
    }

    /// True if a file is there that is not the one installed last.
    fn changed_in_guest(&self, dir: &Dir, role: GitRole, name: &[u8]) -> io::Result<bool> {
        let Some(there) = read_small_bytes(dir, name)? else { return Ok(false) };
        let installed = installed_digest(self.home, role);
        // An interrupted first run may have left exactly the new content.
        Ok(installed.is_some_and(|digest| *digest != blake3::hash(&there).as_bytes()[..]))
    }
}

/// True once the guest committed, switched or reset: `HEAD` or its branch is neither as the last finished run
/// left it nor as an unfinished one may have.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn was_moved(home: &Home) -> Result<bool, ReceiverError> {
    let head = read_small_bytes(&home.git, b"HEAD").map_err(ReceiverError::in_git("read", "HEAD"))?;
    let Some(head) = head else { return Ok(installed_digest(home, GitRole::Head).is_some()) };
    let (branch, target) = read_head(&home.git)?;
    let as_finished = installed_digest(home, GitRole::Head)
        .is_some_and(|digest| *digest == blake3::hash(&head).as_bytes()[..])
        && branch == home.state.branch
        && target == home.state.branch_target;
    let moves = read_small(&home.memory, MOVES).map_err(ReceiverError::in_git("read", "banger"))?.unwrap_or_default();
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

fn installed_digest(home: &Home, role: GitRole) -> Option<&Vec<u8>> {
    home.state.git_files.iter().rev().find(|file| file.role() == role).map(|file| &file.digest)
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
        GitRole::Shallow => fixed("", "shallow"),
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
