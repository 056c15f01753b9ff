//! The three-way decision for one path: what was applied last, what the guest has, what the host wants.
//!
//! Pure. The guest's own work always wins over ours: a path that is neither what we last put there nor what
//! the host wants now is a conflict and stays as it is. `bases` has several values when an earlier run was
//! interrupted, because the path may then be in the state before or after that run; `None` is "not there".

use crate::entry::Content;

/// What is at a path in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// Nothing.
    Absent,
    /// A file or link.
    Present(Content),
    /// A directory. It may turn out empty once our own files are gone from it.
    Directory,
    /// Something we never create: a device, a socket, a pipe.
    Special,
}

/// What to do about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is right already.
    Keep,
    /// Put the host's entry there.
    Write,
    /// Take it away.
    Remove,
    /// Leave it and report.
    Conflict(ConflictReason),
}

/// Why the guest's version was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictReason {
    /// Changed in the guest since the last prepare.
    ChangedInGuest,
    /// Deleted in the guest since the last prepare.
    DeletedInGuest,
    /// Made in the guest where the host now has something too.
    CreatedInGuest,
    /// A directory or special file, or a parent that is none, is in the way.
    Obstructed,
}

/// See the module.
pub fn decide(wanted: Option<Content>, bases: &[Option<Content>], observed: Observed) -> Decision {
    let untouched = |state: Option<Content>| if bases.is_empty() { state.is_none() } else { bases.contains(&state) };
    let never_ours = bases.iter().all(Option::is_none);
    match (wanted, observed) {
        (Some(want), Observed::Present(have)) if want == have => Decision::Keep,
        (Some(_), Observed::Present(have)) if untouched(Some(have)) => Decision::Write,
        (Some(_), Observed::Present(_)) if never_ours => Decision::Conflict(ConflictReason::CreatedInGuest),
        (Some(_), Observed::Present(_)) => Decision::Conflict(ConflictReason::ChangedInGuest),
        (Some(_), Observed::Absent) if untouched(None) => Decision::Write,
        (Some(_), Observed::Absent) => Decision::Conflict(ConflictReason::DeletedInGuest),
        (Some(_), Observed::Directory) if untouched(None) => Decision::Write,
        (Some(_), Observed::Directory | Observed::Special) => Decision::Conflict(ConflictReason::Obstructed),
        (None, Observed::Absent) => Decision::Keep,
        (None, Observed::Present(have)) if untouched(Some(have)) => Decision::Remove,
        (None, Observed::Present(_)) if never_ours => Decision::Keep,
        (None, Observed::Present(_)) => Decision::Conflict(ConflictReason::ChangedInGuest),
        // If ours was there, something else took the name: there is nothing of ours left to remove.
        (None, Observed::Directory | Observed::Special) => Decision::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::ConflictReason::{ChangedInGuest, CreatedInGuest, DeletedInGuest, Obstructed};
    use super::Decision::{Conflict, Keep, Remove, Write};
    use super::*;
    use crate::entry::EntryKind;

    fn content(letter: u8) -> Content {
        let kind = if letter == b'x' { EntryKind::Executable } else { EntryKind::File };
        Content { kind, digest: blake3::hash(&[letter.to_ascii_lowercase()]) }
    }

    fn option(letter: u8) -> Option<Content> {
        (letter != b'-').then(|| content(letter))
    }

    /// wanted, bases, observed (`-` absent, `/` directory, `!` special)
    fn case(wanted: u8, bases: &str, observed: u8) -> Decision {
        let bases: Vec<_> = bases.bytes().map(option).collect();
        let observed = match observed {
            b'-' => Observed::Absent,
            b'/' => Observed::Directory,
            b'!' => Observed::Special,
            letter => Observed::Present(content(letter)),
        };
        decide(option(wanted), &bases, observed)
    }

    #[test]
    fn the_table_of_described_cases() {
        for (wanted, bases, observed, expected, why) in [
            (b'a', "", b'-', Write, "new on the host"),
            (b'a', "", b'a', Keep, "the same came to be on both sides"),
            (b'a', "", b'b', Conflict(CreatedInGuest), "made in the guest first"),
            (b'b', "a", b'a', Write, "changed on the host"),
            (b'b', "a", b'b', Keep, "the same change on both sides"),
            (b'c', "a", b'b', Conflict(ChangedInGuest), "changed on both sides"),
            (b'a', "a", b'b', Conflict(ChangedInGuest), "changed in the guest only"),
            (b'a', "a", b'x', Conflict(ChangedInGuest), "mode changed in the guest"),
            (b'a', "a", b'-', Conflict(DeletedInGuest), "deleted in the guest"),
            (b'-', "a", b'a', Remove, "deleted on the host"),
            (b'-', "a", b'-', Keep, "deleted on both sides"),
            (b'-', "a", b'b', Conflict(ChangedInGuest), "deleted on the host, changed in the guest"),
            (b'-', "", b'b', Keep, "the guest's own file"),
            (b'c', "ab", b'b', Write, "left half way by an interrupted run"),
            (b'c', "ab", b'a', Write, "not reached by an interrupted run"),
            (b'b', "-b", b'-', Write, "an interrupted run did not create it"),
            (b'a', "a-", b'-', Write, "an interrupted run had removed it"),
            (b'a', "", b'/', Write, "a directory that may become empty"),
            (b'a', "a", b'/', Conflict(Obstructed), "the guest made a directory of it"),
            (b'a', "", b'!', Conflict(Obstructed), "a pipe in the way"),
        ] {
            assert_eq!(case(wanted, bases, observed), expected, "{why}");
        }
    }

    #[test]
    fn guest_work_is_never_overwritten_for_any_combination() {
        for wanted in *b"-abc" {
            for bases in ["", "-", "a", "b", "ab", "a-", "-b"] {
                for observed in *b"-abc" {
                    let guest_changed = !(if bases.is_empty() { "-" } else { bases }).as_bytes().contains(&observed);
                    let outcome = case(wanted, bases, observed);
                    if guest_changed && wanted != observed {
                        assert!(
                            matches!(outcome, Conflict(_)) || (wanted == b'-' && outcome == Keep),
                            "{} {bases} {}: {outcome:?}",
                            wanted as char,
                            observed as char
                        );
                    }
                }
            }
        }
    }
}
