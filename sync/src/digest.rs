//! One short name for the content of a whole tree, the same on both sides.
//!
//! blake3 over each entry in path order: length of the path, path, kind, digest of the content. Times
//! are not part of it: two trees with equal digests build alike, not necessarily with equal `make` state.

use std::fmt;
use std::str::FromStr;

use crate::entry::{Content, EntryKind};

/// Displayed as `b3:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeDigest(blake3::Hash);

/// The text is not a [`TreeDigest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tree digest")]
pub struct InvalidDigest {
    /// What was given.
    pub text: String,
}

impl TreeDigest {
    /// From 32 raw bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// The 32 raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", self.0.to_hex())
    }
}

impl FromStr for TreeDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.strip_prefix("b3:")
            .and_then(|hex| blake3::Hash::from_hex(hex).ok())
            .map(Self)
            .ok_or_else(|| InvalidDigest { text: text.to_owned() })
    }
}

/// Takes entries in path order.
#[derive(Debug, Default)]
pub struct DigestBuilder {
    hasher: blake3::Hasher,
    /// Not hashed yet: many blocks at once take a fraction of the time.
    waiting: Vec<u8>,
}

/// Where hashing several blocks at once gains no more.
const WAITING_BYTES: usize = 64 << 10;

impl DigestBuilder {
    /// Adds the next entry.
    pub fn push(&mut self, path: &[u8], content: Content) {
        let kind = match content.kind {
            EntryKind::File => b'f',
            EntryKind::Executable => b'x',
            EntryKind::Symlink => b'l',
        };
        self.waiting.extend_from_slice(&(path.len() as u64).to_le_bytes());
        self.waiting.extend_from_slice(path);
        self.waiting.push(kind);
        self.waiting.extend_from_slice(content.digest.as_bytes());
        if self.waiting.len() >= WAITING_BYTES {
            self.hasher.update(&self.waiting);
            self.waiting.clear();
        }
    }

    /// The digest of everything added.
    pub fn finish(mut self) -> TreeDigest {
        TreeDigest(self.hasher.update(&self.waiting).finalize())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let digest = DigestBuilder::default().finish();
        assert!(digest.to_string().starts_with("b3:"));
        assert_eq!(digest.to_string().parse::<TreeDigest>().unwrap(), digest);
        assert!("b3:12".parse::<TreeDigest>().is_err());
    }
}
