//! The daemon's view of the host: what is missing, and what to do about it. Looks, never repairs.

mod checks;
mod names;

use std::time::Duration;

use tokio::process::Command;

use crate::vm::Vms;

/// A tool that takes longer to tell its version is broken.
const TOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Fine.
    Pass,
    /// Works, but worse than it could.
    Warn,
    /// Something will not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub title: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub details: Vec<String>,
    /// A full sentence naming a command, if something should be done.
    pub hint: Option<String>,
}

impl Finding {
    /// It is as it should be.
    pub fn pass(title: &'static str, detail: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Pass, details: vec![detail.into()], hint: None }
    }

    /// It works, but `hint` makes it better.
    pub fn warn(title: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Warn, details: vec![detail.into()], hint: Some(hint.into()) }
    }

    /// It does not work until `hint` is done.
    pub fn fail(title: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Fail, details: vec![detail.into()], hint: Some(hint.into()) }
    }
}

/// Every check, in the order they are shown.
pub async fn examine(vms: &Vms) -> Vec<Finding> {
    let host = vms.host();
    let (paths, store) = (&host.paths, &host.store);
    let (platform, mmdebstrap) = tokio::join!(host.platform.examine(), checks::mmdebstrap());
    let mut findings = vec![checks::architecture()];
    findings.extend(platform);
    findings.extend(names::examine(vms).await);
    findings.extend([
        checks::guest_binary(paths),
        mmdebstrap,
        checks::subordinate_ids(),
        checks::free_space("free space for VMs and images", &paths.state),
        checks::free_space("free space for downloads", &paths.cache),
        checks::runtime_directory(paths),
        checks::store(store).await,
        checks::foreign_vms(store, paths).await,
    ]);
    findings
}

/// Whether a program runs, and what it calls itself.
pub async fn tool(title: &'static str, program: &str, hint: &str) -> Finding {
    let asked = Command::new(program).arg("--version").kill_on_drop(true).output();
    match tokio::time::timeout(TOOL_TIMEOUT, asked).await {
        Ok(Ok(output)) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Finding::pass(title, text.lines().next().unwrap_or(program).trim().to_owned())
        }
        Ok(Ok(output)) => Finding::fail(title, format!("{program} --version ended with {}", output.status), hint),
        Ok(Err(error)) => Finding::fail(title, format!("{program} cannot be run: {error}"), hint),
        Err(_) => Finding::fail(title, format!("{program} --version does not answer"), hint),
    }
}
