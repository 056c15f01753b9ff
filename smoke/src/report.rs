//! What a run found: `target/smoke/report.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// How a scenario ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not, or could not be tried.
    Failed,
    /// It says itself why it cannot be tried here.
    Skipped,
}

/// One scenario that ran, or should have.
#[derive(Debug, Clone, Serialize)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub claim: String,
    /// As whom.
    #[serde(rename = "as")]
    pub user: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed or was skipped.
    pub reason: Option<String>,
    /// What it printed as `measure: NAME NUMBER`.
    pub measurements: BTreeMap<String, f64>,
    /// Its log.
    pub log: PathBuf,
}

/// The host a run used.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// kvm, tcg or here.
    pub accelerator: &'static str,
    /// Power-on until sshd greets.
    pub ssh_seconds: Option<f64>,
    /// Power-on until systemd has nothing left to start.
    pub running_seconds: Option<f64>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran; none if the host did not come up.
    pub host: Option<Host>,
    /// The scenarios that were tried once more, and which emulated kernel had panicked.
    pub deaths: Vec<String>,
    /// In the order they ran.
    pub scenarios: Vec<Ran>,
}

impl Report {
    /// True if nothing failed, and something was tried.
    pub fn is_good(&self) -> bool {
        !self.scenarios.is_empty() && self.scenarios.iter().all(|ran| ran.outcome != Outcome::Failed)
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a report has only string keys");
        fs::write(path, text + "\n").map_err(Error::file("write", path))
    }

    /// Writes every number that the scenarios of this run measured, and on what kind of host.
    pub fn write_measurements(&self, path: &Path) -> Result<()> {
        let numbers: BTreeMap<_, _> = self.scenarios.iter().flat_map(|ran| &ran.measurements).collect();
        let accelerator = self.host.as_ref().map(|host| host.accelerator);
        let text = serde_json::json!({ "accelerator": accelerator, "measurements": numbers });
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(Error::file("make", directory))?;
        }
        fs::write(path, format!("{text:#}\n")).map_err(Error::file("write", path))
    }
}

/// The numbers a log reports.
pub fn measurements(log: &str) -> BTreeMap<String, f64> {
    log.lines()
        .filter_map(|line| line.strip_prefix("measure: ")?.split_once(' '))
        .filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_a_log() {
        let found = measurements("hello\nmeasure: boot_seconds 3.5\nmeasure: broken x\n measure: no 1\n");
        assert_eq!(found, BTreeMap::from([("boot_seconds".to_owned(), 3.5)]));
    }
}
