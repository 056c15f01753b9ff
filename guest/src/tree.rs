//! A directory handle whose methods take paths beneath it and resolve links inside it only.
//!
//! The seed is written through this, into an image nobody trusts: a link in the image may lead
//! elsewhere in the image ([`Links::InRoot`]) or nowhere at all ([`Links::Refused`]), never out.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

/// What happens to symbolic links on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Resolved as if the handle were `/`.
    InRoot,
    /// Refused.
    Refused,
}

/// An open directory.
#[derive(Debug)]
pub struct Tree {
    directory: OwnedFd,
    links: Links,
}

/// What [`Tree::write`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The file has new content or mode.
    Changed,
    /// It was so already.
    Same,
}

impl Tree {
    /// Opens `path`.
    ///
    /// # Errors
    /// What open says.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: rustix::fs::open(path, flags, Mode::empty())?, links })
    }

    /// Takes an open directory.
    ///
    /// # Errors
    /// That it is none.
    pub fn from_directory(directory: OwnedFd, links: Links) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&directory)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Self { directory, links }),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes the directory itself root's, with `mode`, where it is not.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn own_by_root(&self, mode: u32) -> io::Result<()> {
        let stat = rustix::fs::fstat(&self.directory)?;
        if (stat.st_uid, stat.st_gid) != (0, 0) && rustix::process::geteuid().is_root() {
            let root = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
            rustix::fs::fchown(&self.directory, Some(root.0), Some(root.1))?;
        }
        if stat.st_mode & 0o7777 != mode {
            rustix::fs::fchmod(&self.directory, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// The content, or `None` if there is no such file.
    ///
    /// # Errors
    /// Anything but absence.
    pub fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.resolve(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => {
                let mut content = Vec::new();
                std::fs::File::from(file).read_to_end(&mut content)?;
                Ok(Some(content))
            }
            Err(error) if error == rustix::io::Errno::NOENT => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// True if `path` leads to something, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.resolve(Path::new(path), OFlags::PATH).is_ok()
    }

    /// The type of `path` itself, its last link not followed; `None` if absent.
    pub fn kind(&self, path: &str) -> Option<FileType> {
        let (parent, name) = self.parent(Path::new(path), None).ok()?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    /// Makes `path` and its parents, all with `mode` where they are new, and sets `mode` on the last.
    ///
    /// # Errors
    /// What mkdir says.
    pub fn ensure_directory(&self, path: &str, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(Path::new(path), Some(mode))?;
        make_directory(&parent, name, mode)?;
        let made = self.resolve(Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let held = rustix::fs::fstat(&made)?.st_mode & 0o7777;
        if held != mode {
            rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// Puts `content` at `path` with exactly `mode`, atomically; a link there is replaced, not followed.
    /// Missing parents are made with 0755.
    ///
    /// # Errors
    /// What the filesystem says; the old file is intact then.
    pub fn write(&self, path: impl AsRef<Path>, mode: u32, content: &[u8]) -> io::Result<Written> {
        let (parent, name) = self.parent(path.as_ref(), Some(0o755))?;
        if holds(&parent, name, mode, content) {
            return Ok(Written::Same);
        }
        let temporary = format!(".banger-{}-{name}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        let file = rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        let written = file
            .write_all(content)
            .and_then(|()| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?))
            .and_then(|()| Ok(rustix::fs::renameat(&parent, &temporary, &parent, name)?));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        }
        written.map(|()| Written::Changed)
    }

    /// Puts a link at `path`, replacing a file or link.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = self.parent(Path::new(path), Some(0o755))?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(rustix::fs::symlinkat(target, &parent, name)?)
    }

    /// Opens the directory at `path`, making it and its parents where they are missing.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn ensure_open_directory(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(Path::new(path), Some(0o755))?;
        make_directory(&parent, name, mode)?;
        Ok(self.resolve(Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// Names in the directory itself.
    ///
    /// # Errors
    /// What readdir says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.strip_prefix("/").unwrap_or(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let confined = match self.links {
            Links::InRoot => ResolveFlags::IN_ROOT,
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let confined = confined | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), confined)
    }

    /// The open parent of `path` and its last name; missing parents are made if `mode` is given.
    fn parent<'a>(&self, path: &'a Path, mode: Option<u32>) -> io::Result<(OwnedFd, &'a str)> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
        if !path.components().all(|part| plain(&part)) {
            return Err(invalid("the path is not plain"));
        }
        let name = path.file_name().ok_or_else(|| invalid("the path names no file"))?;
        let name = name.to_str().ok_or_else(|| invalid("the file name is not UTF-8"))?;
        let above = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if let Some(mode) = mode
            && self.resolve(above, flags).is_err()
        {
            let mut so_far = std::path::PathBuf::new();
            for part in above.strip_prefix("/").unwrap_or(above).components() {
                let inside = self.resolve(&so_far, flags)?;
                so_far.push(part);
                make_directory(&inside, &part.as_os_str().to_string_lossy(), mode)?;
            }
        }
        Ok((self.resolve(above, flags)?, name))
    }
}

fn make_directory(parent: &OwnedFd, name: &str, mode: u32) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Rewriting equal content would copy blocks into the VM's overlay for nothing.
fn holds(parent: &OwnedFd, name: &str, mode: u32, content: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(parent, name, flags, Mode::empty()) else { return false };
    let Ok(stat) = rustix::fs::fstat(file.as_fd()) else { return false };
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || stat.st_mode & 0o7777 != mode || usize::try_from(stat.st_size) != Ok(content.len()) {
        return false;
    }
    let mut held = Vec::with_capacity(content.len());
    std::fs::File::from(file).read_to_end(&mut held).is_ok() && held == content
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_link_out_of_the_tree_is_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink(outside.path().join("file"), inside.path().join("file")).unwrap();
        for links in [Links::Refused, Links::InRoot] {
            let tree = Tree::open(inside.path(), links).unwrap();
            let _ = tree.write("out/file", 0o644, b"x");
            assert!(tree.write("../file", 0o644, b"x").is_err());
            tree.write("file", 0o600, b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(std::fs::read(inside.path().join("file")).unwrap(), b"x");
    }

    #[test]
    fn equal_content_and_mode_are_left_alone_and_a_wrong_mode_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(directory.path(), Links::InRoot).unwrap();
        assert_eq!(tree.write("a/b/c", 0o600, b"1").unwrap(), Written::Changed);
        assert_eq!(tree.write("a/b/c", 0o600, b"1").unwrap(), Written::Same);
        assert_eq!(tree.write("/a/b/c", 0o640, b"1").unwrap(), Written::Changed);
        let mode = std::fs::metadata(directory.path().join("a/b/c")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(std::fs::read_dir(directory.path().join("a/b")).unwrap().count(), 1, "no temporary file is left");
    }
}
