//! Files of the owner, opened so that what was checked is what is used.
//!
//! The owner can rename, link and swap anything beneath their directories at any time. So a name is resolved once,
//! beneath the directory, over no symbolic link; what it led to is checked through that descriptor, and only that
//! descriptor is used afterwards. Nothing is read here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::error::{Step, StepError, step};
use crate::ledger::FileIdentity;

/// A directory of the owner's.
#[derive(Debug)]
pub struct OwnerDirectory {
    directory: OwnedFd,
    path: PathBuf,
    owner: u32,
}

/// A regular file of the owner's with one name. Its descriptor can only be looked at and reopened.
#[derive(Debug)]
pub struct CheckedFile {
    file: OwnedFd,
    /// Which file it is.
    pub identity: FileIdentity,
    /// Its length in bytes.
    pub length: u64,
}

impl OwnerDirectory {
    /// Opens it; it must be a directory of `owner`.
    pub fn open(path: &Path, owner: u32) -> Step<Self> {
        let attempt = || format!("use the directory {}", path.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
        let directory = directory.map_err(|error| not_opened(attempt(), error.into()))?;
        let found = fstat(&directory).map_err(|error| StepError::new(attempt(), io::Error::from(error)))?;
        if found.st_uid != owner {
            return Err(StepError::refused(attempt(), format!("it belongs to uid {}, not {owner}", found.st_uid)));
        }
        Ok(Self { directory, path: path.to_owned(), owner })
    }

    /// A file beneath it, checked.
    pub fn check(&self, beneath: &Path) -> Step<CheckedFile> {
        let attempt = || format!("use the file {}", self.path.join(beneath).display());
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // PATH: opening a device or a pipe for real could already do something.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(&self.directory, beneath, flags, Mode::empty(), resolve);
        let file = file.map_err(|error| not_opened(attempt(), error.into()))?;
        let found = fstat(&file).map_err(|error| StepError::new(attempt(), io::Error::from(error)))?;
        if let Some(reason) = objection(&found, self.owner) {
            return Err(StepError::refused(attempt(), reason));
        }
        let identity = FileIdentity { device: found.st_dev, inode: found.st_ino };
        Ok(CheckedFile { file, identity, length: u64::try_from(found.st_size).unwrap_or(0) })
    }

    /// The directory a file beneath it is in.
    pub fn directory(&self, beneath: &Path) -> Step<OwnedFd> {
        let attempt = || format!("use the directory {}", self.path.join(beneath).display());
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.directory, beneath, flags, Mode::empty(), resolve)
            .map_err(|error| not_opened(attempt(), error.into()))
    }
}

impl CheckedFile {
    /// Opens that very file for reading.
    pub fn open(&self) -> Step<File> {
        // The kernel's own name for the descriptor: leads to the file itself, whatever its names are by now.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        File::open(path).map_err(step("open a file that was checked"))
    }
}

impl AsFd for CheckedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why a file must not be used, if so.
fn objection(found: &rustix::fs::Stat, owner: u32) -> Option<String> {
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        Some("it is not a regular file".to_owned())
    } else if found.st_uid != owner {
        Some(format!("it belongs to uid {}, not {owner}", found.st_uid))
    } else if found.st_nlink != 1 {
        // Another name could be anywhere, and of a file that somebody else meant to keep.
        Some(format!("it has {} names, not one", found.st_nlink))
    } else {
        None
    }
}

fn not_opened(attempt: String, error: io::Error) -> StepError {
    match error.kind() {
        io::ErrorKind::NotFound => StepError::not_found(attempt, error),
        // ELOOP and EXDEV: a symbolic link, or a way out of the directory.
        _ if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) => {
            StepError::refused(attempt, format!("the way there is not plain directories: {error}"))
        }
        _ => StepError::new(attempt, error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read as _;

    use banger_proto::failure::{Classified as _, Kind};

    use super::*;

    fn directory(path: &Path) -> OwnerDirectory {
        OwnerDirectory::open(path, rustix::process::getuid().as_raw()).unwrap()
    }

    #[test]
    fn a_plain_file_is_used_and_stays_the_one_that_was_checked() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("disk");
        std::fs::write(&path, "first").unwrap();
        let checked = directory(scratch.path()).check(Path::new("disk")).unwrap();
        std::fs::rename(&path, scratch.path().join("elsewhere")).unwrap();
        std::fs::write(&path, "swapped").unwrap();
        let mut text = String::new();
        checked.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), checked.length), ("first", 5));
    }

    #[test]
    fn what_could_be_somebody_elses_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::hard_link(at("file"), at("second name")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        std::os::unix::fs::symlink(".", at("here")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let directory = directory(scratch.path());
        for name in ["file", "link", "here/file", "pipe", "../etc/passwd", "/etc/passwd"] {
            let error = directory.check(Path::new(name)).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{name}: {error}");
        }
        assert_eq!(directory.check(Path::new("nothing")).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let other = rustix::process::getuid().as_raw() + 1;
        assert_eq!(OwnerDirectory::open(scratch.path(), other).unwrap_err().kind(), Kind::Refused);
    }
}
