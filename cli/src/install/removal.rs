//! Takes banger away: exactly what the manifest lists and still looks like that. [`Removal::decide`] looks and lists,
//! [`perform`] does it; every failure is told, and none stops the rest.

use std::io;
use std::path::{Path, PathBuf};

use banger_proto::install::{
    HELPER_RUNTIME_DIRECTORY, HELPER_STATE_DIRECTORY, INSTALL_FILE, Install, PROGRAM_DIRECTORY, RUNTIME_DIRECTORY,
    STATE_DIRECTORY,
};
use serde::Serialize;

use super::host::{Host, run};
use super::layout::{DATA, STARTED_UNITS};
use super::manifest::{self, Entry, Found, Manifest};
use super::services::{self, systemctl};
use super::vms;
use crate::error::CliError;

/// Whether data goes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Programs, units and metadata; VMs are stopped and keep their disks.
    Programs,
    /// VMs, images and kernels as well.
    Everything,
}

/// What happens to one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// "remove", "keep", "stop".
    pub action: &'static str,
    /// What it is: a path, a service, a VM.
    pub what: String,
    /// Why it is kept.
    pub reason: Option<&'static str>,
}

/// Everything an uninstall will do.
#[derive(Debug)]
pub struct Removal {
    extent: Extent,
    /// What was installed, if the metadata can be read.
    pub install: Option<Install>,
    manifest: Manifest,
    /// All that is told before.
    pub items: Vec<Item>,
}

/// What [`STATE_DIRECTORY`] and its siblings hold of ours. Anything else in them was put there by somebody.
const OURS: [(&str, &[&str]); 3] = [
    (
        STATE_DIRECTORY,
        &["images", "kernels", "vms", "bangerd.db", "bangerd.db-shm", "bangerd.db-wal", "bangerd.lock", "bangerd.log"],
    ),
    (banger_proto::install::CACHE_DIRECTORY, &[]),
    (HELPER_STATE_DIRECTORY, &["ledger", "cow", "jail"]),
];

impl Removal {
    /// Looks at what there is; `None` if there is nothing.
    ///
    /// # Errors
    /// The manifest cannot be used, or a file cannot be read.
    pub fn decide(host: &Host, extent: Extent) -> Result<Option<Self>, CliError> {
        let manifest = Manifest::load(host)?;
        if manifest.entries.is_empty() {
            return Ok(None);
        }
        // Metadata that is broken must not be in the way of its removal.
        let install = Install::load_from(&host.at(INSTALL_FILE)).ok().flatten();
        let mut items = Vec::new();
        let mut item = |action, what: String, reason| items.push(Item { action, what, reason });
        for unit in STARTED_UNITS.into_iter().rev() {
            if matches!(services::observe(host, unit).state.as_str(), "active" | "activating" | "reloading") {
                item("stop", unit.to_owned(), None);
            }
        }
        let action = if extent == Extent::Everything { "remove" } else { "keep" };
        for vm in vms::on_disk(host) {
            item(action, format!("VM {vm}"), None);
        }
        for entry in &manifest.entries {
            let path = entry.path().display().to_string();
            match entry {
                Entry::File { path: at, sha256 } => match look(host, at, sha256)? {
                    Found::Intact => item("remove", path, None),
                    Found::Changed => item("keep", path, Some("it is not what was installed any more")),
                    Found::Missing => {}
                },
                Entry::Directory { path: at } if DATA.iter().any(|data| at == Path::new(data)) => {
                    if host.at(at).is_dir() {
                        item(action, path, if extent == Extent::Programs { Some("data") } else { None });
                    }
                }
                Entry::Directory { path: at } => {
                    if host.at(at).is_dir() {
                        item("remove", path, None);
                    }
                }
            }
        }
        for path in strangers(host, &manifest, extent) {
            item("keep", path.display().to_string(), Some("it was not put there by banger"));
        }
        Ok(Some(Self { extent, install, manifest, items }))
    }
}

fn look(host: &Host, path: &Path, sha256: &str) -> Result<Found, CliError> {
    let found = manifest::compare(host, path, sha256);
    Ok(found.map_err(|source| super::check::UnreadableError { path: path.to_owned(), source })?)
}

/// What lies in directories of ours and is not.
fn strangers(host: &Host, manifest: &Manifest, extent: Extent) -> Vec<PathBuf> {
    let ours = OURS.iter().filter(|(_, names)| extent == Extent::Everything && !names.is_empty());
    let in_data = ours.flat_map(|(directory, names)| {
        children(host, directory).into_iter().filter(move |path| !names.iter().any(|name| path.ends_with(name)))
    });
    let plain = [PROGRAM_DIRECTORY, banger_proto::install::CONFIG_DIRECTORY];
    let in_plain = plain.iter().flat_map(|directory| children(host, directory));
    let known = |path: &PathBuf| manifest.has(path) || path == Path::new(manifest::FILE);
    let mut all: Vec<PathBuf> = in_data.chain(in_plain.filter(|path| !known(path))).collect();
    all.sort();
    all
}

fn children(host: &Host, directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(host.at(directory)).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| Path::new(directory).join(entry.file_name())).collect()
}

/// What happened.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One line each.
    pub removed: Vec<String>,
    /// What could not be, and why.
    pub failed: Vec<String>,
}

impl Outcome {
    fn note<E: std::fmt::Display>(&mut self, what: String, result: Result<(), E>) {
        match result {
            Ok(()) => self.removed.push(what),
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// Stops the services and takes everything away that was listed. VMs have been stopped, or deleted, before.
pub fn perform(host: &Host, removal: &Removal) -> Outcome {
    let mut outcome = Outcome::default();
    for unit in STARTED_UNITS.into_iter().rev() {
        let stopped = systemctl(host, &["disable", "--now", "--quiet"], &[unit]);
        if services::observe(host, unit).state != "unknown" {
            outcome.note(format!("service {unit}"), stopped.map_err(|error| flat(&error)));
        }
    }
    release_kernel_objects(host, removal, &mut outcome);
    let mut left = Manifest::default();
    for entry in removal.manifest.entries.iter().rev() {
        if remove(host, removal.extent, entry, &mut outcome) == Fate::Listed {
            left.entries.insert(0, entry.clone());
        }
    }
    outcome.note(
        "systemd's view of the units".to_owned(),
        systemctl(host, &["daemon-reload"], &[]).map_err(|error| flat(&error)),
    );
    // Else a failed unit stays in systemd's list although its file is gone.
    let _ = systemctl(host, &["reset-failed"], &STARTED_UNITS);
    for directory in [RUNTIME_DIRECTORY, HELPER_RUNTIME_DIRECTORY] {
        if host.at(directory).exists() {
            outcome.note(directory.to_owned(), std::fs::remove_dir_all(host.at(directory)));
        }
    }
    keep_config_listed(&removal.manifest, &mut left);
    finish(host, &removal.manifest, &left, &mut outcome);
    outcome
}

/// Links, rules, disks: what only the helper knows. It is asked before its own file goes.
fn release_kernel_objects(host: &Host, removal: &Removal, outcome: &mut Outcome) {
    let helper = host.at(format!("{PROGRAM_DIRECTORY}/bangerd-root"));
    if !helper.is_file() || removal.install.is_none() {
        return;
    }
    let verb = match removal.extent {
        Extent::Everything => "teardown-all",
        Extent::Programs => "remove-network",
    };
    match run(std::process::Command::new(&helper).arg(verb), &format!("bangerd-root {verb}")) {
        Ok(text) => outcome.removed.extend(text.lines().map(|line| line.trim_start_matches("removed ").to_owned())),
        Err(error) => outcome.failed.push(format!("what the helper has in the kernel: {error}")),
    }
}

/// What becomes of an entry of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not there any more.
    Gone,
    /// There, and from now on somebody else's: it was changed, or holds what we did not put there.
    Released,
    /// There and still ours: data that is kept, or something that could not be removed.
    Listed,
}

fn remove(host: &Host, extent: Extent, entry: &Entry, outcome: &mut Outcome) -> Fate {
    let path = host.at(entry.path());
    let name = entry.path().display().to_string();
    let result = match entry {
        Entry::File { path: at, sha256 } => match manifest::compare(host, at, sha256) {
            Ok(Found::Intact) => std::fs::remove_file(&path),
            Ok(Found::Missing) => return Fate::Gone,
            Ok(Found::Changed) => return Fate::Released,
            Err(error) => Err(error),
        },
        Entry::Directory { path: at } => match OURS.iter().find(|(data, _)| at == Path::new(data)) {
            Some(_) if extent == Extent::Programs => return Fate::Listed,
            Some((_, names)) => remove_data(&path, names),
            None => match std::fs::remove_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Gone,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Fate::Released,
                other => other,
            },
        },
    };
    let fate = if result.is_ok() { Fate::Gone } else { Fate::Listed };
    outcome.note(name, result);
    fate
}

/// What is ours in it, and then itself unless something else is there. No names: all of it is ours.
fn remove_data(path: &Path, names: &[&str]) -> io::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    if names.is_empty() {
        return std::fs::remove_dir_all(path);
    }
    for name in names {
        let child = path.join(name);
        let removed = match child.symlink_metadata() {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&child),
            Ok(_) => std::fs::remove_file(&child),
            Err(_) => Ok(()),
        };
        removed.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", child.display())))?;
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}

/// The directory of the manifest is removed with it, now or by a later run.
fn keep_config_listed(before: &Manifest, left: &mut Manifest) {
    let config = Path::new(banger_proto::install::CONFIG_DIRECTORY);
    if !left.entries.is_empty() && before.has(config) {
        left.note(Entry::Directory { path: config.to_owned() });
    }
}

/// The manifest goes last; what is still ours stays listed in it.
fn finish(host: &Host, before: &Manifest, left: &Manifest, outcome: &mut Outcome) {
    if !left.entries.is_empty() {
        if let Err(CliError::Failed(failure)) = super::perform::write_manifest(host, left) {
            outcome.failed.push(failure.to_string());
        }
        return;
    }
    outcome.note(manifest::FILE.to_owned(), std::fs::remove_file(host.at(manifest::FILE)));
    let config = Path::new(banger_proto::install::CONFIG_DIRECTORY);
    // Now that the manifest is gone it may be empty.
    if before.has(config) && std::fs::remove_dir(host.at(config)).is_ok() {
        outcome.removed.push(config.display().to_string());
    }
}

fn flat(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
