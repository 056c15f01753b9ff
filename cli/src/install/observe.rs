//! The installation as it is now: services, programs, VMs. Needs no root; what cannot be seen is left out.

use std::path::Path;

use banger_proto::install::{COMMAND, Install, PROGRAM_DIRECTORY};

use super::host::Host;
use super::layout::STARTED_UNITS;
use super::manifest::{self, Entry, Found, Manifest};
use super::program;
use super::services::{self, Observed};

/// The programs, as they are listed.
const PROGRAMS: [&str; 6] = ["bangerd", "bangerd-root", "banger-guest", "banger-build", "firecracker", "jailer"];

/// One installed program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// What it says of itself; none if it does not.
    pub version: Option<String>,
}

/// All that is known.
#[derive(Debug, Clone)]
pub struct State {
    /// The metadata.
    pub install: Install,
    /// What systemd keeps running, by unit.
    pub services: Vec<(&'static str, Observed)>,
    /// The programs on disk.
    pub programs: Vec<Installed>,
    /// Files that are not as they were installed.
    pub changed: Vec<String>,
}

/// Looks.
pub fn observe(host: &Host, install: Install) -> State {
    let services = STARTED_UNITS.map(|unit| (unit, services::observe(host, unit)));
    let directory = Path::new(PROGRAM_DIRECTORY);
    let paths = PROGRAMS.iter().map(|name| directory.join(name)).chain([COMMAND.into()]);
    let programs = paths.map(|path| Installed {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        version: program::first_line(&host.at(&path)).ok(),
    });
    State { install, services: services.into(), programs: programs.collect(), changed: changed_files(host) }
}

/// Files that are missing or not as they were installed.
pub fn changed_files(host: &Host) -> Vec<String> {
    let manifest = Manifest::load(host).unwrap_or_default();
    let files = manifest.entries.iter().filter_map(|entry| match entry {
        Entry::File { path, sha256 } => Some((path, sha256)),
        Entry::Directory { .. } => None,
    });
    files
        .filter(|(path, sha256)| !matches!(manifest::compare(host, path, sha256), Ok(Found::Intact)))
        .map(|(path, _)| path.display().to_string())
        .collect()
}

impl State {
    /// All of it runs.
    pub fn is_up(&self) -> bool {
        self.services.iter().all(|(_, observed)| observed.state == "active")
    }
}
