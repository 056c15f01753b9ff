//! Reads beneath the owner's home, through one descriptor of it: no link, whoever makes it and whenever, leads out.
//!
//! A named path is opened by the kernel with `RESOLVE_BENEATH`; from there on every step is one name in one directory
//! ([`crate::dir`]). Nothing is opened before it is known to be a file or directory, so no pipe blocks and no device acts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{BYTES_LIMIT, DEPTH_LIMIT, FILE_MODE, Files, FilesError, Item, PARENT_MODE, PIECES_LIMIT, Wanted};
use crate::dir::Dir;
use crate::path::{TreePath, render};
use crate::piece::{Piece, What, is_reserved};

/// How often a path is looked up that others are renaming meanwhile.
const TRIES: usize = 16;

pub struct Source {
    home: OwnedFd,
    items: BTreeMap<TreePath, Item>,
    warnings: Vec<String>,
    bytes_left: u64,
}

/// A directory on its way.
struct Level<'a> {
    wanted: &'a Wanted,
    /// The one that is named.
    top: &'a Dir,
    /// From there to here.
    below_top: Vec<u8>,
    /// Where it goes.
    guest: TreePath,
    depth: usize,
}

impl Source {
    pub fn open(home: &Path) -> Result<Self, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = rustix::fs::open(home, flags, Mode::empty())
            .map_err(|error| FilesError::Home { path: home.to_owned(), source: error.into() })?;
        Ok(Self { home, items: BTreeMap::new(), warnings: Vec::new(), bytes_left: BYTES_LIMIT })
    }

    pub fn finish(self) -> Files {
        Files { items: self.items.into_values().collect(), warnings: self.warnings }
    }

    /// Reads one entry.
    pub fn take(&mut self, wanted: &Wanted) -> Result<(), FilesError> {
        let path = wanted.host.as_os_str().as_bytes();
        let failed = |error: Errno| match error {
            Errno::XDEV => FilesError::Leaves { entry: wanted.entry, shown: wanted.shown.clone() },
            other => io_error(wanted, "open", &wanted.shown, other.into()),
        };
        let found = match beneath(&self.home, path, OFlags::PATH) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                self.warn(wanted, "is not there; the guest does not get it");
                return Ok(());
            }
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&found).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = File::from(beneath(&self.home, path, flags).map_err(failed)?);
                self.file(wanted, (file, &wanted.shown), &wanted.guest, wanted.mode.unwrap_or(FILE_MODE))
            }
            FileType::Directory => {
                if wanted.mode.is_some() {
                    self.warn(wanted, "is a directory: `mode` is for files, what is in it keeps its own");
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let top = Dir::from(beneath(&self.home, path, flags).map_err(failed)?);
                let level = Level { wanted, top: &top, below_top: Vec::new(), guest: wanted.guest.clone(), depth: 0 };
                self.parents(wanted, &wanted.guest)?;
                self.put(wanted, directory(&wanted.guest, stat.st_mode & 0o777))?;
                self.directory(&top, &level)
            }
            _ => {
                self.warn(wanted, "is no file and no directory; the guest does not get it");
                Ok(())
            }
        }
    }

    fn directory(&mut self, dir: &Dir, level: &Level<'_>) -> Result<(), FilesError> {
        let wanted = level.wanted;
        let shown = level.shown();
        if level.depth >= DEPTH_LIMIT {
            return Err(FilesError::TooDeep { entry: wanted.entry, shown });
        }
        let mut names = dir.names().map_err(|source| io_error(wanted, "read the directory", &shown, source))?;
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (name, _) in names {
            let child = level.child(&name);
            let shown = child.shown(&level.wanted.shown);
            let Ok(guest) = TreePath::parse(&[level.guest.as_bytes(), b"/", &name].concat()) else {
                self.warn_of(wanted, &shown, "is left out: no .git, and no name that is too long, goes into a guest");
                continue;
            };
            if is_reserved(&guest) {
                self.warn_of(wanted, &shown, "is left out: the name is banger's own");
                continue;
            }
            let failed = |action| move |source| (action, source);
            let outcome = (|| {
                // Gone between two looks: it is simply not there.
                let Some(stat) = dir.stat(&name).map_err(failed("look at"))? else { return Ok(None) };
                Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => {
                        Found::File(dir.open_file(&name).map_err(failed("open"))?, stat.st_mode & 0o777)
                    }
                    FileType::Directory => {
                        Found::Directory(dir.open_dir(&name).map_err(failed("open"))?, stat.st_mode & 0o777)
                    }
                    FileType::Symlink => Found::Link(dir.read_link(&name).map_err(failed("read the link"))?),
                    _ => Found::Special,
                }))
            })();
            let found = outcome.map_err(|(action, source)| io_error(wanted, action, &shown, source))?;
            match found {
                None => {}
                Some(Found::File(file, mode)) => self.file(wanted, (file, &shown), &guest, mode)?,
                Some(Found::Directory(inner, mode)) => {
                    self.put(wanted, directory(&guest, mode))?;
                    let level = Level { wanted, top: level.top, below_top: child.0, guest, depth: level.depth + 1 };
                    self.directory(&inner, &level)?;
                }
                Some(Found::Link(target)) if stays(level, &target) => {
                    self.put(wanted, Item { piece: link(&guest, target), content: Vec::new(), implied: false })?;
                }
                Some(Found::Link(_)) => {
                    let why = "is a link out of the directory and left out";
                    self.warn_of(wanted, &shown, why);
                }
                Some(Found::Special) => {
                    self.warn_of(wanted, &shown, "is a pipe, socket or device and left out");
                }
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        wanted: &Wanted,
        (file, shown): (File, &str),
        guest: &TreePath,
        mode: u32,
    ) -> Result<(), FilesError> {
        let failed = |source| io_error(wanted, "read", shown, source);
        let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            // It became something else since it was looked at.
            self.warn_of(wanted, shown, "is no file any more and left out");
            return Ok(());
        }
        let mut content = Vec::new();
        file.take(self.bytes_left + 1).read_to_end(&mut content).map_err(failed)?;
        let size = content.len() as u64;
        self.bytes_left = self
            .bytes_left
            .checked_sub(size)
            .ok_or_else(|| FilesError::TooLarge { entry: wanted.entry, shown: shown.to_owned() })?;
        let what = What::File { size, digest: blake3::hash(&content) };
        self.parents(wanted, guest)?;
        self.put(wanted, Item { piece: Piece { path: guest.clone(), mode, what }, content, implied: false })
    }

    /// The directories on the way to a place, unless somebody names them.
    fn parents(&mut self, wanted: &Wanted, guest: &TreePath) -> Result<(), FilesError> {
        let bytes = guest.as_bytes();
        for end in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            if let Ok(parent) = TreePath::parse(&bytes[..end]) {
                self.put(wanted, Item { implied: true, ..directory(&parent, PARENT_MODE) })?;
            }
        }
        Ok(())
    }

    fn put(&mut self, wanted: &Wanted, item: Item) -> Result<(), FilesError> {
        let count = self.items.len();
        let is_directory = |item: &Item| item.piece.what == What::Directory;
        let path = item.piece.path.clone();
        match self.items.entry(path.clone()) {
            Place::Vacant(_) if count == PIECES_LIMIT => {
                Err(FilesError::TooMany { entry: wanted.entry, shown: wanted.shown.clone() })
            }
            Place::Vacant(free) => {
                free.insert(item);
                Ok(())
            }
            Place::Occupied(mut there) if is_directory(there.get()) && is_directory(&item) => {
                if !item.implied {
                    there.insert(item);
                }
                Ok(())
            }
            Place::Occupied(_) => Err(FilesError::Twice { entry: wanted.entry, path }),
        }
    }

    fn warn(&mut self, wanted: &Wanted, what: &str) {
        self.warn_of(wanted, &wanted.shown, what);
    }

    fn warn_of(&mut self, wanted: &Wanted, shown: &str, what: &str) {
        self.warnings.push(format!("[[file_sync]] entry {}: {shown} {what}", wanted.entry));
    }
}

enum Found {
    File(File, u32),
    Directory(Dir, u32),
    Link(Vec<u8>),
    Special,
}

impl Level<'_> {
    fn child(&self, name: &[u8]) -> BelowTop {
        BelowTop(if self.below_top.is_empty() { name.to_vec() } else { [&self.below_top, &b"/"[..], name].concat() })
    }

    fn shown(&self) -> String {
        BelowTop(self.below_top.clone()).shown(&self.wanted.shown)
    }
}

/// A path from the named directory.
struct BelowTop(Vec<u8>);

impl BelowTop {
    fn shown(&self, top: &str) -> String {
        if self.0.is_empty() { top.to_owned() } else { format!("{}/{}", top.trim_end_matches('/'), render(&self.0)) }
    }
}

fn directory(guest: &TreePath, mode: u32) -> Item {
    let piece = Piece { path: guest.clone(), mode, what: What::Directory };
    Item { piece, content: Vec::new(), implied: false }
}

fn link(guest: &TreePath, target: Vec<u8>) -> Piece {
    Piece { path: guest.clone(), mode: 0, what: What::Symlink { target } }
}

fn io_error(wanted: &Wanted, action: &'static str, shown: &str, source: io::Error) -> FilesError {
    FilesError::Io { entry: wanted.entry, action, shown: shown.to_owned(), source }
}

/// Opens `path` so that nothing on the way, nor at its end, is outside `from`.
fn beneath(from: impl std::os::fd::AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&from, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something on the way was renamed, so that the kernel cannot tell.
            Err(Errno::AGAIN | Errno::INTR) => last = Errno::AGAIN,
            opened => return opened,
        }
    }
    Err(last)
}

/// True for a target that stays in the named directory: by its words, and as it resolves today.
fn stays(level: &Level<'_>, target: &[u8]) -> bool {
    let mut depth = if level.below_top.is_empty() { 0 } else { level.below_top.split(|&byte| byte == b'/').count() };
    if target.starts_with(b"/") {
        return false;
    }
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    let path =
        if level.below_top.is_empty() { target.to_vec() } else { [&level.below_top, &b"/"[..], target].concat() };
    // One that leads nowhere, or in a circle, leads nowhere else either.
    !matches!(beneath(level.top, &path, OFlags::PATH), Err(Errno::XDEV))
}
