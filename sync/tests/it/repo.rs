//! A repository in a temporary directory, driven by the git program: the oracle of these tests.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Owns its directory.
pub struct Repo {
    pub place: tempfile::TempDir,
    pub root: PathBuf,
}

/// Runs git and returns its output, which must be a success.
pub fn git_in(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = git_command(dir).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?} in {}: {}{}",
        dir.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

pub fn git_command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(dir)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com");
    command
}

impl Repo {
    /// Fresh, on branch main, nothing in it.
    pub fn empty() -> Self {
        Self::empty_in(tempfile::tempdir().unwrap())
    }

    fn empty_in(place: tempfile::TempDir) -> Self {
        let root = place.path().join("repo");
        std::fs::create_dir(&root).unwrap();
        let repo = Self { place, root };
        repo.git(&["init", "-q", "-b", "main"]);
        repo.git(&["config", "user.name", "Ada"]);
        repo.git(&["config", "user.email", "ada@example.com"]);
        // Another process after every commit, which finds nothing to do.
        repo.git(&["config", "maintenance.auto", "false"]);
        repo
    }

    /// With two commits and a few files.
    pub fn new() -> Self {
        Self::new_in(tempfile::tempdir().unwrap())
    }

    /// In memory, where that is to be had: a disk's filesystem takes longer over thousands of them than git does.
    pub fn new_in_memory() -> Self {
        Self::new_in(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn new_in(place: tempfile::TempDir) -> Self {
        let repo = Self::empty_in(place);
        repo.write("README.md", b"hello\n");
        repo.write("src/main.c", b"int main(void) { return 0; }\n");
        repo.write("src/deep/er/file.txt", b"deep\n");
        repo.write("run.sh", b"#!/bin/sh\necho hi\n");
        repo.chmod("run.sh", 0o755);
        std::os::unix::fs::symlink("src/main.c", repo.path("link")).unwrap();
        repo.write(".gitignore", b"*.o\n/build/\n");
        repo.commit("first");
        repo.write("README.md", b"hello again\n");
        repo.commit("second");
        repo
    }

    pub fn git(&self, arguments: &[&str]) -> Vec<u8> {
        git_in(&self.root, arguments)
    }

    pub fn text(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.git(arguments)).unwrap().trim_end().to_owned()
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    pub fn path(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.root.join(path.as_ref())
    }

    pub fn write(&self, path: impl AsRef<OsStr>, content: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    pub fn chmod(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What git says belongs to the tree: tracked and there, and untracked but not ignored.
    pub fn expected_paths(&self) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        let tracked = split(&self.git(&["ls-files", "-z", "--cached"])).filter(|path| self.is_carried(path)).collect();
        // `-c core.sparseCheckout` does not matter here: the oracle lists what is on disk.
        let untracked = split(&self.git(&["ls-files", "-z", "--others", "--exclude-standard"]))
            .filter(|path| !path.ends_with(b"/") && self.is_carried(path))
            .collect();
        (tracked, untracked)
    }

    /// A file or link, reached without following a link.
    fn is_carried(&self, path: &[u8]) -> bool {
        let mut here = self.root.clone();
        let mut components = path.split(|&byte| byte == b'/').peekable();
        while let Some(component) = components.next() {
            here.push(OsStr::from_bytes(component));
            let Ok(metadata) = here.symlink_metadata() else { return false };
            let last = components.peek().is_none();
            if metadata.is_dir() == last {
                return false;
            }
        }
        true
    }
}

pub fn split(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty()).map(<[u8]>::to_vec)
}
