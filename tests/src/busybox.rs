//! Images made of nothing but the host's static BusyBox and a few files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::env::Env;
use crate::registry::write_layout;

/// A root directory in the making. Everything in it is root's in the image, unless said otherwise.
#[derive(Debug)]
pub struct Root<'e> {
    env: &'e Env,
    path: PathBuf,
    /// `tar` arguments for one owner each, and their paths.
    owned: std::cell::RefCell<Vec<(String, u32, u32)>>,
}

impl<'e> Root<'e> {
    /// With BusyBox and these applets of it in /bin; `None`, with a word about it, without a static BusyBox.
    ///
    /// # Panics
    /// If the files cannot be written.
    pub fn new(env: &'e Env, name: &str, applets: &[&str]) -> Option<Self> {
        let program = std::fs::read("/bin/busybox").ok().filter(|bytes| is_static(bytes));
        let Some(program) = program else {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: there is no static /bin/busybox\n");
            return None;
        };
        let path = directory(env).join(format!("root-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        env.ensure_directory(&path.join("bin"));
        let root = Self { env, path, owned: std::cell::RefCell::default() };
        root.write("bin/busybox", program);
        root.set_mode("bin/busybox", 0o755);
        for applet in applets {
            std::fs::hard_link(root.at("bin/busybox"), root.at(&format!("bin/{applet}"))).expect("our own directory");
        }
        Some(root)
    }

    /// A path in it, on this host.
    pub fn at(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Writes a file; its directories are made.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.at(path);
        self.env.ensure_directory(at.parent().expect("below the root"));
        std::fs::write(&at, content).expect("our own directory");
    }

    /// Sets the permissions of a file.
    ///
    /// # Panics
    /// If it is not there.
    pub fn set_mode(&self, path: &str, mode: u32) {
        std::fs::set_permissions(self.at(path), PermissionsExt::from_mode(mode)).expect("our own file");
    }

    /// Gives a path, with what is below it, to somebody in the image.
    pub fn own(&self, path: &str, uid: u32, gid: u32) {
        self.owned.borrow_mut().push((path.to_owned(), uid, gid));
    }

    /// An OCI layout of it with the tag `it`, readable by the environment's account.
    ///
    /// # Panics
    /// If a tool fails.
    pub fn layout(&self, config: &Value) -> PathBuf {
        let tar = self.path.with_extension("tar");
        self.pack(&tar, &["-cf"], (0, 0), ".");
        for (path, uid, gid) in self.owned.borrow().iter() {
            // What comes later in a layer counts.
            self.pack(&tar, &["-rf"], (*uid, *gid), path);
        }
        let layout = self.path.with_extension("layout");
        let _ = std::fs::remove_dir_all(&layout);
        write_layout(&layout, &tar, config);
        own(self.env, &layout);
        layout
    }

    fn pack(&self, tar: &Path, how: &[&str], (uid, gid): (u32, u32), path: &str) {
        let status = Command::new("tar")
            .args([format!("--owner={uid}"), format!("--group={gid}")])
            .args(["--numeric-owner", "--sort=name", "-C"])
            .arg(&self.path)
            .args(how)
            .arg(tar)
            .arg(path)
            .status()
            .expect("tar runs");
        assert!(status.success());
    }
}

/// Where files of images are put together. Not the environment's tmp: what is left there is counted.
pub fn directory(env: &Env) -> PathBuf {
    let path = env.path().join("made");
    env.ensure_directory(&path);
    path
}

/// No program header of an ELF file asks for a loader. (Its text may name one: static glibc can still dlopen.)
fn is_static(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = elf.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let headers = || -> Option<Vec<u64>> {
        let (offset, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        (0..count).map(|index| number(usize::try_from(offset + index * size).ok()?, 4)).collect()
    };
    elf.starts_with(b"\x7fELF") && headers().is_some_and(|kinds| !kinds.contains(&u64::from(INTERPRETER)))
}

/// Gives a path, with what is below it, to the environment's account.
///
/// # Panics
/// If it cannot be listed.
pub fn own(env: &Env, path: &Path) {
    env.account().own(path);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("our own directory").flatten() {
            own(env, &entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_static;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        // What runs this test is linked dynamically.
        let dynamic = std::fs::read("/proc/self/exe").expect("our own program");
        assert!(!is_static(&dynamic));
        assert!(!is_static(b"#!/bin/sh") && !is_static(b"\x7fELF"));
        // Distributions that have one have it static: the tests' images depend on it.
        if let Ok(busybox) = std::fs::read("/bin/busybox") {
            let loader = std::process::Command::new("readelf").args(["-l", "/bin/busybox"]).output();
            let Ok(loader) = loader else { return };
            assert_eq!(is_static(&busybox), !String::from_utf8_lossy(&loader.stdout).contains("INTERP"));
        }
    }
}
