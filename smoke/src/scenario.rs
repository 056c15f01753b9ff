//! Scenarios: shell scripts whose header says what they claim, as whom they run and what they need.
//!
//! ```text
//! # claim: a stopped VM keeps its files            required, one sentence
//! # as: dev                                        required: dev or root
//! # needs: kernel image programs peer              what must be in the payload (default: nothing)
//! # stage: daily                                   host, install, daily, faults or uninstall (default: daily)
//! # reboot: yes                                    once before a reboot of the host and once after it (default: no)
//! # run: asked                                      only when it is named (default: always)
//! # limit: 300                                     seconds (default: 300)
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::layout::Layout;

const DEFAULT_LIMIT: u64 = 300;

/// As whom a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The administrator.
    Root,
    /// The owner: an ordinary user.
    Dev,
}

impl User {
    /// Its name in the test host and in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Dev => "dev",
        }
    }
}

/// When a scenario runs, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On the bare host.
    Host,
    /// Puts banger on it.
    Install,
    /// On a host with banger.
    Daily,
    /// The same, breaking things: after everything that tells what works at all.
    Faults,
    /// Takes banger away again: the host must be as it was before the install stage.
    Uninstall,
}

/// What a scenario finds in the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A kernel of banger's store.
    Kernel,
    /// One that is compiled, which takes minutes.
    MicrovmKernel,
    /// An image of banger's store.
    Image,
    /// The product's programs.
    Programs,
    /// Another product to measure against.
    Peer,
}

/// One script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// File name without `.sh`.
    pub name: String,
    /// What it shows.
    pub claim: String,
    /// As whom.
    pub runs_as: User,
    /// When.
    pub stage: Stage,
    /// With what.
    pub needs: Vec<Need>,
    /// How long at most.
    pub limit: Duration,
    /// What it runs in: one part, or one on each side of a reboot.
    pub phases: &'static [Phase],
    /// Only when it is named.
    pub is_on_request: bool,
}

/// A part of a scenario; the script sees its name as SMOKE_PHASE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no other.
    Whole,
    /// The host reboots afterwards.
    Before,
    /// The host has rebooted.
    After,
}

impl Phase {
    /// What the script is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// All, in the order they run.
pub fn discover(layout: &Layout) -> Result<Vec<Scenario>> {
    let directory = layout.source("smoke/scenarios");
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&directory).map_err(Error::file("list", &directory))? {
        let path = entry.map_err(Error::file("list", &directory))?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scenarios.push(parse(name, &text).map_err(|reason| Error::Header { path: PathBuf::from(&path), reason })?);
        }
    }
    scenarios.sort_by(|a, b| (a.stage, &a.name).cmp(&(b.stage, &b.name)));
    Ok(scenarios)
}

/// Those that were named, all but those that must be if none was; what installs banger comes with what needs it installed.
pub fn select(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(all.into_iter().filter(|scenario| !scenario.is_on_request).collect());
    }
    let find = |name: &String| all.iter().find(|scenario| scenario.name == *name);
    if let Some(name) = names.iter().find(|name| find(name).is_none()) {
        return Err(Error::NoSuchScenario { name: name.clone() });
    }
    let installed = names.iter().filter_map(find).any(|scenario| scenario.stage > Stage::Install);
    let wanted =
        |scenario: &Scenario| names.contains(&scenario.name) || (installed && scenario.stage == Stage::Install);
    Ok(all.iter().filter(|scenario| wanted(scenario)).cloned().collect())
}

fn parse(name: String, text: &str) -> std::result::Result<Scenario, String> {
    let header: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let value = |key: &str| header.iter().find_map(|line| line.strip_prefix(&format!("# {key}: "))).map(str::trim);
    let claim = value("claim").ok_or("the header has no `# claim: …`")?.to_owned();
    let runs_as = match value("as").ok_or("the header has no `# as: dev` or `# as: root`")? {
        "root" => User::Root,
        "dev" => User::Dev,
        other => return Err(format!("`# as: {other}` is neither dev nor root")),
    };
    let stage = match value("stage").unwrap_or("daily") {
        "host" => Stage::Host,
        "install" => Stage::Install,
        "daily" => Stage::Daily,
        "faults" => Stage::Faults,
        "uninstall" => Stage::Uninstall,
        other => return Err(format!("there is no stage {other:?}")),
    };
    let need = |word: &str| match word {
        "kernel" => Ok(Need::Kernel),
        "image" => Ok(Need::Image),
        "programs" => Ok(Need::Programs),
        "microvm" => Ok(Need::MicrovmKernel),
        "peer" => Ok(Need::Peer),
        other => Err(format!("nothing provides {other:?}")),
    };
    let needs = value("needs").unwrap_or("").split_whitespace().map(need).collect::<std::result::Result<_, _>>()?;
    let limit = value("limit").map_or(Ok(DEFAULT_LIMIT), str::parse).map_err(|_| "the limit is not in seconds")?;
    let phases: &[Phase] = match value("reboot").unwrap_or("no") {
        "no" => &[Phase::Whole],
        "yes" => &[Phase::Before, Phase::After],
        other => return Err(format!("`# reboot: {other}` is neither yes nor no")),
    };
    let is_on_request = match value("run").unwrap_or("always") {
        "always" => false,
        "asked" => true,
        other => return Err(format!("`# run: {other}` is neither always nor asked")),
    };
    Ok(Scenario { name, claim, runs_as, stage, needs, limit: Duration::from_secs(limit), phases, is_on_request })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
