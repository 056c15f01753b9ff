//! Carries a [`Plan`] out. What fails half-way is taken back, and what cannot be is told.

use std::path::PathBuf;

use banger_proto::failure::Kind;

use super::check::Plan;
use super::host::Host;
use super::layout::{self, STARTED_UNITS};
use super::manifest::{self, Manifest};
use super::place::{self, Change, Undo};
use super::services::{self, systemctl};
use crate::error::CliError;

/// What a run changed.
#[derive(Debug, Default)]
pub struct Report {
    /// Directories and files that were not there.
    pub created: Vec<PathBuf>,
    /// Files that were others.
    pub replaced: Vec<PathBuf>,
    /// Services that were started or started anew.
    pub restarted: Vec<&'static str>,
    /// What was put aside and could not be removed.
    pub left_behind: Vec<String>,
}

/// Puts everything in place and starts what must start; `verify` has the last word.
///
/// # Errors
/// The first failure; everything this run did has been taken back, or is named.
pub async fn perform(
    host: &Host,
    plan: &Plan,
    verify: impl AsyncFnOnce() -> Result<(), CliError>,
) -> Result<Report, CliError> {
    let mut run = Run { host, plan, undo: Undo::default(), report: Report::default(), touched: Vec::new() };
    let outcome = match run.put_in_place().and_then(|()| run.start_services()) {
        Ok(()) => verify().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => {
            run.report.left_behind = run.undo.forget();
            Ok(run.report)
        }
        Err(error) => Err(run.take_back(error)),
    }
}

struct Run<'a> {
    host: &'a Host,
    plan: &'a Plan,
    undo: Undo,
    report: Report,
    /// Services whose state this run may have changed.
    touched: Vec<&'static str>,
}

impl Run<'_> {
    fn put_in_place(&mut self) -> Result<(), CliError> {
        let manifest = self.plan.manifest_after(self.host);
        let mut directories = self.plan.directories.iter();
        // The first holds the manifest.
        if let Some(first) = directories.next() {
            self.directory(first)?;
        }
        place::file(self.host, manifest::FILE.as_ref(), manifest.render().as_bytes(), 0o644, &mut self.undo)?;
        for directory in directories {
            self.directory(directory)?;
        }
        for wanted in &self.plan.files {
            let change = place::file(self.host, &wanted.path, &wanted.content, wanted.mode, &mut self.undo)?;
            match change {
                Change::Created => self.report.created.push(wanted.path.clone()),
                Change::Replaced => self.report.replaced.push(wanted.path.clone()),
                Change::Kept => {}
            }
        }
        Ok(())
    }

    fn directory(&mut self, wanted: &layout::Directory) -> Result<(), CliError> {
        if place::directory(self.host, wanted, &mut self.undo)? == Change::Created {
            self.report.created.push(wanted.path.into());
        }
        Ok(())
    }

    fn start_services(&mut self) -> Result<(), CliError> {
        let changed: Vec<PathBuf> = self.report.created.iter().chain(&self.report.replaced).cloned().collect();
        let restart = layout::restarts(&changed, self.plan.before.as_ref(), &self.plan.install);
        if changed.iter().any(|path| path.starts_with(layout::UNIT_DIRECTORY)) {
            systemctl(self.host, &["daemon-reload"], &[])?;
        }
        for unit in STARTED_UNITS {
            let found = services::observe(self.host, unit);
            if found.is_enabled && found.state == "active" && !restart.contains(&unit) {
                continue;
            }
            self.touched.push(unit);
            // Failures of before must not count against the limit of starts.
            let _ = systemctl(self.host, &["reset-failed"], &[unit]);
            systemctl(self.host, &["enable", "--quiet"], &[unit])?;
            systemctl(self.host, &["restart"], &[unit])?;
            self.report.restarted.push(unit);
        }
        Ok(())
    }

    fn take_back(self, error: CliError) -> CliError {
        let mut left = Vec::new();
        let mut collect = |result: Result<(), services::ServiceError>| {
            if let Err(error) = result {
                left.push(format!(
                    "{error}: {}",
                    std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
                ));
            }
        };
        // What this run brought has no former state to go back to.
        let is_new = |unit: &&str| self.report.created.contains(&layout::unit_path(unit));
        let (new, known): (Vec<&str>, Vec<&str>) = self.touched.iter().copied().partition(is_new);
        if !new.is_empty() {
            collect(systemctl(self.host, &["disable", "--now", "--quiet"], &new));
        }
        let mut left_files = self.undo.take_back();
        if !self.report.created.is_empty() || !self.report.replaced.is_empty() {
            collect(systemctl(self.host, &["daemon-reload"], &[]));
        }
        if !known.is_empty() {
            let _ = systemctl(self.host, &["reset-failed"], &known);
            collect(systemctl(self.host, &["restart"], &known));
        }
        left.append(&mut left_files);
        let end = if left.is_empty() {
            "what this run did has been taken back"
        } else {
            "not all of what this run did could be taken back"
        };
        error.map(|mut failure| {
            failure.left_behind.append(&mut left);
            failure.context(format!("cannot install banger; {end}"))
        })
    }
}

/// The installed daemon answers, in the right mode and of this build.
///
/// # Errors
/// It does not.
pub async fn verify(plan: &Plan) -> Result<(), CliError> {
    let client = crate::client::installed::require(&plan.install).await?;
    let daemon = client.daemon();
    if daemon.mode != "system" || daemon.uid != plan.install.owner.uid {
        let message = format!("bangerd answers in {} mode as uid {}", daemon.mode, daemon.uid);
        return Err(
            CliError::new(Kind::Failed, message).hint("See its log with `journalctl -u bangerd.service -n 50`.")
        );
    }
    match crate::client::installed::differs(daemon) {
        None => Ok(()),
        Some(other) => Err(CliError::new(Kind::Failed, other)),
    }
}

/// Writes what is left of the list after an uninstall.
///
/// # Errors
/// It cannot be written.
pub fn write_manifest(host: &Host, manifest: &Manifest) -> Result<(), CliError> {
    let mut undo = Undo::default();
    place::file(host, manifest::FILE.as_ref(), manifest.render().as_bytes(), 0o644, &mut undo)?;
    let _ = undo.forget();
    Ok(())
}
