//! What the kernel says about changes in the tree: hints where to look, never what is there.
//!
//! One inotify watch a directory: those that hold something of the overlay, the root, and of `.git` only what a guest
//! gets (never `objects`). A queue that ran over means "anywhere". Directories that come or go are named as a whole;
//! whoever reads the hints looks at what is below them, after it is watched.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use super::git::GitPlaces;
use crate::path::TreePath;

const BUFFER: usize = 64 << 10;
/// The fixed part of an event: watch, mask, cookie, length of the name.
const HEADER: usize = 16;
/// Where the kernel says how many watches one user may have.
const LIMIT_FILE: &str = "/proc/sys/fs/inotify/max_user_watches";
/// Of those, how many this session leaves to other programs.
const SHARE: usize = 2;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// One path.
    At(TreePath),
    /// A directory came, went or moved: everything below it, and whether it is watched.
    Below(TreePath),
    /// Events were lost.
    Everything,
    /// Something in `.git`.
    Git,
    /// The root itself.
    Root,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A directory of the tree; empty is the root.
    Tree(Box<[u8]>),
    Git,
}

/// There are more directories than may be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// Directories to watch.
    pub needed: usize,
    /// How many may be.
    pub budget: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Events {
    /// No pipe; this is how the runtime waits for any readable descriptor.
    fd: Receiver,
    root: PathBuf,
    git: GitPlaces,
    budget: usize,
    places: HashMap<i32, Place>,
    watched: BTreeMap<Box<[u8]>, i32>,
}

impl Events {
    /// Begins to watch the root and `.git`.
    ///
    /// # Errors
    /// The kernel does not let us.
    pub fn open(root: &Path, git: GitPlaces, budget: Option<usize>) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut events = Self {
            fd: Receiver::from_owned_fd_unchecked(fd)?,
            root: root.to_owned(),
            git,
            budget: budget.unwrap_or_else(kernel_budget),
            places: HashMap::new(),
            watched: BTreeMap::new(),
        };
        events.watch_git();
        Ok(events)
    }

    /// Watches exactly the root and `directories`, which are sorted. Returns those that are newly watched: what
    /// happened in them before is not told.
    ///
    /// # Errors
    /// [`OverBudget`]; then only `.git` is watched.
    pub fn watch(&mut self, directories: &[TreePath]) -> Result<Vec<TreePath>, OverBudget> {
        let over = OverBudget { needed: directories.len() + 1, budget: self.budget };
        if over.needed + self.places.len() - self.watched.len() > self.budget {
            self.forget_tree();
            return Err(over);
        }
        let stale: Vec<Box<[u8]>> = self
            .watched
            .keys()
            .filter(|path| !path.is_empty() && directories.binary_search_by(|one| one.as_bytes().cmp(path)).is_err())
            .cloned()
            .collect();
        for path in stale {
            self.unwatch(&path);
        }
        let mut added = Vec::new();
        let all = std::iter::once(&[][..]).chain(directories.iter().map(TreePath::as_bytes));
        for path in all {
            if self.watched.contains_key(path) {
                continue;
            }
            match self.add(path) {
                Ok(()) => added.extend(TreePath::parse(path)),
                Err(Errno::NOSPC) => {
                    self.forget_tree();
                    return Err(over);
                }
                // Gone meanwhile: its parent has told or will tell.
                Err(_) => {}
            }
        }
        Ok(added)
    }

    /// Directories that are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Waits until there is something to [`Events::drain`].
    ///
    /// # Errors
    /// Of the runtime.
    pub async fn ready(&self) -> io::Result<()> {
        self.fd.readable().await
    }

    /// Takes everything there is.
    ///
    /// # Errors
    /// Of reading; what was taken before is kept.
    pub fn drain(&mut self, hints: &mut Vec<Hint>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match self.fd.try_read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut rest = &buffer[..count];
            while let Some((watch, what, name)) = event(&mut rest) {
                self.translate(watch, what, name, hints);
            }
        }
    }

    fn translate(&mut self, watch: i32, what: ReadFlags, name: Option<&[u8]>, hints: &mut Vec<Hint>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            hints.push(Hint::Everything);
            return;
        }
        let Some(place) = self.places.get(&watch).cloned() else { return };
        if what.contains(ReadFlags::IGNORED) {
            self.places.remove(&watch);
            if let Place::Tree(path) = place {
                self.watched.remove(&path);
            }
            return;
        }
        let directory = what.contains(ReadFlags::ISDIR);
        match (place, name) {
            (Place::Git, _) => {
                if directory && what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    self.watch_git();
                }
                hints.push(Hint::Git);
            }
            (Place::Tree(path), None) if path.is_empty() => hints.push(Hint::Root),
            // A directory's own end: its parent tells as well.
            (Place::Tree(_), None) => {}
            (Place::Tree(path), Some(b".git")) if path.is_empty() => hints.push(Hint::Git),
            (Place::Tree(path), Some(name)) => {
                let joined = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
                // What cannot be a path of the tree is nothing to follow.
                let Ok(path) = TreePath::parse(&joined) else { return };
                let moves = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
                match directory {
                    true if what.intersects(moves) => {
                        if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                            self.unwatch_below(&path);
                        }
                        hints.push(Hint::Below(path));
                    }
                    // Attributes of directories are not carried.
                    true => {}
                    false => hints.push(Hint::At(path)),
                }
            }
        }
    }

    fn add(&mut self, path: &[u8]) -> Result<(), Errno> {
        let place = self.root.join(OsStr::from_bytes(path));
        let what = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK;
        let watch = inotify::add_watch(&self.fd, &place, what)?;
        // The same directory under another name: the old name is not its any more.
        if let Some(Place::Tree(old)) = self.places.insert(watch, Place::Tree(path.into())) {
            self.watched.remove(&old);
        }
        self.watched.insert(path.into(), watch);
        Ok(())
    }

    fn watch_git(&mut self) {
        let mut pending = vec![self.git.own.clone(), self.git.common.clone(), self.git.common.join("info")];
        let references = self.git.common.join("refs/heads");
        let what = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        pending.push(references.clone());
        while let Some(directory) = pending.pop() {
            // A failure only costs time: the state of git is looked at before every batch anyway.
            let Ok(watch) = inotify::add_watch(&self.fd, &directory, what) else { continue };
            self.places.insert(watch, Place::Git);
            if directory.starts_with(&references) {
                let inside = std::fs::read_dir(&directory).into_iter().flatten().flatten();
                pending.extend(
                    inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
                );
            }
        }
    }

    fn unwatch(&mut self, path: &[u8]) {
        if let Some(watch) = self.watched.remove(path) {
            self.places.remove(&watch);
            // The directory may be gone, and the watch with it.
            let _ = inotify::remove_watch(&self.fd, watch);
        }
    }

    fn unwatch_below(&mut self, path: &TreePath) {
        let prefix = [path.as_bytes(), b"/"].concat();
        let below: Vec<Box<[u8]>> = self
            .watched
            .keys()
            .filter(|watched| ***watched == *path.as_bytes() || watched.starts_with(&prefix))
            .cloned()
            .collect();
        for path in below {
            self.unwatch(&path);
        }
    }

    fn forget_tree(&mut self) {
        for path in self.watched.keys().cloned().collect::<Vec<_>>() {
            self.unwatch(&path);
        }
    }
}

/// Takes the next event off what was read; the kernel hands out whole ones.
fn event<'a>(rest: &mut &'a [u8]) -> Option<(i32, ReadFlags, Option<&'a [u8]>)> {
    let (header, after) = rest.split_at_checked(HEADER)?;
    let word = |at: usize| header[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
    let (watch, what, length) = (word(0)?, word(4)?, word(12)?);
    let (name, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    let name = name.split(|&byte| byte == 0).next().filter(|name| !name.is_empty());
    Some((watch.cast_signed(), ReadFlags::from_bits_retain(what), name))
}

fn kernel_budget() -> usize {
    let limit = std::fs::read_to_string(LIMIT_FILE).ok().and_then(|text| text.trim().parse::<usize>().ok());
    limit.map_or(usize::MAX, |limit| limit / SHARE)
}

#[cfg(test)]
mod tests;
