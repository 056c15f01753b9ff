//! The jailer and the machine monitor, checked through a descriptor before one of them is executed.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};

use crate::error::{Step, StepError};

/// Nobody but the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Both, checked.
#[derive(Debug)]
pub struct Programs {
    jailer: OwnedFd,
}

impl Programs {
    /// Opens and checks them and the directory they are in.
    pub fn open(directory: &Path) -> Step<Self> {
        Self::open_for(directory, 0)
    }

    /// A path that leads to the jailer that was checked, and to no other file.
    pub fn jailer_path(&self) -> OsString {
        format!("/proc/self/fd/{}", self.jailer.as_raw_fd()).into()
    }

    fn open_for(path: &Path, administrator: u32) -> Step<Self> {
        let attempt = || format!("use the programs in {}", path.display());
        let failed = |error: rustix::io::Errno| StepError::new(attempt(), io::Error::from(error));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map_err(failed)?;
        let found = fstat(&directory).map_err(failed)?;
        if let Some(reason) = objection(&found, administrator) {
            return Err(StepError::refused(attempt(), reason));
        }
        let open = |name: &str| {
            let attempt = || format!("use the program {}", path.join(name).display());
            let failed = |error: rustix::io::Errno| StepError::new(attempt(), io::Error::from(error));
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat2(&directory, name, flags, Mode::empty(), resolve).map_err(failed)?;
            let found = fstat(&file).map_err(failed)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(StepError::refused(attempt(), "it is not a regular file"));
            }
            match objection(&found, administrator) {
                Some(reason) => Err(StepError::refused(attempt(), reason)),
                None => Ok(file),
            }
        };
        open("firecracker")?;
        Ok(Self { jailer: open("jailer")? })
    }
}

/// Why it must not be executed, if so.
fn objection(found: &Stat, administrator: u32) -> Option<String> {
    if found.st_uid != administrator {
        Some(format!("it belongs to uid {}, not {administrator}", found.st_uid))
    } else if found.st_mode & WRITABLE_BY_OTHERS != 0 {
        Some("others than its owner may write it".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory(jailer_mode: u32, directory_mode: u32) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        for (name, mode) in [("firecracker", 0o755), ("jailer", jailer_mode)] {
            let path = scratch.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(directory_mode)).unwrap();
        scratch
    }

    #[test]
    fn only_what_nobody_else_can_write_is_executed() {
        let us = rustix::process::getuid().as_raw();
        let open = |scratch: &tempfile::TempDir, uid| Programs::open_for(scratch.path(), uid);
        assert!(open(&directory(0o755, 0o755), us).is_ok());
        assert!(open(&directory(0o775, 0o755), us).is_err(), "the group may write it");
        assert!(open(&directory(0o757, 0o755), us).is_err(), "everybody may write it");
        assert!(open(&directory(0o755, 0o777), us).is_err(), "everybody may put another there");
        assert!(open(&directory(0o755, 0o755), us + 1).is_err(), "it is another user's");
    }

    #[test]
    fn a_link_is_not_executed() {
        let scratch = directory(0o755, 0o755);
        std::fs::remove_file(scratch.path().join("jailer")).unwrap();
        std::os::unix::fs::symlink("firecracker", scratch.path().join("jailer")).unwrap();
        assert!(Programs::open_for(scratch.path(), rustix::process::getuid().as_raw()).is_err());
    }
}
