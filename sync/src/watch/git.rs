//! Whether git is at work in the repository, and whether anything about its metadata moved. Only looks; a few lstats.
//!
//! A checkout holds `index.lock` from before its first file until after its last, so a tree that was read between two
//! looks without a lock and with equal [`GitStamp`]s is from before or from after it, never from within.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dir::Stamp;

/// Longest `HEAD` that is read.
const HEAD_LIMIT: usize = 4096;
/// Present while an operation of several steps is under way.
const UNDER_WAY: &[&str] =
    &["rebase-merge", "rebase-apply", "sequencer", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG"];

/// Where the metadata is; the two differ in a linked working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPlaces {
    /// Of this working tree.
    pub own: PathBuf,
    /// Shared by all working trees.
    pub common: PathBuf,
}

/// Equal as long as nothing that a guest's `.git` is made of was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitStamp {
    head: Vec<u8>,
    files: Vec<Option<Stamp>>,
}

/// One look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitLook {
    /// What the metadata is.
    pub stamp: GitStamp,
    /// A command is changing the index, and perhaps the tree.
    pub locked: bool,
    /// A rebase, merge, cherry-pick or bisection is not finished.
    pub under_way: bool,
}

impl GitPlaces {
    /// Of an observed repository.
    pub fn of(repository: &gix::ThreadSafeRepository) -> Self {
        let repository = repository.to_thread_local();
        Self { own: repository.git_dir().to_owned(), common: repository.common_dir().to_owned() }
    }

    /// Looks.
    pub fn look(&self) -> GitLook {
        let mut head = fs::read(self.own.join("HEAD")).unwrap_or_default();
        head.truncate(HEAD_LIMIT);
        let mut files = vec![
            stamp(&self.own.join("index")),
            stamp(&self.own.join("info/sparse-checkout")),
            stamp(&self.common.join("packed-refs")),
            stamp(&self.common.join("shallow")),
            stamp(&self.common.join("config")),
            stamp(&self.common.join("info/exclude")),
            stamp(&self.common.join("info/attributes")),
        ];
        if let Some(branch) = branch(&head) {
            files.push(stamp(&self.common.join(branch)));
        }
        GitLook {
            stamp: GitStamp { head, files },
            locked: ["index.lock", "HEAD.lock"].iter().any(|name| stamp(&self.own.join(name)).is_some()),
            under_way: UNDER_WAY.iter().any(|name| stamp(&self.own.join(name)).is_some()),
        }
    }
}

/// The reference a symbolic `HEAD` names, if it is a plain one.
fn branch(head: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(head).ok()?.trim_end().strip_prefix("ref: ")?;
    let plain = name.starts_with("refs/") && name.split('/').all(|part| !part.is_empty() && part != "..");
    plain.then_some(name)
}

fn stamp(path: &Path) -> Option<Stamp> {
    rustix::fs::lstat(path).ok().as_ref().map(Stamp::from_stat)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_look_notices_locks_moves_and_unfinished_operations() {
        let place = tempfile::tempdir().unwrap();
        let git = place.path();
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(git.join("refs/heads/main"), "1\n").unwrap();
        let places = GitPlaces { own: git.to_owned(), common: git.to_owned() };
        let before = places.look();
        assert!(!before.locked && !before.under_way);
        assert_eq!(places.look(), before);
        fs::write(git.join("FETCH_HEAD"), "x").unwrap();
        assert_eq!(places.look(), before, "nothing a guest gets");
        fs::write(git.join("index.lock"), "").unwrap();
        assert!(places.look().locked);
        fs::rename(git.join("index.lock"), git.join("index")).unwrap();
        let moved = places.look();
        assert!(!moved.locked && moved.stamp != before.stamp);
        fs::write(git.join("new"), "2\n").unwrap();
        fs::rename(git.join("new"), git.join("refs/heads/main")).unwrap();
        assert_ne!(places.look().stamp, moved.stamp, "a commit");
        fs::create_dir(git.join("rebase-merge")).unwrap();
        assert!(places.look().under_way);
        fs::write(git.join("HEAD"), "ref: ../../etc/passwd\n").unwrap();
        assert_eq!(branch(&places.look().stamp.head), None);
    }
}
