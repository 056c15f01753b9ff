//! A tree that is not there yet is made aside and appears at once: `<root>/.git/banger/tree`.
//!
//! Nobody sees a file there that is half written, so each gets its own name when it is made: no temporary, no rename and
//! no second look, which are a tenth of all work of a first transfer. [`Applier::publish`] gives the directories their
//! place with one rename each. Where somebody made something meanwhile, files go one by one, and what is there stays.
//!
//! Only files made of objects of a pack ([`super::packed`]) come this way. A receiver that is killed leaves the directory
//! to the next one, which removes it.

use std::collections::HashSet;

use rustix::fs::{FileType, fstat};

use super::apply::Applier;
use super::error::ReceiverError;
use super::home::{Home, NOT_CONTENT};
use super::packed::Workshop;
use super::place::{Placed, is_obstruction, rename_if_absent};
use super::plan::Slot;
use crate::diff::ConflictReason;
use crate::dir::{Dir, Replace, Walker};
use crate::path::TreePath;

/// Its name in `.git/banger`.
pub(super) const TREE: &[u8] = b"tree";

/// See the module.
pub(super) struct Staging {
    tree: Dir,
    /// Positions of what is in it.
    staged: Vec<usize>,
}

impl Staging {
    /// `None`: something of the tree is there or was when the plan was made, or it is on another file system than its git
    /// directory.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn begin(home: &Home, slots: &[Slot]) -> Result<Option<Self>, ReceiverError> {
        let names = home.root.names().map_err(ReceiverError::in_git("read", ".."))?;
        let is_there = |name: &[u8]| name != b".git" && !NOT_CONTENT.contains(&name);
        if names.iter().any(|(name, _)| is_there(name)) || slots.iter().any(|slot| slot.seen.is_some()) {
            return Ok(None);
        }
        let failed = || ReceiverError::in_git("make", "banger/tree");
        let device = |dir: &Dir| fstat(dir).map(|stat| stat.st_dev).map_err(|errno| failed()(errno.into()));
        if device(&home.memory)? != device(&home.root)? {
            return Ok(None);
        }
        let tree = home.memory.ensure_dir(TREE).map_err(failed())?;
        Ok(Some(Self { tree, staged: Vec::new() }))
    }

    /// A way through it.
    ///
    /// # Errors
    /// [`ReceiverError::Io`].
    pub fn walker(&self) -> Result<Walker, ReceiverError> {
        Ok(Walker::new(self.tree.try_clone().map_err(ReceiverError::in_git("open", "banger/tree"))?))
    }

    /// Notes that the file at this position is in it.
    pub fn note(&mut self, index: usize) {
        self.staged.push(index);
    }
}

impl Applier<'_> {
    /// Gives what was made aside its place, if anything was.
    ///
    /// # Errors
    /// [`ReceiverError::Io`]; what has no place by then is made again by the next run.
    pub fn publish(&mut self) -> Result<(), ReceiverError> {
        self.workshop = Workshop::default();
        let Some(staging) = self.staging.take() else { return Ok(()) };
        let home = self.home();
        let failed = || ReceiverError::in_git("take", "banger/tree");
        let mut moved: HashSet<Vec<u8>> = HashSet::new();
        for (name, kind) in staging.tree.names().map_err(failed())? {
            // If it cannot be moved, its files tell why.
            if kind == FileType::Directory && staging.tree.rename_to(&name, &home.root, &name, Replace::No).is_ok() {
                moved.insert(name);
            }
        }
        let mut from = staging.walker()?;
        for index in staging.staged {
            let path = &self.slots()[index].entry.path;
            if first_directory(path).is_some_and(|name| moved.contains(name)) {
                continue;
            }
            let path = path.clone();
            let placed = self.take(&mut from, &path)?;
            self.settle_again(index, placed)?;
        }
        home.memory.remove_tree(TREE).map_err(ReceiverError::in_git("remove", "banger/tree"))
    }

    /// One file.
    fn take(&mut self, from: &mut Walker, path: &TreePath) -> Result<Placed, ReceiverError> {
        let source = from.parent(path).map_err(ReceiverError::at("find", path))?;
        match self.walker().ensure_parent(path) {
            Ok(target) => rename_if_absent(source, target).map_err(ReceiverError::at("write", path)),
            Err(error) if is_obstruction(&error) => Ok(Placed::Conflict(ConflictReason::Obstructed)),
            Err(error) => Err(ReceiverError::at("make the directory of", path)(error)),
        }
    }
}

/// `None` for a file that is in the root itself.
fn first_directory(path: &TreePath) -> Option<&[u8]> {
    let bytes = path.as_bytes();
    Some(&bytes[..bytes.iter().position(|byte| *byte == b'/')?])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;

    use banger_proto::guest::v1::PackedFiles;

    use super::*;
    use crate::entry::{Entry, EntryKind, Mtime, Reason};
    use crate::receiver::apply::Sending;
    use crate::receiver::plan::{Plan, SlotState};

    /// A tree of five files that was made aside.
    fn staged(root: &Path) -> (Home, Plan) {
        let home = Home::open(root).unwrap();
        let entry = |path: &str| Entry {
            path: TreePath::parse(path.as_bytes()).unwrap(),
            kind: EntryKind::File,
            size: path.len() as u64,
            digest: blake3::hash(path.as_bytes()),
            reason: Reason::Tracked,
            mtime: Mtime { seconds: 1_000_000_000, nanos: 5 },
        };
        let entries = ["a/b/one", "a/two", "c/three", "d/four", "top"].map(entry);
        let plan = Plan::make(&home, entries.to_vec()).unwrap();
        (home, plan)
    }

    /// In place of a pack.
    fn make(applier: &mut Applier<'_>) {
        let nothing = tempfile::tempfile().unwrap();
        applier.packed(&nothing, &PackedFiles::default()).unwrap();
        for index in 0..applier.slots().len() {
            let entry = applier.slots()[index].entry.clone();
            let mut walker = applier.staging.as_ref().expect("nothing is there yet").walker().unwrap();
            let content = entry.path.as_bytes().to_vec();
            let placed = super::super::place::write_staged(&mut walker, &entry, &content).unwrap();
            applier.settle(index, placed).unwrap();
            applier.staging.as_mut().unwrap().note(index);
        }
    }

    fn content(root: &Path, path: &str) -> Option<String> {
        fs::read_to_string(root.join(path)).ok()
    }

    #[test]
    fn everything_appears_at_once_and_is_what_the_receiver_remembers() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let (home, plan) = staged(&root);
        let mut applier = Applier::start(&home, plan, Sending::Needed).unwrap();
        make(&mut applier);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "only .git");
        applier.publish().unwrap();
        for slot in applier.slots() {
            let SlotState::Right(stamp) = slot.state else { panic!("{}", slot.entry.path) };
            let path = slot.entry.path.to_string();
            assert_eq!(content(&root, &path).as_deref(), Some(&*path));
            let mut walker = home.walker().unwrap();
            let (dir, name) = walker.parent(&slot.entry.path).unwrap();
            assert_eq!(dir.stamp(name).unwrap(), Some(stamp), "{path}");
        }
        assert!(!root.join(".git/banger/tree").exists());
        assert_eq!(applier.finish().unwrap().files_written, 5);
    }

    #[test]
    fn what_the_guest_made_meanwhile_stays() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let (home, plan) = staged(&root);
        let mut applier = Applier::start(&home, plan, Sending::Needed).unwrap();
        make(&mut applier);
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/one"), "theirs").unwrap();
        fs::write(root.join("c"), "no directory").unwrap();
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("top"), "theirs too").unwrap();
        applier.publish().unwrap();
        let applied = applier.finish().unwrap();
        let conflicts: Vec<_> = applied.conflicts.iter().map(|(path, reason)| (path.to_string(), *reason)).collect();
        let wanted = [
            ("a/b/one", ConflictReason::CreatedInGuest),
            ("c/three", ConflictReason::Obstructed),
            ("top", ConflictReason::CreatedInGuest),
        ];
        assert_eq!(conflicts, wanted.map(|(path, reason)| (path.to_owned(), reason)));
        assert_eq!(applied.files_written, 2);
        let there = ["a/b/one", "a/two", "c", "d/four", "top"].map(|path| content(&root, path).unwrap());
        assert_eq!(there, ["theirs", "a/two", "no directory", "d/four", "theirs too"]);
        assert!(!root.join(".git/banger/tree").exists());
    }

    #[test]
    fn what_a_killed_receiver_left_aside_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let (home, plan) = staged(&root);
        let mut applier = Applier::start(&home, plan, Sending::Needed).unwrap();
        make(&mut applier);
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join(".git/banger/tree/a/link")).unwrap();
        drop(applier);
        drop(home);
        Home::open(&root).unwrap();
        assert!(!root.join(".git/banger/tree").exists());
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn a_tree_that_is_there_is_not_made_aside() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let (home, mut plan) = staged(&root);
        assert!(Staging::begin(&home, &plan.slots).unwrap().is_some());
        fs::write(root.join("top"), "").unwrap();
        assert!(Staging::begin(&home, &plan.slots).unwrap().is_none());
        // It was there when the plan was made, and is taken away since: that is the guest's wish.
        plan.slots[4].seen = home.root.stamp(b"top").unwrap();
        fs::remove_file(root.join("top")).unwrap();
        assert!(Staging::begin(&home, &plan.slots).unwrap().is_none());
    }
}
