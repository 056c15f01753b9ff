//! Puts directories and files in place, each in one step, and can take back what one run did.
//!
//! A file that is replaced waits beside its successor until the run has succeeded ([`Undo::forget`]).

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};

use super::host::Host;
use super::layout::{Directory, Ownership};

/// Why something could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The system says no.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// "make the directory" …
        attempt: &'static str,
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something else lies there.
    #[error("refusing to use {}: {problem}", path.display())]
    Obstructed {
        /// Where.
        path: PathBuf,
        /// A clause.
        problem: &'static str,
    },
}

impl Classified for PlaceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } => Kind::HostNotReady,
            Self::Obstructed { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Io { path, .. } => {
                vec![format!("Check `ls -ld {}` and the free space with `df -h`.", path.display())]
            }
            Self::Obstructed { path, .. } => {
                vec![format!("Look at it with `ls -ld {}`, move it away and try again.", path.display())]
            }
        }
    }
}

/// What one run did to files, in order.
#[derive(Debug, Default)]
pub struct Undo {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    RemoveFile(PathBuf),
    Restore {
        path: PathBuf,
        previous: PathBuf,
    },
    /// With all that was put into it since: it did not exist before.
    RemoveDirectory(PathBuf),
}

impl Undo {
    /// Takes everything back, last first, and gives what could not be.
    pub fn take_back(self) -> Vec<String> {
        let undo = |step: Step| -> io::Result<()> {
            match &step {
                Step::RemoveFile(path) => std::fs::remove_file(path),
                Step::Restore { path, previous } => std::fs::rename(previous, path),
                Step::RemoveDirectory(path) => std::fs::remove_dir_all(path),
            }
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", step.path().display())))
        };
        self.steps.into_iter().rev().filter_map(|step| undo(step).err()).map(|error| error.to_string()).collect()
    }

    /// The run has succeeded: what was replaced is not needed any more. Gives what could not be removed.
    pub fn forget(self) -> Vec<String> {
        let replaced = self.steps.into_iter().filter_map(|step| match step {
            Step::Restore { previous, .. } => Some(previous),
            Step::RemoveFile(_) | Step::RemoveDirectory(_) => None,
        });
        replaced
            .filter_map(|path| std::fs::remove_file(&path).err().map(|error| format!("{}: {error}", path.display())))
            .collect()
    }
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Self::RemoveFile(path) | Self::Restore { path, .. } | Self::RemoveDirectory(path) => path,
        }
    }
}

/// What a step changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// Something else was there.
    Replaced,
    /// It was as it should be.
    Kept,
}

/// Makes a directory, or gives the one that is there the right mode.
///
/// # Errors
/// [`PlaceError`]; a link or a file in its place is refused.
pub fn directory(host: &Host, wanted: &Directory, undo: &mut Undo) -> Result<Change, PlaceError> {
    let path = host.at(wanted.path);
    let io = |attempt| {
        let path = path.clone();
        move |source| PlaceError::Io { attempt, path, source }
    };
    let change = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Change::Kept,
        Ok(_) => {
            return Err(PlaceError::Obstructed { path, problem: "it is not a directory" });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Directories above it (/etc, /usr/local/lib) are the system's, and stay if they are made here.
            let above = path.parent().unwrap_or(Path::new("/"));
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(above)
                .map_err(io("make the directory above"))?;
            std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(io("make the directory"))?;
            undo.steps.push(Step::RemoveDirectory(path.clone()));
            Change::Created
        }
        Err(error) => return Err(io("look at")(error)),
    };
    // An existing directory of another owner is handed over by systemd when the service starts: it does that with all
    // that is in it, without following links.
    match wanted.ownership {
        Ownership::Root => own(&path, 0, 0).map_err(io("own"))?,
        Ownership::User { uid, gid } if change == Change::Created => own(&path, uid, gid).map_err(io("give away"))?,
        Ownership::User { .. } => {}
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wanted.mode)).map_err(io("set the mode of"))?;
    Ok(change)
}

/// In a test nobody is root, and what is made is the tester's.
fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
}

/// Puts a file of root's in place, unless exactly that is there.
///
/// # Errors
/// [`PlaceError`]; a link or a directory in its place is refused.
pub fn file(host: &Host, path: &Path, content: &[u8], mode: u32, undo: &mut Undo) -> Result<Change, PlaceError> {
    let path = host.at(path);
    let io = |attempt| {
        let path = path.clone();
        move |source| PlaceError::Io { attempt, path, source }
    };
    let found = match path.symlink_metadata() {
        Ok(found) if found.is_file() => Some(found),
        Ok(_) => return Err(PlaceError::Obstructed { path, problem: "it is not a file" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io("look at")(error)),
    };
    if let Some(found) = &found {
        let is_ours = found.mode() & 0o7777 == mode && (found.uid() == 0 || !rustix::process::geteuid().is_root());
        if is_ours && std::fs::read(&path).map_err(io("read"))? == content {
            return Ok(Change::Kept);
        }
    }
    write_beside(&path, content, mode).map_err(io("write"))?;
    let previous = with_suffix(&path, ".replaced");
    let change = if found.is_some() {
        // A second name first, so that the path never goes without a file.
        let _ = std::fs::remove_file(&previous);
        std::fs::hard_link(&path, &previous).map_err(io("keep the former"))?;
        undo.steps.push(Step::Restore { path: path.clone(), previous });
        Change::Replaced
    } else {
        undo.steps.push(Step::RemoveFile(path.clone()));
        Change::Created
    };
    std::fs::rename(with_suffix(&path, ".new"), &path).map_err(io("put in place"))?;
    Ok(change)
}

fn write_beside(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    let mut file = tempfile::Builder::new().prefix(".banger-").tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(with_suffix(path, ".new"))?;
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listing(root: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_that_failed_leaves_everything_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::below(scratch.path());
        std::fs::write(scratch.path().join("old"), "old").unwrap();
        let mut undo = Undo::default();
        let wanted = Directory { path: "/new-directory", mode: 0o711, ownership: Ownership::Root };
        assert_eq!(directory(&host, &wanted, &mut undo).unwrap(), Change::Created);
        assert_eq!(file(&host, Path::new("/old"), b"new", 0o644, &mut undo).unwrap(), Change::Replaced);
        assert_eq!(file(&host, Path::new("/fresh"), b"x", 0o755, &mut undo).unwrap(), Change::Created);
        assert_eq!(std::fs::metadata(scratch.path().join("fresh")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(undo.take_back(), Vec::<String>::new());
        assert_eq!(listing(scratch.path()), ["old"]);
        assert_eq!(std::fs::read(scratch.path().join("old")).unwrap(), b"old");
    }

    #[test]
    fn a_run_that_worked_leaves_nothing_beside_its_files_and_the_next_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::below(scratch.path());
        std::fs::write(scratch.path().join("a"), "old").unwrap();
        let mut undo = Undo::default();
        file(&host, Path::new("/a"), b"new", 0o644, &mut undo).unwrap();
        assert_eq!(undo.forget(), Vec::<String>::new());
        assert_eq!(listing(scratch.path()), ["a"]);
        let mut undo = Undo::default();
        assert_eq!(file(&host, Path::new("/a"), b"new", 0o644, &mut undo).unwrap(), Change::Kept);
        // The right content with another mode is not the file that was wanted.
        assert_eq!(file(&host, Path::new("/a"), b"new", 0o755, &mut undo).unwrap(), Change::Replaced);
    }

    #[test]
    fn links_in_the_way_are_refused_and_never_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let host = Host::below(scratch.path());
        std::fs::write(scratch.path().join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", scratch.path().join("link")).unwrap();
        let mut undo = Undo::default();
        let refused = file(&host, Path::new("/link"), b"new", 0o644, &mut undo).unwrap_err();
        assert!(matches!(refused, PlaceError::Obstructed { .. }));
        let wanted = Directory { path: "/link", mode: 0o700, ownership: Ownership::Root };
        assert!(matches!(directory(&host, &wanted, &mut undo), Err(PlaceError::Obstructed { .. })));
        assert_eq!(std::fs::read(scratch.path().join("victim")).unwrap(), b"precious");
    }
}
