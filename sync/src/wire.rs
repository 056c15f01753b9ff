//! Between what is sent and what is meant; every value from the wire is checked here, once.

use banger_proto::guest::v1::{FailureClass, WireConflict, WireEntry, WireKind};

use crate::diff::ConflictReason;
use crate::entry::{Entry, EntryKind, Mtime, Reason};
use crate::path::{InvalidPath, TreePath};

/// Longest target of a symbolic link in bytes, as the kernel has it.
pub const LINK_LIMIT: u64 = 4095;

/// Why a received entry is none.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEntry {
    /// Its path.
    #[error("received an entry with a forbidden path")]
    Path {
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// Something else about it.
    #[error("received an entry for {path} with an invalid {field}")]
    Field {
        /// Where it would go.
        path: TreePath,
        /// Which part.
        field: &'static str,
    },
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            path: entry.path.as_bytes().to_vec(),
            kind: wire_kind(entry.kind).into(),
            size: entry.size,
            digest: entry.digest.as_bytes().to_vec(),
            mtime_seconds: entry.mtime.seconds,
            mtime_nanos: entry.mtime.nanos,
        }
    }
}

/// Checks a received entry. Its reason is not on the wire; it reads as tracked.
///
/// # Errors
/// [`InvalidEntry`].
pub fn parse_entry(wire: &WireEntry) -> Result<Entry, InvalidEntry> {
    let path = TreePath::parse(&wire.path).map_err(|source| InvalidEntry::Path { source })?;
    let Some(kind) = parse_kind(wire.kind()) else { return Err(InvalidEntry::Field { path, field: "kind" }) };
    let Some(digest) = parse_digest(&wire.digest) else {
        return Err(InvalidEntry::Field { path, field: "digest" });
    };
    if wire.mtime_nanos >= 1_000_000_000 {
        return Err(InvalidEntry::Field { path, field: "time" });
    }
    if i64::try_from(wire.size).is_err() || (kind == EntryKind::Symlink && wire.size > LINK_LIMIT) {
        return Err(InvalidEntry::Field { path, field: "size" });
    }
    let mtime = Mtime { seconds: wire.mtime_seconds, nanos: wire.mtime_nanos };
    Ok(Entry { path, kind, size: wire.size, digest, reason: Reason::Tracked, mtime })
}

/// 32 bytes, or nothing.
pub fn parse_digest(bytes: &[u8]) -> Option<blake3::Hash> {
    Some(blake3::Hash::from_bytes(bytes.try_into().ok()?))
}

/// The kind on the wire.
pub fn wire_kind(kind: EntryKind) -> WireKind {
    match kind {
        EntryKind::File => WireKind::File,
        EntryKind::Executable => WireKind::Executable,
        EntryKind::Symlink => WireKind::Symlink,
    }
}

/// The kind from the wire.
pub fn parse_kind(kind: WireKind) -> Option<EntryKind> {
    match kind {
        WireKind::File => Some(EntryKind::File),
        WireKind::Executable => Some(EntryKind::Executable),
        WireKind::Symlink => Some(EntryKind::Symlink),
        WireKind::Unspecified => None,
    }
}

/// The reason on the wire.
pub fn wire_conflict(reason: ConflictReason) -> WireConflict {
    match reason {
        ConflictReason::ChangedInGuest => WireConflict::Changed,
        ConflictReason::DeletedInGuest => WireConflict::Deleted,
        ConflictReason::CreatedInGuest => WireConflict::Created,
        ConflictReason::Obstructed => WireConflict::Obstructed,
    }
}

/// The reason from the wire; an unknown one still is a conflict.
pub fn parse_conflict(reason: WireConflict) -> ConflictReason {
    match reason {
        // An older version of ours is never reported where this is asked.
        WireConflict::Changed | WireConflict::Outdated | WireConflict::Unspecified => ConflictReason::ChangedInGuest,
        WireConflict::Deleted => ConflictReason::DeletedInGuest,
        WireConflict::Created => ConflictReason::CreatedInGuest,
        WireConflict::Obstructed => ConflictReason::Obstructed,
    }
}

/// The class of a system error.
pub fn class_of_io(error: &std::io::Error) -> FailureClass {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => FailureClass::NoSpace,
        Some(Errno::ROFS) => FailureClass::ReadOnly,
        Some(Errno::ACCESS | Errno::PERM) => FailureClass::Permission,
        _ => FailureClass::Io,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wire() -> WireEntry {
        WireEntry {
            path: b"a/b".to_vec(),
            kind: WireKind::File.into(),
            size: 3,
            digest: vec![1; 32],
            mtime_seconds: -5,
            mtime_nanos: 999_999_999,
        }
    }

    #[test]
    fn entries_survive_the_wire() {
        let entry = parse_entry(&wire()).unwrap();
        assert_eq!(WireEntry::from(&entry), wire());
    }

    #[test]
    fn hostile_entries_are_refused() {
        for change in [
            (|w| w.path = b"../x".to_vec()) as fn(&mut WireEntry),
            |w| w.path = b"/x".to_vec(),
            |w| w.path = b"a\0".to_vec(),
            |w| w.path = b".git/hooks/post-checkout".to_vec(),
            |w| w.kind = 0,
            |w| w.kind = 77,
            |w| w.digest = vec![1; 31],
            |w| w.mtime_nanos = 1_000_000_000,
            |w| w.size = u64::MAX,
            |w| {
                w.kind = WireKind::Symlink.into();
                w.size = 5000;
            },
        ] {
            let mut hostile = wire();
            change(&mut hostile);
            assert!(parse_entry(&hostile).is_err(), "{hostile:?}");
        }
    }
}
