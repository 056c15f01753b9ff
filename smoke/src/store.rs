//! A kernel and an image of banger's own stores, made by the product on this machine: by the test suite, which keeps
//! them in `target/test-artifacts/<uid>/<key>`, or else by us, in `target/smoke/state/<key>/banger`.
//!
//! The host under test has no way to the internet, so they are pulled out here and carried in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::bounded;
use crate::digest;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::ui;

/// The default kernel.
pub const KERNEL: &str = "generic-6.12";
/// The one that is compiled.
pub const MICROVM_KERNEL: &str = "microvm-6.12";
/// The default image.
pub const IMAGE: &str = "debian-bookworm";
/// A bootstrap of a whole distribution, on a slow machine with a slow mirror.
const LIMIT: Duration = Duration::from_secs(1200);
/// A bootstrap and a compilation.
const COMPILE_LIMIT: Duration = Duration::from_secs(3600);

/// What is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `banger kernel pull`.
    Kernel,
    /// `banger kernel pull` of the one that is compiled.
    MicrovmKernel,
    /// `banger image pull`.
    Image,
}

impl Kind {
    /// The product's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel | Self::MicrovmKernel => "kernel",
            Self::Image => "image",
        }
    }

    /// Its directory in a state directory.
    pub fn shelf(self) -> &'static str {
        match self {
            Self::Kernel | Self::MicrovmKernel => "kernels",
            Self::Image => "images",
        }
    }

    fn limit(self) -> Duration {
        if self == Self::MicrovmKernel { COMPILE_LIMIT } else { LIMIT }
    }

    /// The one that is used.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Kernel => KERNEL,
            Self::MicrovmKernel => MICROVM_KERNEL,
            Self::Image => IMAGE,
        }
    }
}

/// Sixteen digits that change with the sources that make kernels and images, in the checkout at `workspace`.
pub fn key(workspace: &Path) -> Result<String> {
    let sources = ["artifact", "artifact.rs", "catalog", "catalog.rs", "image", "image.rs", "kernel", "kernel.rs"];
    digest::key(&sources.map(|part| workspace.join("daemon/src").join(part)))
}

/// The directory of the default one, pulled the first time.
pub fn ensure(layout: &Layout, kind: Kind) -> Result<PathBuf> {
    let key = key(&layout.source(""))?;
    // Whoever ran the tests last; a store of another user cannot be read, and then it is as if it were not there.
    let suites = fs::read_dir(layout.test_artifacts()).into_iter().flatten().filter_map(std::result::Result::ok);
    if let Some(found) = suites.filter_map(|user| find(&user.path().join(&key), kind).ok()).next() {
        return Ok(found);
    }
    let home = layout.cache("state").join(key);
    let state = home.join("banger");
    if find(&state, kind).is_err() {
        ui::step(&format!("pulling the {} {} (once)", kind.word(), kind.default_name()));
        pull(layout, kind, &home)?;
    }
    find(&state, kind)
}

/// The directory of the default one in a state directory: `kernels/NAME`, or the newest `kernels/NAME@BUILD`.
pub fn find(state: &Path, kind: Kind) -> Result<PathBuf> {
    let (shelf, name) = (state.join(kind.shelf()), kind.default_name());
    let builds = format!("{name}@");
    let entries = fs::read_dir(&shelf).into_iter().flatten().filter_map(std::result::Result::ok);
    let found = entries.filter(|entry| {
        let directory = entry.file_name().to_string_lossy().into_owned();
        (directory == name || directory.starts_with(&builds)) && entry.path().join("manifest.json").is_file()
    });
    // Builds are named so that the newest sorts last.
    found.map(|entry| entry.path()).max().ok_or(Error::NotInStore { name, shelf })
}

fn pull(layout: &Layout, kind: Kind, home: &Path) -> Result<()> {
    for directory in [home, &home.join("home")] {
        fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
    }
    // In /tmp: a socket's path must fit 108 bytes.
    let runtime = tempfile::Builder::new().prefix("smoke-").tempdir_in("/tmp");
    let runtime = Runtime(runtime.map_err(Error::file("make a directory in", "/tmp"))?);
    let mut command = bounded::command(layout.program("banger"), kind.limit());
    command.args([kind.word(), "pull", kind.default_name()]);
    runtime.environment(&mut command, home);
    let log = layout.logs().join(format!("{}-pull.log", kind.default_name()));
    bounded::succeed(&format!("`banger {} pull {}`", kind.word(), kind.default_name()), &mut command, &log)
}

/// The runtime directory of a product started for a pull. Dropped, the daemon that came with it is told to end.
struct Runtime(TempDir);

impl Runtime {
    fn environment(&self, command: &mut Command, home: &Path) {
        command.env_clear().env("BANGER_MODE", "rootless");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.env("HOME", home.join("home")).env("XDG_STATE_HOME", home).env("XDG_RUNTIME_DIR", self.0.path());
        command.env("XDG_CACHE_HOME", home.join("home/.cache")).env("XDG_CONFIG_HOME", home.join("home/.config"));
    }

    /// Processes that were started with this runtime directory.
    fn processes(&self) -> Vec<Pid> {
        let mark = format!("XDG_RUNTIME_DIR={}", self.0.path().display());
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(std::result::Result::ok);
        entries
            .filter(|entry| {
                let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
                environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
            })
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for process in self.processes() {
            // It may have ended meanwhile, which is what is wanted.
            let _ = kill_process(process, Signal::TERM);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_finished_build_is_found() {
        let state = tempfile::tempdir().unwrap();
        assert!(find(state.path(), Kind::Kernel).is_err());
        for (name, finished) in [("@01", true), ("@02", true), ("@03", false), ("-cloud@09", true)] {
            let directory = state.path().join(format!("kernels/{KERNEL}{name}"));
            fs::create_dir_all(&directory).unwrap();
            if finished {
                fs::write(directory.join("manifest.json"), "{}").unwrap();
            }
        }
        assert!(find(state.path(), Kind::Kernel).unwrap().ends_with(format!("{KERNEL}@02")));
    }
}
