//! The whole tree as a sorted list; equal trees have equal manifests, whatever order they were read in.

use crate::digest::{DigestBuilder, TreeDigest};
use crate::entry::Entry;

/// Entries sorted by the bytes of their paths, each path once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Sorted; see [`Manifest::new`].
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Sorts, and keeps the last entry of each path.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        // Usually sorted already. Reversed and stably sorted, the last one of a path is first, and that one is kept.
        if !entries.is_sorted_by(|one, other| one.path < other.path) {
            entries.reverse();
            entries.sort_by(|one, other| one.path.cmp(&other.path));
            entries.dedup_by(|one, other| one.path == other.path);
        }
        Self { entries }
    }

    /// The entry at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_bytes().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// Identifies the tree's content.
    pub fn tree_digest(&self) -> TreeDigest {
        let mut builder = DigestBuilder::default();
        for entry in &self.entries {
            builder.push(entry.path.as_bytes(), entry.content());
        }
        builder.finish()
    }

    /// Sum of all sizes.
    pub fn total_bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::{EntryKind, Mtime, Reason};
    use crate::path::TreePath;

    fn entry(path: &[u8], kind: EntryKind, content: &[u8]) -> Entry {
        Entry {
            path: TreePath::parse(path).unwrap(),
            kind,
            size: content.len() as u64,
            digest: blake3::hash(content),
            reason: Reason::Tracked,
            mtime: Mtime::default(),
        }
    }

    #[test]
    fn the_digest_changes_with_path_kind_and_content_only() {
        let base = Manifest::new([entry(b"a", EntryKind::File, b"1"), entry(b"b", EntryKind::File, b"2")]);
        let mut touched = base.clone();
        touched.entries[0].mtime = Mtime { seconds: 7, nanos: 1 };
        touched.entries[0].reason = Reason::Modified;
        assert_eq!(base.tree_digest(), touched.tree_digest());
        for other in [
            Manifest::new([entry(b"a", EntryKind::File, b"1")]),
            Manifest::new([entry(b"a", EntryKind::Executable, b"1"), entry(b"b", EntryKind::File, b"2")]),
            Manifest::new([entry(b"a", EntryKind::File, b"1"), entry(b"b", EntryKind::File, b"3")]),
            Manifest::new([entry(b"a", EntryKind::File, b"1"), entry(b"c", EntryKind::File, b"2")]),
        ] {
            assert_ne!(base.tree_digest(), other.tree_digest());
        }
    }

    proptest! {
        #[test]
        fn the_order_of_reading_does_not_matter(
            names in prop::collection::btree_set("[a-c/.]{1,6}", 0..12),
            seed in any::<u64>(),
        ) {
            let entries: Vec<Entry> = names
                .iter()
                .filter(|name| TreePath::parse(name.as_bytes()).is_ok())
                .map(|name| entry(name.as_bytes(), EntryKind::File, name.as_bytes()))
                .collect();
            let mut shuffled = entries.clone();
            shuffled.sort_by_key(|entry| blake3::hash(&[&seed.to_le_bytes(), entry.path.as_bytes()].concat()).to_hex().to_string());
            let manifest = Manifest::new(entries);
            prop_assert_eq!(&manifest, &Manifest::new(shuffled));
            for entry in &manifest.entries {
                prop_assert_eq!(manifest.get(entry.path.as_bytes()), Some(entry));
            }
        }
    }
}
