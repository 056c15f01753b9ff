//! What tells whether somebody else's file still is what it was: no content is read.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use serde::{Deserialize, Serialize};

/// A file outside the stores at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Absolute, without links.
    pub path: PathBuf,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

/// The file cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// It cannot be looked at.
    #[error("cannot use the file {path} where it is", path = path.display())]
    Gone {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is another file, or has other content.
    #[error("the file {path} is not what it was when it was registered", path = path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

impl Classified for StampError {
    fn kind(&self) -> Kind {
        match self {
            Self::Gone { source, .. } if source.kind() == io::ErrorKind::NotFound => Kind::NotFound,
            Self::Gone { .. } => Kind::Failed,
            Self::Changed { .. } => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "Register it again with `banger image register --in-place --refresh …`; a file that `banger image \
             promote` has copied cannot change."
                .to_owned(),
        ]
    }
}

impl FileStamp {
    /// Of the regular file at `path` now.
    ///
    /// # Errors
    /// [`StampError::Gone`].
    pub fn observe(path: &Path) -> Result<Self, StampError> {
        let gone = |source| StampError::Gone { path: path.to_owned(), source };
        let path = std::fs::canonicalize(path).map_err(gone)?;
        let found = std::fs::metadata(&path).map_err(gone)?;
        if !found.is_file() {
            return Err(gone(io::Error::other("it is no regular file")));
        }
        Ok(Self {
            inode: found.ino(),
            size: found.size(),
            modified_s: found.mtime(),
            modified_ns: found.mtime_nsec(),
            path,
        })
    }

    /// Whether it still is that file with that content.
    ///
    /// # Errors
    /// See [`StampError`].
    pub fn verify(&self) -> Result<(), StampError> {
        // Its device's number is left out: it may change with every mount.
        if Self::observe(&self.path)? == *self { Ok(()) } else { Err(StampError::Changed { path: self.path.clone() }) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_content_another_file_and_none_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let stamp = FileStamp::observe(&path).unwrap();
        stamp.verify().unwrap();
        std::fs::write(&path, "three").unwrap();
        assert_eq!(stamp.verify().unwrap_err().kind(), Kind::Conflict);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(stamp.verify().unwrap_err().kind(), Kind::NotFound);
        assert_eq!(FileStamp::observe(directory.path()).unwrap_err().kind(), Kind::Failed);
    }
}
