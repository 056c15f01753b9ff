//! The submodules of a full copy: where their git directories are, and what is remembered of each.
//!
//! ```text
//! <root>/.git/modules/<path>                  git directory of the submodule at <path>
//! <root>/.git/modules/<path>/modules/<inner>  of one inside it
//! <root>/<path>/.git                          a file that names it
//! ```
//! Each git directory has a `banger` of its own, with the state of its git files. The files of the working tree are
//! files of the tree like all others.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use banger_proto::guest::v1::{Finish, GitFileDigest, ModulePath, ModuleWelcome, Modules, SyncState, Welcome};
use prost::Message;

use super::error::ReceiverError;
use super::git::{self, Side};
use super::home::{Home, take_over};
use crate::dir::{Dir, Replace, Walker, is_absent};
use crate::frames::VERSION;
use crate::path::TreePath;

/// Most submodules of one tree.
const LIMIT: usize = 4096;
/// Most repositories around one.
const DEPTH: usize = 32;
const STATE: &[u8] = b"state";
const STATE_LIMIT: u64 = 64 << 20;
/// Longer than any file that names a git directory.
const LINK_LIMIT: u64 = 64 << 10;

/// Where the git directory of the submodule with these parts is, seen from the root.
pub fn git_dir(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut place = b".git".to_vec();
    for part in parts {
        place.extend_from_slice(b"/modules/");
        place.extend_from_slice(part.as_ref());
    }
    place
}

/// One submodule's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Where it is in the tree.
    pub path: TreePath,
    parts: Vec<Vec<u8>>,
}

impl Name {
    fn parse(parts: &[Vec<u8>]) -> Option<Self> {
        if parts.is_empty() || parts.len() > DEPTH || parts.iter().any(|part| TreePath::parse(part).is_err()) {
            return None;
        }
        Some(Self { path: TreePath::parse(&parts.join(&b'/')).ok()?, parts: parts.to_vec() })
    }

    fn wire(&self) -> ModulePath {
        ModulePath { parts: self.parts.clone() }
    }

    /// Opens its git directory with `step` for each component.
    fn open(&self, git: &Dir, step: fn(&Dir, &[u8]) -> io::Result<Dir>) -> io::Result<Dir> {
        let place = git_dir(&self.parts);
        let mut dir = git.try_clone()?;
        for component in place.split(|byte| *byte == b'/').skip(1) {
            dir = step(&dir, component)?;
        }
        Ok(dir)
    }

    /// Where its git directory is.
    pub fn git_dir(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        root.join(std::ffi::OsStr::from_bytes(&git_dir(&self.parts)))
    }

    /// Where its working tree is.
    pub fn work_tree(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        root.join(std::ffi::OsStr::from_bytes(self.path.as_bytes()))
    }

    /// The content of its `.git`.
    fn link(&self) -> Vec<u8> {
        let mut link = b"gitdir: ".to_vec();
        for _ in self.path.components() {
            link.extend_from_slice(b"../");
        }
        link.extend_from_slice(&git_dir(&self.parts));
        link.push(b'\n');
        link
    }
}

/// What is where a submodule's `.git` belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Ours,
    Absent,
    /// Made in the guest.
    Other,
}

/// A submodule whose git directory is there.
#[derive(Debug)]
pub struct Module {
    /// Which.
    pub name: Name,
    git: Dir,
    memory: Dir,
    state: SyncState,
}

impl Module {
    /// `None`: there is none.
    fn open(home: &Home, name: Name) -> Result<Option<Self>, ReceiverError> {
        match name.open(&home.git, Dir::open_dir).and_then(|git| Ok((git.open_dir(b"banger")?, git))) {
            Ok((memory, git)) => Self::load(home, name, git, memory).map(Some),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(ReceiverError::in_git("open", "modules")(error)),
        }
    }

    fn make(home: &Home, name: Name) -> Result<Self, ReceiverError> {
        let made = name.open(&home.git, Dir::ensure_dir).and_then(|git| Ok((git.ensure_dir(b"banger")?, git)));
        let (memory, git) = made.map_err(ReceiverError::in_git("make", "modules"))?;
        Self::load(home, name, git, memory)
    }

    fn load(home: &Home, name: Name, git: Dir, memory: Dir) -> Result<Self, ReceiverError> {
        let damaged = || ReceiverError::State { root: home.path().to_owned() };
        let state = match read(&memory, STATE, STATE_LIMIT).map_err(ReceiverError::in_git("read", "modules"))? {
            Some(bytes) => SyncState::decode(&bytes[..]).map_err(|_| damaged())?,
            None => SyncState::default(),
        };
        Ok(Self { name, git, memory, state })
    }

    /// Its git files.
    pub fn side(&self) -> Side<'_> {
        Side { git: &self.git, memory: &self.memory, state: &self.state }
    }

    /// The commit it was prepared at, in hexadecimal; empty: none.
    pub fn base(&self) -> &str {
        &self.state.branch_target
    }

    /// True once the guest committed, switched or reset in it, or put another repository in its place.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn was_moved(&self, home: &Home) -> Result<bool, ReceiverError> {
        let link = look(&home.root, &self.name).map_err(ReceiverError::at("look at", &self.name.path))?;
        Ok(link == Link::Other || git::was_moved(self.side())?)
    }

    fn welcome(&self, home: &Home) -> Result<ModuleWelcome, ReceiverError> {
        let welcome = Welcome {
            version: VERSION,
            commits: self.state.commits.clone(),
            object_sets: self.state.object_sets.clone(),
            git_files: self.state.git_files.clone(),
            git_moved: self.was_moved(home)?,
            tips: self.state.tips.clone(),
            modules: Vec::new(),
            tells_blocks: false,
            makes_packed_files: false,
            makes_object_files: false,
        };
        Ok(ModuleWelcome { parts: self.name.parts.clone(), welcome: Some(welcome) })
    }

    /// Remembers a finished run.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    fn save(&mut self, files: Vec<GitFileDigest>, finish: &Finish) -> Result<(), ReceiverError> {
        take_over(&mut self.state, &self.git, files, finish)?;
        let written = (|| {
            self.memory.remove_file(b"new")?;
            self.memory.create_file(b"new", 0o600)?.write_all(&self.state.encode_to_vec())?;
            self.memory.rename(b"new", STATE, Replace::Yes)?;
            self.memory.remove_file(git::MOVES)
        })();
        written.map_err(ReceiverError::in_git("write", "modules"))
    }
}

/// Where the submodules of earlier runs are.
fn names(home: &Home) -> Result<Vec<Name>, ReceiverError> {
    let damaged = || ReceiverError::State { root: home.path().to_owned() };
    home.state.modules.iter().map(|stored| Name::parse(&stored.parts).ok_or_else(damaged)).collect()
}

/// Those of them that have a git directory.
///
/// # Errors
/// [`ReceiverError`].
pub fn known(home: &Home) -> Result<Vec<Module>, ReceiverError> {
    let opened = names(home)?.into_iter().map(|name| Module::open(home, name));
    opened.filter_map(Result::transpose).collect()
}

/// What the host is told about them.
///
/// # Errors
/// [`ReceiverError`].
pub fn welcomes(home: &Home) -> Result<Vec<ModuleWelcome>, ReceiverError> {
    known(home)?.iter().map(|module| module.welcome(home)).collect()
}

/// The submodules of a run.
#[derive(Debug)]
pub struct Told {
    names: Vec<Name>,
    /// By position; `None`: no git files come for it.
    open: Vec<Option<(Module, Finish)>>,
}

impl Told {
    /// Makes what every submodule has, and takes away what those had that are no longer there.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn receive(home: &Home, told: Modules) -> Result<Self, ReceiverError> {
        if told.modules.len() > LIMIT {
            return Err(ReceiverError::Manifest { problem: "it has too many submodules" });
        }
        let mut modules = Self { names: Vec::new(), open: Vec::new() };
        let mut populated = Vec::new();
        for module in &told.modules {
            let name = Name::parse(&module.parts)
                .ok_or(ReceiverError::Manifest { problem: "it has a submodule with a forbidden path" })?;
            if modules.names.contains(&name) {
                return Err(ReceiverError::Manifest { problem: "it has a submodule twice" });
            }
            if module.populated {
                populated.push(name.path.clone());
            }
            modules.names.push(name);
        }
        // Those inside first, or the directories around them are not empty.
        for gone in names(home)?.into_iter().rev().filter(|old| !populated.contains(&old.path)) {
            let module = Module::open(home, gone.clone())?;
            if module.map_or(Ok(false), |module| module.was_moved(home))? {
                // Its commits are the guest's work, and have to be found.
                if !modules.names.contains(&gone) {
                    modules.names.push(gone);
                }
                continue;
            }
            unlink(home, &gone).map_err(ReceiverError::at("clear", &gone.path))?;
        }
        for (name, wanted) in modules.names.iter().zip(&told.modules) {
            let made = directory(home, name).map_err(ReceiverError::at("make the directory", &name.path))?;
            if !wanted.populated {
                modules.open.push(None);
                continue;
            }
            let module = Module::make(home, name.clone())?;
            git::make_directories(&module.git)?;
            if let Some(dir) = &made {
                link(home, name, dir).map_err(ReceiverError::at("write .git of", &name.path))?;
            }
            modules.open.push(wanted.finish.clone().map(|finish| (module, finish)));
        }
        Ok(modules)
    }

    /// Where the git files of the submodule at `position` go.
    pub fn side(&self, position: usize) -> Option<Side<'_>> {
        Some(self.open.get(position)?.as_ref()?.0.side())
    }

    /// Remembers what was installed in each. What the tree's own state says of them.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn finish(self, installed: &[(usize, GitFileDigest)]) -> Result<Vec<ModulePath>, ReceiverError> {
        for (position, open) in self.open.into_iter().enumerate() {
            let Some((mut module, finish)) = open else { continue };
            let files = installed.iter().filter(|(of, _)| *of == position).map(|(_, file)| file.clone());
            module.save(files.collect(), &finish)?;
        }
        Ok(self.names.iter().map(Name::wire).collect())
    }
}

/// The directory of a submodule; `None` if the guest has something else there.
fn directory(home: &Home, name: &Name) -> io::Result<Option<Dir>> {
    let mut walker = Walker::new(home.root.try_clone()?);
    let made = walker.ensure_parent(&name.path).and_then(|(dir, last)| dir.ensure_dir(last));
    match made {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn link(home: &Home, name: &Name, dir: &Dir) -> io::Result<()> {
    if dir.stamp(b".git")?.is_some() {
        return Ok(());
    }
    let memory = &home.memory;
    memory.remove_file(b"new")?;
    memory.create_file(b"new", 0o644)?.write_all(&name.link())?;
    match memory.rename_to(b"new", dir, b".git", Replace::No) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => memory.remove_file(b"new"),
        outcome => outcome,
    }
}

/// Takes away the file that names its git directory, and directories that are empty then. The git directory stays, as
/// git itself leaves it.
fn unlink(home: &Home, name: &Name) -> io::Result<()> {
    let mut walker = Walker::new(home.root.try_clone()?);
    if look(&home.root, name)? == Link::Ours {
        let (parent, last) = walker.parent(&name.path)?;
        parent.open_dir(last)?.remove_file(b".git")?;
    }
    let mut place = Some(name.path.clone());
    while let Some(path) = place {
        walker.forget();
        match walker.parent(&path) {
            Ok((parent, last)) if parent.remove_empty_dir(last)? => {}
            Ok(_) => break,
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
        place = TreePath::parse(path.split().0).ok();
    }
    Ok(())
}

fn look(root: &Dir, name: &Name) -> io::Result<Link> {
    let mut walker = Walker::new(root.try_clone()?);
    let found = walker.parent(&name.path).and_then(|(dir, last)| dir.open_dir(last));
    let dir = match found {
        Ok(dir) => dir,
        Err(error) if is_absent(&error) => return Ok(Link::Absent),
        Err(error) => return Err(error),
    };
    match dir.stamp(b".git")? {
        None => Ok(Link::Absent),
        Some(stamp) if stamp.kind() == Some(crate::entry::EntryKind::File) => {
            let there = read(&dir, b".git", LINK_LIMIT)?;
            Ok(if there.is_some_and(|there| there == name.link()) { Link::Ours } else { Link::Other })
        }
        Some(_) => Ok(Link::Other),
    }
}

fn read(dir: &Dir, name: &[u8], limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match dir.open_file(name) {
        Ok(file) => {
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(parts: &[&str]) -> Option<Name> {
        Name::parse(&parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn a_submodule_is_found_from_its_directory_and_back() {
        let inner = name(&["libs/a", "b"]).unwrap();
        assert_eq!(inner.path.as_bytes(), b"libs/a/b");
        assert_eq!(inner.link(), b"gitdir: ../../../.git/modules/libs/a/modules/b\n");
        assert_eq!(inner.git_dir(Path::new("/r")), Path::new("/r/.git/modules/libs/a/modules/b"));
        assert_eq!(inner.work_tree(Path::new("/r")), Path::new("/r/libs/a/b"));
    }

    #[test]
    fn no_submodule_lies_outside_or_in_git() {
        for bad in [&[][..], &[""], &[".."], &["a", "../../b"], &["/a"], &["a/.git"], &["a", ".GIT"], &["a\0"]] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        assert_eq!(name(&["a"; 33]), None);
    }
}
