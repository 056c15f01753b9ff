//! The host's knowledge of what the guest has: the tree of the last batch and where the guest differs.
//!
//! Pure. A batch is the difference between this and what was observed; the barrier compares digests made of both.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::ConflictReason;
use crate::digest::{DigestBuilder, TreeDigest};
use crate::entry::Entry;
use crate::manifest::Manifest;
use crate::path::TreePath;
use crate::prepare::Conflict;

/// See the module.
#[derive(Debug, Default)]
pub struct Mirror {
    entries: BTreeMap<TreePath, Entry>,
    conflicts: BTreeMap<TreePath, ConflictReason>,
    /// Older versions of ours that the guest came to have.
    outdated: BTreeSet<TreePath>,
    /// Conflicts that stayed when the host's version was to replace the guest's.
    stuck: BTreeSet<TreePath>,
}

/// What a batch carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// To be written, in path order.
    pub upserts: Vec<Entry>,
    /// To be removed.
    pub removals: Vec<TreePath>,
    /// Only the time is another.
    pub retimed: Vec<Entry>,
    /// A file was changed in a way that the guest's index cannot tell.
    pub hides_from_index: bool,
}

impl Changes {
    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty() && self.retimed.is_empty()
    }

    /// Paths in it.
    pub fn len(&self) -> usize {
        self.upserts.len() + self.removals.len() + self.retimed.len()
    }

    fn compare(&mut self, had: Option<&Entry>, now: Entry, again: bool) {
        match had {
            Some(had) if had.content() == now.content() && !again => {
                if had.mtime != now.mtime {
                    self.retimed.push(now);
                }
            }
            had => {
                // The guest's git compares whole seconds and sizes.
                let same = |had: &Entry| had.size == now.size && had.mtime.seconds == now.mtime.seconds;
                self.hides_from_index |= had.is_some_and(same);
                self.upserts.push(now);
            }
        }
    }
}

impl Mirror {
    /// After a whole tree went over.
    pub fn reset(&mut self, manifest: &Manifest, changed: &[(u32, Option<Entry>)], conflicts: Vec<Conflict>) {
        self.entries = manifest.entries.iter().map(|entry| (entry.path.clone(), entry.clone())).collect();
        for (index, now) in changed {
            let Some(planned) = manifest.entries.get(*index as usize) else { continue };
            match now {
                Some(now) => self.entries.insert(now.path.clone(), now.clone()),
                None => self.entries.remove(&planned.path),
            };
        }
        self.outdated.clear();
        self.set_conflicts(conflicts);
    }

    /// How many files the host has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if the host has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the guest differs.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.conflicts.iter().map(|(path, reason)| Conflict { path: path.clone(), reason: *reason }).collect()
    }

    /// True if the guest has something of its own at `path`.
    pub fn is_conflict(&self, path: &TreePath) -> bool {
        self.conflicts.contains_key(path)
    }

    /// What the host has at `path`.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// What the host has below the directory `path`.
    pub fn below(&self, path: &TreePath) -> Vec<TreePath> {
        let prefix = [path.as_bytes(), b"/"].concat();
        let from = (std::ops::Bound::Included(&prefix[..]), std::ops::Bound::Unbounded);
        let rest = self.entries.range::<[u8], _>(from).map(|(path, _)| path);
        rest.take_while(|path| path.as_bytes().starts_with(&prefix)).cloned().collect()
    }

    /// The difference to a whole observation.
    pub fn difference(&self, manifest: &Manifest) -> Changes {
        let mut changes = Changes::default();
        let mut had = self.entries.iter().peekable();
        for now in &manifest.entries {
            while let Some((path, _)) = had.next_if(|(path, _)| **path < now.path) {
                changes.removals.push(path.clone());
            }
            let same = had.next_if(|(path, _)| **path == now.path).map(|(_, entry)| entry);
            if same.is_none_or(|same| same != now) || self.outdated.contains(&now.path) {
                changes.compare(same, now.clone(), self.outdated.contains(&now.path));
            }
        }
        changes.removals.extend(had.map(|(path, _)| path.clone()));
        let gone = |path: &&TreePath| manifest.get(path.as_bytes()).is_none() && !self.entries.contains_key(*path);
        changes.removals.extend(self.outdated.iter().filter(gone).cloned());
        changes
    }

    /// The difference to what was seen at some paths, which are in order.
    pub fn difference_at(&self, seen: Vec<(TreePath, Option<Entry>)>) -> Changes {
        let mut changes = Changes::default();
        for (path, now) in seen {
            match now {
                Some(now) => changes.compare(self.entries.get(&path), now, self.outdated.contains(&path)),
                None if self.entries.contains_key(&path) || self.outdated.contains(&path) => {
                    changes.removals.push(path);
                }
                None => {}
            }
        }
        changes
    }

    /// How many entries there are once `changes` arrived.
    pub fn len_after(&self, changes: &Changes) -> usize {
        let added = changes.upserts.iter().filter(|entry| !self.entries.contains_key(&entry.path)).count();
        let removed = changes.removals.iter().filter(|path| self.entries.contains_key(*path)).count();
        self.entries.len() + added - removed
    }

    /// After a batch went over.
    pub fn apply(&mut self, changes: &Changes, changed: &[(u32, Option<Entry>)], conflicts: Vec<Conflict>) {
        let touched = changes.upserts.iter().map(|entry| &entry.path).chain(&changes.removals);
        for path in touched {
            self.conflicts.remove(path);
            self.outdated.remove(path);
        }
        for path in &changes.removals {
            self.entries.remove(path);
        }
        for entry in changes.upserts.iter().chain(&changes.retimed) {
            self.entries.insert(entry.path.clone(), entry.clone());
        }
        for (index, now) in changed {
            let Some(planned) = changes.upserts.get(*index as usize) else { continue };
            match now {
                Some(now) => self.entries.insert(now.path.clone(), now.clone()),
                None => self.entries.remove(&planned.path),
            };
        }
        self.conflicts.extend(conflicts.into_iter().map(|conflict| (conflict.path, conflict.reason)));
    }

    /// After the guest looked at everything.
    pub fn checked(&mut self, conflicts: Vec<Conflict>, outdated: Vec<TreePath>) {
        self.set_conflicts(conflicts);
        self.outdated = outdated.into_iter().collect();
    }

    /// Older versions of ours that are to be sent again.
    pub fn outdated(&self) -> &BTreeSet<TreePath> {
        &self.outdated
    }

    /// After `paths` were replaced by force: what is in conflict there cannot be replaced.
    pub fn stuck(&mut self, paths: &BTreeSet<TreePath>) {
        let obstructed = |path: &&TreePath| self.conflicts.get(*path) == Some(&ConflictReason::Obstructed);
        self.stuck = paths.iter().filter(obstructed).cloned().collect();
    }

    /// True if replacing it by force was of no use.
    pub fn is_stuck(&self, path: &TreePath) -> bool {
        self.stuck.contains(path)
    }

    fn set_conflicts(&mut self, conflicts: Vec<Conflict>) {
        self.conflicts = conflicts.into_iter().map(|conflict| (conflict.path, conflict.reason)).collect();
        self.stuck.retain(|path| self.conflicts.get(path) == Some(&ConflictReason::Obstructed));
    }

    /// Of the host's tree.
    pub fn tree_digest(&self) -> TreeDigest {
        self.digest_of(|_| true)
    }

    /// Of the paths on which both sides agree.
    pub fn agreed_digest(&self) -> TreeDigest {
        self.digest_of(|path| !self.conflicts.contains_key(path) && !self.outdated.contains(path))
    }

    fn digest_of(&self, wanted: impl Fn(&TreePath) -> bool) -> TreeDigest {
        let mut builder = DigestBuilder::default();
        for (path, entry) in &self.entries {
            if wanted(path) {
                builder.push(path.as_bytes(), entry.content());
            }
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests;
