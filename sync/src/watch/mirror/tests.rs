#![allow(clippy::unwrap_used)]

use super::*;
use crate::entry::{EntryKind, Mtime, Reason};

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn entry(name: &str, content: &str, seconds: i64) -> Entry {
    Entry {
        path: path(name),
        kind: EntryKind::File,
        size: content.len() as u64,
        digest: blake3::hash(content.as_bytes()),
        reason: Reason::Tracked,
        mtime: Mtime { seconds, nanos: 0 },
    }
}

fn mirror(entries: &[Entry]) -> Mirror {
    let mut mirror = Mirror::default();
    mirror.reset(&Manifest::new(entries.to_vec()), &[], Vec::new());
    mirror
}

fn names(paths: &[TreePath]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

#[test]
fn a_difference_names_every_kind_of_change_once() {
    let mirror = mirror(&[entry("a", "1", 1), entry("b", "1", 1), entry("c", "1", 1), entry("d/x", "1", 1)]);
    let now = Manifest::new([entry("a", "1", 1), entry("b", "22", 2), entry("c", "1", 5), entry("d", "1", 1)]);
    let changes = mirror.difference(&now);
    assert_eq!(changes.upserts, [entry("b", "22", 2), entry("d", "1", 1)]);
    assert_eq!(names(&changes.removals), ["d/x"]);
    assert_eq!(changes.retimed, [entry("c", "1", 5)]);
    assert!(!changes.hides_from_index);
    assert_eq!(mirror.len_after(&changes), 4);
    let at = ["a", "b", "c", "d", "d/x"].map(path);
    let seen = at.iter().map(|path| (path.clone(), now.get(path.as_bytes()).cloned())).collect();
    assert_eq!(mirror.difference_at(seen), changes, "looking at the paths alone says the same");
}

#[test]
fn a_change_the_guests_index_cannot_see_is_noticed() {
    let mirror = mirror(&[entry("a", "1", 1)]);
    assert!(mirror.difference(&Manifest::new([entry("a", "2", 1)])).hides_from_index);
    assert!(!mirror.difference(&Manifest::new([entry("a", "2", 2)])).hides_from_index);
    assert!(!mirror.difference(&Manifest::new([entry("a", "22", 1)])).hides_from_index);
}

#[test]
fn after_a_batch_there_is_no_difference() {
    let mut mirror = mirror(&[entry("a", "1", 1), entry("b", "1", 1), entry("c", "1", 1)]);
    let now = Manifest::new([entry("a", "2", 2), entry("c", "1", 7), entry("n", "1", 1)]);
    let changes = mirror.difference(&now);
    mirror.apply(&changes, &[], Vec::new());
    assert!(mirror.difference(&now).is_empty());
    assert_eq!(mirror.tree_digest(), now.tree_digest());
    // One file changed while it was sent, another went.
    let next = Manifest::new([entry("a", "3", 3), entry("c", "1", 7), entry("n", "2", 2)]);
    let changes = mirror.difference(&next);
    mirror.apply(&changes, &[(0, Some(entry("a", "4", 4))), (1, None)], Vec::new());
    assert_eq!(mirror.tree_digest(), Manifest::new([entry("a", "4", 4), entry("c", "1", 7)]).tree_digest());
}

#[test]
fn conflicts_are_left_out_of_the_agreed_digest_until_they_are_sent_again() {
    let mut mirror = mirror(&[entry("a", "1", 1), entry("b", "1", 1)]);
    let conflict = Conflict { path: path("a"), reason: ConflictReason::ChangedInGuest };
    mirror.checked(vec![conflict], Vec::new());
    assert_eq!(mirror.agreed_digest(), Manifest::new([entry("b", "1", 1)]).tree_digest());
    mirror.checked(Vec::new(), vec![path("a"), path("gone")]);
    let same = Manifest::new([entry("a", "1", 1), entry("b", "1", 1)]);
    let changes = mirror.difference(&same);
    assert_eq!((changes.upserts.len(), names(&changes.removals)), (1, vec!["gone".to_owned()]));
    mirror.apply(&changes, &[], Vec::new());
    assert_eq!(mirror.agreed_digest(), same.tree_digest());
}

#[test]
fn everything_below_a_directory_and_nothing_beside_it() {
    let mirror = mirror(&[entry("a", "1", 1), entry("a-b", "1", 1), entry("d/x", "1", 1), entry("d/y/z", "1", 1)]);
    assert_eq!(names(&mirror.below(&path("d"))), ["d/x", "d/y/z"]);
    assert!(mirror.below(&path("a")).is_empty());
}
