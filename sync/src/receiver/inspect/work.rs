//! What exists only in the guest: commits, edits of files the host brought, new files that are not ignored.
//!
//! Only the guest's git knows what is ignored, so it is asked; but only when there are files at all that the host
//! did not bring. Without git in the guest every such file counts. A submodule's own git is asked about what is in it.

use std::collections::{BTreeMap, HashSet};

use rustix::fs::FileType;

use super::export::git;
use crate::diff::Observed;
use crate::dir::Dir;
use crate::entry::{Content, EntryKind};
use crate::parallel;
use crate::path::TreePath;
use crate::receiver::error::ReceiverError;
use crate::receiver::git::{read_head, was_moved};
use crate::receiver::home::{Home, TEMPORARY};
use crate::receiver::module::{self, Module};
use crate::receiver::plan::observe;

/// How many paths are told.
const SAMPLE: usize = 10;
const EXPORTED: &str = "exported";

/// See the module.
#[derive(Debug)]
pub struct Work {
    /// `HEAD` or its branch is not where the last prepare put it; or that of a submodule.
    pub moved: bool,
    /// Full name; empty if detached.
    pub branch: String,
    /// Hexadecimal; empty before the first commit.
    pub head: String,
    /// Where the submodules' `HEAD`s are: path, branch, commit.
    pub modules: Vec<(TreePath, String, String)>,
    /// Files of the last prepare that are something else now.
    pub changed: BTreeMap<TreePath, Option<Content>>,
    /// Files that are neither tracked nor ignored nor the host's.
    pub untracked: BTreeMap<TreePath, Option<Content>>,
}

impl Work {
    /// Looks at everything.
    ///
    /// # Errors
    /// [`ReceiverError`].
    pub fn observe(home: &Home) -> Result<Self, ReceiverError> {
        let mut walker = home.walker()?;
        let mut paths: Vec<&TreePath> = home.known.keys().collect();
        paths.sort_unstable();
        let mut changed = BTreeMap::new();
        let looks =
            parallel::map(&paths, || home.walker(), |walker, path| observe(walker, path, home.known.get(*path)))?;
        for (path, (observed, _)) in paths.into_iter().zip(looks) {
            let content = content(observed);
            if content != home.known.get(path).map(|known| known.entry.content()) {
                changed.insert(path.clone(), content);
            }
        }
        let strangers = strangers(home)?;
        let mut untracked = BTreeMap::new();
        let modules = module::known(home)?;
        for path in without_ignored(home, &modules, strangers) {
            let (observed, _) = observe(&mut walker, &path, None)?;
            untracked.insert(path, content(observed));
        }
        let (branch, head) = read_head(&home.git)?;
        let mut moved = was_moved(home.side())?;
        let mut heads = Vec::new();
        for module in &modules {
            moved |= module.was_moved(home)?;
            let (branch, head) = read_head(module.side().git)?;
            heads.push((module.name.path.clone(), branch, head));
        }
        Ok(Self { moved, branch, head, modules: heads, changed, untracked })
    }

    /// True if everything came from the host.
    pub fn is_empty(&self) -> bool {
        !self.moved && self.changed.is_empty() && self.untracked.is_empty()
    }

    /// Names this state.
    pub fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for text in [&self.branch, &self.head] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        for (path, branch, head) in &self.modules {
            for bytes in [path.as_bytes(), branch.as_bytes(), head.as_bytes()] {
                hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
            }
        }
        for (path, content) in self.changed.iter().chain(&self.untracked) {
            hasher.update(&(path.as_bytes().len() as u64).to_le_bytes()).update(path.as_bytes());
            match content {
                Some(content) => {
                    let kind = match content.kind {
                        EntryKind::File => b'f',
                        EntryKind::Executable => b'x',
                        EntryKind::Symlink => b'l',
                    };
                    hasher.update(&[kind]).update(content.digest.as_bytes());
                }
                None => {
                    hasher.update(b"-");
                }
            }
        }
        hasher.finalize()
    }

    /// The first few paths.
    pub fn sample(&self) -> Vec<Vec<u8>> {
        self.changed.keys().chain(self.untracked.keys()).take(SAMPLE).map(|path| path.as_bytes().to_vec()).collect()
    }
}

/// Remembers that this state was taken.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn remember_exported(home: &Home, fingerprint: &[u8]) -> Result<(), ReceiverError> {
    home.replace(EXPORTED.as_bytes(), fingerprint)
}

/// Whether it was.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn was_exported(home: &Home, fingerprint: &[u8]) -> Result<bool, ReceiverError> {
    Ok(home.read(EXPORTED.as_bytes())?.is_some_and(|taken| taken == fingerprint))
}

fn content(observed: Observed) -> Option<Content> {
    match observed {
        Observed::Present(content) => Some(content),
        Observed::Absent | Observed::Directory | Observed::Special => None,
    }
}

/// Files the host did not bring, ignored ones included.
fn strangers(home: &Home) -> Result<Vec<TreePath>, ReceiverError> {
    let failed = || ReceiverError::in_git("read the directories beside", "");
    let mut found = Vec::new();
    let mut pending = vec![(home.root.try_clone().map_err(failed())?, Vec::new())];
    while let Some((dir, path)) = pending.pop() {
        for (name, kind) in dir.names().map_err(failed())? {
            if name.eq_ignore_ascii_case(b".git") || name.starts_with(TEMPORARY) {
                continue;
            }
            let mut below: Vec<u8> = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            match kind {
                FileType::Directory => {
                    if let Ok(next) = Dir::open_dir(&dir, &name) {
                        pending.push((next, below));
                    }
                }
                FileType::RegularFile | FileType::Symlink => {
                    if let Ok(path) = TreePath::parse(&below)
                        && !home.known.contains_key(&path)
                    {
                        found.push(path);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn without_ignored(home: &Home, modules: &[Module], strangers: Vec<TreePath>) -> Vec<TreePath> {
    let mut kept = Vec::new();
    // Those inside first: what is in them is not the outer repository's.
    let mut rest = strangers;
    for module in modules.iter().rev() {
        let prefix = [module.name.path.as_bytes(), b"/"].concat();
        let (inside, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|path| path.as_bytes().starts_with(&prefix));
        rest = others;
        let root = home.path();
        let git = git::Git::in_place(&module.name.work_tree(root), &module.name.git_dir(root));
        kept.extend(not_ignored(&git, &prefix, inside));
    }
    kept.extend(not_ignored(&git::Git::in_place(home.path(), &home.path().join(".git")), b"", rest));
    kept
}

/// `prefix` is the repository's place in the tree.
fn not_ignored(git: &git::Git, prefix: &[u8], strangers: Vec<TreePath>) -> Vec<TreePath> {
    if strangers.is_empty() {
        return strangers;
    }
    // Tracked ones count as well: the host did not bring them, so the guest added them.
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let Ok(listed) = git.output(&arguments) else { return strangers };
    let listed: HashSet<&[u8]> = listed.split(|byte| *byte == 0).collect();
    strangers.into_iter().filter(|path| listed.contains(&path.as_bytes()[prefix.len()..])).collect()
}
