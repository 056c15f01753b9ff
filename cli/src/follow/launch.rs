//! Starts a session that outlives this command: our own program again, with `--watch`, cut loose from the terminal.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use banger_proto::failure::Kind;
use banger_proto::v1::Vm;
use banger_sync::watch::Mode;

use super::control;
use super::record::Place;
use crate::client::detached;
use crate::context::Context;
use crate::error::CliError;
use crate::run::plan::WorkspacePlan;
use crate::view::follow::{StatusView, mode_word};

/// Until the first batch is in the guest; a large tree over a slow guest takes its time.
const PATIENCE: Duration = Duration::from_secs(600);
const STEP: Duration = Duration::from_millis(30);
/// Of the end of the log.
const LINES_SHOWN: usize = 5;

/// Starts it and waits until the guest is in step.
///
/// # Errors
/// It could not be started, ended at once, or stopped by itself.
pub async fn in_background(
    context: &Context,
    vm: &Vm,
    plan: &WorkspacePlan,
    mode: Mode,
) -> Result<(Place, StatusView), CliError> {
    let paths = context.paths()?;
    let place = Place::of(&paths, &vm.id, plan.guest_path.as_str());
    if place.is_alive() {
        return Err(CliError::new(Kind::Conflict, format!("another session follows edits into VM {}", vm.name))
            .hint(format!("See it with `banger vm workspace status {}`.", vm.name)));
    }
    let (mut child, log) = spawn(context, vm, plan, mode, &place.log())?;
    let began = Instant::now();
    loop {
        if let Ok(Some(ended)) = child.try_wait() {
            let error = CliError::new(Kind::Failed, format!("the session ended at once ({ended})"));
            return Err(last_lines(log)
                .into_iter()
                .fold(error, |error, line| error.map(|failure| failure.caused_by(line))));
        }
        if let Ok(status) = control::status(&place).await {
            if status.state == "halted" {
                let why = status.why.unwrap_or_default();
                return Err(CliError::new(Kind::Conflict, format!("the session stopped: {why}"))
                    .hint(format!("See more with `banger vm workspace status {}`.", vm.name)));
            }
            if status.connections > 0 && status.generation > 0 {
                return Ok((place, status));
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(CliError::new(Kind::Failed, "the session is not in step")
                .hint(format!("It goes on trying: `banger vm workspace status {}`.", vm.name)));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// The session, and its log to be read also after it took it away.
fn spawn(context: &Context, vm: &Vm, plan: &WorkspacePlan, mode: Mode, log: &Path) -> Result<(Child, File), CliError> {
    let failed = |what: &str, error: std::io::Error| {
        CliError::new(Kind::HostNotReady, format!("cannot {what}")).map(|failure| failure.caused_by(error.to_string()))
    };
    let program = std::env::current_exe().map_err(|error| failed("find our own program", error))?;
    let root = plan.path.canonicalize().map_err(|error| failed("find the repository", error))?;
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory).map_err(|error| failed("make a place for the session's log", error))?;
    }
    let output = File::create(log).map_err(|error| failed("open the session's log", error))?;
    let words = File::open(log).map_err(|error| failed("open the session's log", error))?;
    let mut command = Command::new(program);
    if context.is_rootless_wished() {
        command.arg("--rootless");
    }
    command.args(["vm", "workspace", "sync", "--watch", "--mode", mode_word(mode)]);
    command.args(["--guest-path", plan.guest_path.as_str()]);
    if plan.options.include_untracked {
        command.arg("--include-untracked");
    }
    if let Some(branch) = &plan.options.branch {
        command.arg(format!("--branch={branch}"));
    }
    command.arg("--").arg(&vm.id).arg(root);
    let child = detached::spawn(command, output).map_err(|error| failed("start the session", error))?;
    Ok((child, words))
}

fn last_lines(mut log: File) -> Vec<String> {
    let mut text = Vec::new();
    // What can be read of it is better than nothing.
    let _ = log.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().map(|line| (*line).to_owned()).collect()
}
