//! A directory handle whose methods take one name, never a path, and never follow a link.
//!
//! Everything either side does to a tree goes through here, so nothing outside the root can be reached,
//! whatever names say and whatever is swapped for a symbolic link meanwhile. Only [`Dir::open_root`] takes a
//! path; it is the caller's own. [`Walker`] finds parents of tree paths and remembers the way.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps,
    UTIME_OMIT,
};
use rustix::io::Errno;

use crate::entry::{EntryKind, Mtime};
use crate::path::{TreePath, is_plain_name};

/// What one look into a directory asks the kernel for at once; a name takes at most 280 bytes.
const NAMES_BUFFER: usize = 32 << 10;

/// See the module.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// Whether [`Dir::rename`] may take the place of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Fail if the name is taken.
    No,
    /// Replace a file or link.
    Yes,
}

/// What one lstat told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
    /// Change time: what a program cannot set back.
    pub ctime: Mtime,
    /// File type and permission bits.
    pub mode: u32,
}

impl Stamp {
    /// From the system's structure.
    pub fn from_stat(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: Mtime { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
            ctime: Mtime { seconds: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) },
            mode: stat.st_mode,
        }
    }

    /// Of an open file, whatever its name is by now.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::from_stat(&rustix::fs::fstat(file)?))
    }

    /// Its type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The kind of entry it would be, if it can be one.
    pub fn kind(&self) -> Option<EntryKind> {
        match self.file_type() {
            FileType::RegularFile if self.mode & 0o100 != 0 => Some(EntryKind::Executable),
            FileType::RegularFile => Some(EntryKind::File),
            FileType::Symlink => Some(EntryKind::Symlink),
            _ => None,
        }
    }
}

impl Dir {
    /// Opens the root; this one path is trusted and may contain links.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// A second handle to the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Opens a directory in it.
    pub fn open_dir(&self, name: &[u8]) -> io::Result<Self> {
        self.open_dir_with(name, OFlags::RDONLY)
    }

    /// The same, in which names can be looked at and opened and not listed: cheaper.
    fn open_dir_for_looks(&self, name: &[u8]) -> io::Result<Self> {
        self.open_dir_with(name, OFlags::PATH)
    }

    fn open_dir_with(&self, name: &[u8], access: OFlags) -> io::Result<Self> {
        checked(name)?;
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.0, name, flags, Mode::empty(), resolve) {
            // A single name that is no link cannot lead anywhere else, so older kernels and
            // sandboxes without openat2 are as safe.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Self(rustix::fs::openat(&self.0, name, flags, Mode::empty())?)),
            opened => Ok(Self(opened?)),
        }
    }

    /// Makes a directory and opens it; one that is there already is fine.
    pub fn ensure_dir(&self, name: &[u8]) -> io::Result<Self> {
        checked(name)?;
        match rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(name),
            Err(error) => Err(error.into()),
        }
    }

    /// lstat; `None` if nothing is there.
    pub fn stamp(&self, name: &[u8]) -> io::Result<Option<Stamp>> {
        Ok(self.stat(name)?.as_ref().map(Stamp::from_stat))
    }

    /// lstat with everything in it; `None` if nothing is there.
    pub fn stat(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        checked(name)?;
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file for reading. Never blocks on a pipe, never follows a link.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        checked(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Makes a file that must not exist.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        checked(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// Opens a file to write at its end, making it if it is not there.
    pub fn append_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        checked(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// The target of a link.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        checked(name)?;
        Ok(rustix::fs::readlinkat(&self.0, name, Vec::new())?.into_bytes())
    }

    /// Makes a link that must not exist.
    pub fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        checked(name)?;
        Ok(rustix::fs::symlinkat(target, &self.0, name)?)
    }

    /// Renames within the directory.
    pub fn rename(&self, from: &[u8], to: &[u8], replace: Replace) -> io::Result<()> {
        self.rename_to(from, self, to, replace)
    }

    /// Renames into another directory of the same file system.
    pub fn rename_to(&self, from: &[u8], other: &Self, to: &[u8], replace: Replace) -> io::Result<()> {
        checked(from)?;
        checked(to)?;
        if replace == Replace::Yes {
            return Ok(rustix::fs::renameat(&self.0, from, &other.0, to)?);
        }
        match rustix::fs::renameat_with(&self.0, from, &other.0, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if other.stamp(to)?.is_none() => {
                Ok(rustix::fs::renameat(&self.0, from, &other.0, to)?)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST.into()),
            outcome => Ok(outcome?),
        }
    }

    /// Has two names change places. `false` where the file system cannot.
    pub fn exchange(&self, one: &[u8], other: &[u8]) -> io::Result<bool> {
        checked(one)?;
        checked(other)?;
        match rustix::fs::renameat_with(&self.0, one, &self.0, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file or link; nothing there is fine.
    pub fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        checked(name)?;
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Removes an empty directory. `false` if it is not empty or not there.
    pub fn remove_empty_dir(&self, name: &[u8]) -> io::Result<bool> {
        checked(name)?;
        match rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes whatever has that name, with everything in it; follows no link. Nothing there is fine.
    pub fn remove_tree(&self, name: &[u8]) -> io::Result<()> {
        let error = match self.remove_file(name) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Which error a directory is differs between file systems.
        if self.stamp(name)?.is_none_or(|stamp| stamp.file_type() != FileType::Directory) {
            return Err(error);
        }
        let dir = self.open_dir(name)?;
        for (name, _) in dir.names()? {
            dir.remove_tree(&name)?;
        }
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Sets the modification time of a file or of a link itself.
    pub fn set_mtime(&self, name: &[u8], mtime: Mtime) -> io::Result<()> {
        checked(name)?;
        Ok(rustix::fs::utimensat(&self.0, name, &only_mtime(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Everything in it except `.` and `..`, in no order. Not for two threads at once with the same handle or copies of it.
    pub fn names(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        // The handle has a place in the directory.
        rustix::fs::seek(&self.0, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); NAMES_BUFFER];
        let mut entries = RawDir::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let mut kind = entry.file_type();
                if kind == FileType::Unknown {
                    kind = self.stamp(name)?.map_or(FileType::Unknown, |stamp| stamp.file_type());
                }
                names.push((name.to_vec(), kind));
            }
        }
        Ok(names)
    }
}

impl From<OwnedFd> for Dir {
    /// Of a directory that its opener vouches for.
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// [`Dir::set_mtime`] of a file that is open.
pub fn set_file_mtime(file: &File, mtime: Mtime) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &only_mtime(mtime))?)
}

/// Fills `buffer` with what the file has from `offset` on; says how much that is, which is less only at its end.
pub fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset.checked_add(filled as u64).ok_or(Errno::INVAL)?;
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn only_mtime(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) },
    }
}

fn checked(name: &[u8]) -> io::Result<()> {
    if is_plain_name(name) { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// True for "there is no such path": it or a parent is missing, or a parent is no directory.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}

/// Opens parents of paths, one component at a time, and keeps the last way open: neighbours are cheap.
#[derive(Debug)]
pub struct Walker {
    root: Dir,
    open: Vec<(Box<[u8]>, Dir)>,
    /// Where that leads, if it is known.
    way: Vec<u8>,
    /// How a directory is opened.
    step: Step,
}

type Step = fn(&Dir, &[u8]) -> io::Result<Dir>;

impl Walker {
    /// Starts at `root`.
    pub fn new(root: Dir) -> Self {
        Self { root, open: Vec::new(), way: Vec::new(), step: Dir::open_dir }
    }

    /// Of one that never lists a directory.
    pub fn for_looks(root: Dir) -> Self {
        Self { step: Dir::open_dir_for_looks, ..Self::new(root) }
    }

    /// Where it starts.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The directory `path` is in, and its name there.
    pub fn parent<'p>(&mut self, path: &'p TreePath) -> io::Result<(&Dir, &'p [u8])> {
        self.descend(path, self.step)
    }

    /// The same, making directories on the way.
    pub fn ensure_parent<'p>(&mut self, path: &'p TreePath) -> io::Result<(&Dir, &'p [u8])> {
        self.descend(path, Dir::ensure_dir)
    }

    /// Forgets the open directories, after some may have been removed.
    pub fn forget(&mut self) {
        self.open.clear();
        self.way.clear();
    }

    fn descend<'p>(&mut self, path: &'p TreePath, step: Step) -> io::Result<(&Dir, &'p [u8])> {
        let (parent, name) = path.split();
        // Most come from the same directory as the one before.
        if !parent.is_empty() && *parent != *self.way {
            self.way.clear();
            let mut depth = 0;
            for component in parent.split(|&byte| byte == b'/') {
                if self.open.get(depth).is_none_or(|(known, _)| **known != *component) {
                    self.open.truncate(depth);
                    let from = self.open.last().map_or(&self.root, |(_, dir)| dir);
                    let next = step(from, component)?;
                    self.open.push((component.into(), next));
                }
                depth += 1;
            }
            self.open.truncate(depth);
            self.way.extend_from_slice(parent);
        }
        let dir = if parent.is_empty() { None } else { self.open.last() };
        Ok((dir.map_or(&self.root, |(_, dir)| dir), name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_handle_lists_its_directory_as_often_as_it_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let wanted: Vec<Vec<u8>> = (0..2000).map(|number| format!("{number:0200}").into_bytes()).collect();
        wanted.iter().for_each(|name| std::fs::write(place.path().join(str::from_utf8(name).unwrap()), "").unwrap());
        let dir = Dir::open_root(place.path()).unwrap();
        for _ in 0..2 {
            let mut names: Vec<_> = dir.names().unwrap().into_iter().map(|(name, _)| name).collect();
            names.sort();
            assert_eq!(names, wanted);
        }
    }

    #[test]
    fn no_name_leads_out_of_the_root() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("root")).unwrap();
        std::fs::create_dir(place.path().join("outside")).unwrap();
        symlink("../outside", place.path().join("root/link")).unwrap();
        symlink("/etc", place.path().join("root/etc")).unwrap();
        let root = Dir::open_root(&place.path().join("root")).unwrap();
        for name in [&b".."[..], b".", b"", b"/etc", b"a/b", b"a\0b"] {
            assert!(root.open_dir(name).is_err());
            assert!(root.ensure_dir(name).is_err());
            assert!(root.create_file(name, 0o644).is_err());
            assert!(root.remove_file(name).is_err());
        }
        let mut walker = Walker::new(root);
        for path in [&b"link/x"[..], b"etc/passwd", b"link/deep/x"] {
            let path = TreePath::parse(path).unwrap();
            assert!(is_absent(&walker.parent(&path).unwrap_err()), "{path}");
            assert!(walker.ensure_parent(&path).is_err(), "{path}");
        }
        assert_eq!(std::fs::read_dir(place.path().join("outside")).unwrap().count(), 0);
    }

    #[test]
    fn the_walker_follows_paths_in_any_order() {
        let place = tempfile::tempdir().unwrap();
        let mut walker = Walker::new(Dir::open_root(place.path()).unwrap());
        for path in ["a/b/c/f", "a/f", "a/b/f", "f", "z/y/f", "a/b/c/g"] {
            let path = TreePath::parse(path.as_bytes()).unwrap();
            let (dir, name) = walker.ensure_parent(&path).unwrap();
            dir.create_file(name, 0o644).unwrap();
            assert!(place.path().join(path.to_string()).exists());
        }
    }
}
