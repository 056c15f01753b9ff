//! Changes put into a working tree so that they can be taken back until the last one is there.
//!
//! ```text
//! prepare   new contents under temporary names beside their places   needs room, directories, permissions
//! swap      old files out of the way, new ones into their places     renames only
//! finish    old files go
//! undo      the same backwards, from wherever it stopped
//! ```
//! A file that has to become a directory first is written between the two, as its place is free only then. Nothing of
//! others is touched: names that begin with [`TEMPORARY`] are ours, and what is in the way is an error.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Change, ExportError};
use crate::dir::{Dir, Replace, Walker, is_absent};
use crate::entry::EntryKind;
use crate::path::TreePath;

/// What names of files on their way begin with.
const TEMPORARY: &str = ".banger-tmp-apply";

/// See the module.
pub struct Placing {
    root: PathBuf,
    walker: Walker,
    done: Vec<Step>,
}

/// What was done, with all that taking it back needs.
enum Step {
    Made(TreePath),
    Unmade(TreePath),
    Written(TreePath, Vec<u8>),
    Moved(TreePath, Vec<u8>),
    Placed(TreePath, Vec<u8>),
}

impl Placing {
    /// Nothing is changed yet.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub fn into_root(root: &Path) -> Result<Self, ExportError> {
        let opened = Dir::open_root(root).map_err(|source| ExportError::Keep { source })?;
        Ok(Self { root: root.to_owned(), walker: Walker::new(opened), done: Vec::new() })
    }

    /// Places every change, whose content `read` gives by its number; or none.
    ///
    /// # Errors
    /// Everything is as it was, unless it is [`ExportError::HalfWritten`] or [`ExportError::Leftovers`].
    pub fn place(mut self, changes: &[Change], read: impl Fn(usize) -> io::Result<Vec<u8>>) -> Result<(), ExportError> {
        match self.all(changes, &read) {
            Ok(()) => self.finish(),
            Err(failure) => {
                let left = self.undo();
                Err(match left.is_empty() {
                    true => failure,
                    false => ExportError::HalfWritten { left, source: Box::new(failure) },
                })
            }
        }
    }

    fn all(&mut self, changes: &[Change], read: &impl Fn(usize) -> io::Result<Vec<u8>>) -> Result<(), ExportError> {
        let mut later = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            if let Some(kind) = change.kind {
                let content = read(number).map_err(|source| ExportError::Keep { source })?;
                match self.write(number, &change.path, kind, &content) {
                    Err(error) if is_absent(&error) => later.push((number, change, kind)),
                    outcome => outcome.map_err(failed("write", &change.path))?,
                }
            }
        }
        for (number, change) in changes.iter().enumerate().filter(|(_, change)| change.old.is_some()) {
            self.take_away(number, &change.path).map_err(failed("replace", &change.path))?;
            if change.kind.is_none() {
                self.prune(&change.path).map_err(failed("remove the directory of", &change.path))?;
            }
        }
        for (number, change, kind) in later {
            let content = read(number).map_err(|source| ExportError::Keep { source })?;
            self.write(number, &change.path, kind, &content).map_err(failed("write", &change.path))?;
        }
        for (number, change) in changes.iter().enumerate().filter(|(_, change)| change.kind.is_some()) {
            self.put(number, &change.path).map_err(failed("write", &change.path))?;
        }
        Ok(())
    }

    fn write(&mut self, number: usize, path: &TreePath, kind: EntryKind, content: &[u8]) -> io::Result<()> {
        self.make_parents(path)?;
        let temporary = name("new", number);
        let (dir, _) = self.walker.parent(path)?;
        self.done.push(Step::Written(path.clone(), temporary.clone()));
        match kind {
            EntryKind::Symlink => dir.symlink(content, &temporary),
            EntryKind::File => dir.create_file(&temporary, 0o644)?.write_all(content),
            EntryKind::Executable => dir.create_file(&temporary, 0o755)?.write_all(content),
        }
    }

    /// Notes which directories were not there before.
    fn make_parents(&mut self, path: &TreePath) -> io::Result<()> {
        let parents = path.as_bytes().iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for at in parents {
            let Ok(parent) = TreePath::parse(&path.as_bytes()[..at]) else { continue };
            let (dir, name) = self.walker.parent(&parent)?;
            if dir.stamp(name)?.is_none() {
                dir.ensure_dir(name)?;
                self.done.push(Step::Made(parent));
            }
        }
        Ok(())
    }

    /// Into the root, so that a directory that becomes a file is empty.
    fn take_away(&mut self, number: usize, path: &TreePath) -> io::Result<()> {
        let old = name("old", number);
        let root = self.walker.root().try_clone()?;
        let (dir, here) = self.walker.parent(path)?;
        dir.rename_to(here, &root, &old, Replace::No)?;
        self.done.push(Step::Moved(path.clone(), old));
        Ok(())
    }

    /// Directories that are empty now go as well, as with git.
    fn prune(&mut self, path: &TreePath) -> io::Result<()> {
        let mut gone = path.clone();
        while let Ok(parent) = TreePath::parse(gone.split().0) {
            self.walker.forget();
            let (dir, name) = self.walker.parent(&parent)?;
            if !dir.remove_empty_dir(name)? {
                break;
            }
            self.done.push(Step::Unmade(parent.clone()));
            gone = parent;
        }
        self.walker.forget();
        Ok(())
    }

    fn put(&mut self, number: usize, path: &TreePath) -> io::Result<()> {
        let temporary = name("new", number);
        let (dir, here) = self.walker.parent(path)?;
        dir.rename(&temporary, here, Replace::No)?;
        self.done.push(Step::Placed(path.clone(), temporary));
        Ok(())
    }

    /// Everything is in place: what it replaced goes.
    fn finish(self) -> Result<(), ExportError> {
        let mut left = Vec::new();
        for step in &self.done {
            if let Step::Moved(path, old) = step
                && let Err(error) = self.walker.root().remove_file(old)
            {
                left.push(self.described(path, old, &error));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(ExportError::Leftovers { left }) }
    }

    /// Takes everything back; names what could not be.
    fn undo(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some(step) = self.done.pop() {
            self.walker.forget();
            let undone = self.undo_step(&step);
            if let Err(error) = undone {
                left.push(match &step {
                    // Where the content is now.
                    Step::Moved(path, old) => self.described(path, old, &error),
                    Step::Made(path) | Step::Unmade(path) | Step::Written(path, _) | Step::Placed(path, _) => {
                        format!("{path}: {error}")
                    }
                });
            }
        }
        left
    }

    fn undo_step(&mut self, step: &Step) -> io::Result<()> {
        let root = self.walker.root().try_clone()?;
        let (Step::Made(path)
        | Step::Unmade(path)
        | Step::Written(path, _)
        | Step::Moved(path, _)
        | Step::Placed(path, _)) = step;
        let (dir, here) = self.walker.parent(path)?;
        match step {
            Step::Made(_) => dir.remove_empty_dir(here).map(drop),
            Step::Unmade(_) => dir.ensure_dir(here).map(drop),
            Step::Written(_, temporary) => dir.remove_file(temporary),
            Step::Moved(_, old) => root.rename_to(old, dir, here, Replace::No),
            Step::Placed(_, temporary) => dir.rename(here, temporary, Replace::No),
        }
    }

    fn described(&self, path: &TreePath, old: &[u8], error: &io::Error) -> String {
        let place = self.root.join(String::from_utf8_lossy(old).into_owned());
        format!("what was {path} is in {}: {error}", place.display())
    }
}

fn name(what: &str, number: usize) -> Vec<u8> {
    format!("{TEMPORARY}-{what}-{number}").into_bytes()
}

fn failed(action: &'static str, path: &TreePath) -> impl FnOnce(io::Error) -> ExportError {
    move |source| ExportError::Write { action, path: path.clone(), source }
}
