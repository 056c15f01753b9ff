//! A path inside the synchronised tree, and the only way to make one from untrusted bytes.
//!
//! A [`TreePath`] is relative, has no empty, `.` or `..` component, no NUL, and never enters a `.git`
//! in any spelling. It is bytes, not text: git names need not be UTF-8. It never becomes a file-system
//! path by itself; [`crate::dir`] opens it one component at a time.

use std::borrow::Borrow;
use std::fmt;

/// Longest whole path in bytes.
pub const PATH_LIMIT: usize = 4096;
/// Longest component in bytes.
pub const NAME_LIMIT: usize = 255;

/// See the module.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Box<[u8]>);

/// Why bytes are not a [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing there.
    #[error("the path is empty")]
    Empty,
    /// Over [`PATH_LIMIT`], or a component over [`NAME_LIMIT`].
    #[error("the path {shown} is too long")]
    TooLong {
        /// The start of it.
        shown: String,
    },
    /// A component that could lead out of the tree or into its metadata.
    #[error("the path {shown} has the forbidden component {component:?}")]
    Component {
        /// The whole path.
        shown: String,
        /// The offending part.
        component: String,
    },
}

impl TreePath {
    /// Parses bytes from an index, a directory or the wire.
    ///
    /// # Errors
    /// [`InvalidPath`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if bytes.len() > PATH_LIMIT {
            return Err(InvalidPath::TooLong { shown: render(&bytes[..64]) });
        }
        // There are very many paths: what each byte must be is asked once.
        let has_nul = bytes.contains(&0);
        for component in bytes.split(|&byte| byte == b'/') {
            if component.len() > NAME_LIMIT {
                return Err(InvalidPath::TooLong { shown: render(bytes) });
            }
            let is_plain = if has_nul { is_plain_name(component) } else { !leads_nowhere(component) };
            if !is_plain || component.eq_ignore_ascii_case(b".git") {
                return Err(InvalidPath::Component { shown: render(bytes), component: render_raw(component) });
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, `/` between components.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its components in order; never empty.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }

    /// The parent directory's bytes (empty for the root) and the last component.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

/// True for one directory entry's name: not empty, `.`, `..`, and free of `/` and NUL.
pub fn is_plain_name(name: &[u8]) -> bool {
    !leads_nowhere(name) && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

/// Not to an entry of the directory.
fn leads_nowhere(component: &[u8]) -> bool {
    matches!(component, b"" | b"." | b"..")
}

/// Bytes for a message: text as it is, anything else escaped, quoted when it is not plain.
pub fn render(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '"') => text.to_owned(),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

fn render_raw(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({})", self.0.escape_ascii())
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_could_leave_the_tree_is_a_path() {
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/..",
            "../a",
            "a/../b",
            ".",
            "a/.",
            "./a",
            "a//b",
            "a/",
            ".git",
            ".GIT/config",
            "a/.Git/hooks",
            "a\0b",
        ] {
            assert!(TreePath::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(TreePath::parse(&[b'a'; 256]).is_err());
        assert!(TreePath::parse(&b"a/".repeat(3000)).is_err());
    }

    #[test]
    fn unusual_names_are_paths() {
        for good in [&b"a"[..], b"a b/c\nd", b"\xff\xfe", b"...", "é".as_bytes(), b".gitignore", b"-n", b"a\\b"] {
            assert_eq!(TreePath::parse(good).unwrap().as_bytes(), good);
        }
        assert_eq!(TreePath::parse(b"a/b/c").unwrap().split(), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(TreePath::parse(b"c").unwrap().split(), (&b""[..], &b"c"[..]));
    }

    proptest! {
        #[test]
        fn every_accepted_path_consists_of_plain_names(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = TreePath::parse(&bytes) {
                prop_assert!(path.components().all(|name| is_plain_name(name) && !name.eq_ignore_ascii_case(b".git")));
                prop_assert_eq!(path.as_bytes(), &bytes[..]);
            }
        }
    }
}
