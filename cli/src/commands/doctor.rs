//! `banger doctor`: what only the CLI can see, and then what the daemon says of its host.

use std::path::Path;

use banger_proto::failure::{Classified, Failure};
use banger_proto::install::Install;
use banger_proto::roots::Environment;
use banger_proto::v1::DoctorRequest;
use banger_proto::version::VERSION;
use clap::Args;

use crate::client::launch::find_daemon;
use crate::config::Config;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::git;
use crate::install::host::Host as ThisHost;
use crate::install::observe::observe;
use crate::install::services::Observed;
use crate::mode::Mode;
use crate::paths::Paths;
use crate::sizing::{Flags, Host, Sized, resolve};
use crate::view::doctor::{DoctorView, Row, Verdict, failed, render};

/// Check whether this host is ready
///
///     banger doctor
///
/// One line per check: PASS, WARN (works, but look at it) or FAIL (something will not work), and what to do about it.
/// The exit status is 7 if anything failed. Starts bangerd, as its view of the host is part of the answer.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DoctorArgs {}

/// Runs it.
///
/// # Errors
/// Only that nobody reads: what is wrong with the host is a result.
pub async fn run(context: &Context, _args: DoctorArgs) -> CommandResult {
    let mut rows = Vec::new();
    match context.paths() {
        Ok(paths) => {
            rows.push(configuration(&paths));
            rows.push(key(context));
            rows.extend(of_mode(context, &paths));
        }
        Err(error) => rows.push(failing("directories", &error)),
    }
    rows.push(git_identity());
    rows.extend(ask_daemon(context).await);
    if context.ui.is_json() {
        context.ui.json(&DoctorView::new(&rows))?;
    } else {
        context.ui.data(&render(&rows, context.ui.data_paint()))?;
    }
    Ok(if failed(&rows) == 0 { 0 } else { banger_proto::failure::Kind::HostNotReady.exit_code() })
}

/// What the mode in use needs on this side.
fn of_mode(context: &Context, paths: &Paths) -> Vec<Row> {
    match context.mode() {
        Ok(Mode::Rootless) => vec![runtime_directory(paths), daemon_program()],
        Ok(Mode::System(install)) => installation(*install),
        Err(error) => vec![failing("installation", &error)],
    }
}

fn installation(install: Install) -> Vec<Row> {
    let state = observe(&ThisHost::this(), install);
    let build = &state.install.build;
    let mut row = Row::new(Verdict::Pass, "installation")
        .detail(format!("version {} (commit {}) for {}", build.version, build.commit, state.install.owner.name));
    if !state.changed.is_empty() {
        row.status = Verdict::Warn;
        row = row
            .detail(format!("changed since it was installed: {}", state.changed.join(", ")))
            .hint("Put the installed ones back with `sudo banger system install`.");
    }
    let services = state.services.iter().map(|(unit, observed)| service(unit, observed));
    std::iter::once(row).chain(services).collect()
}

fn service(unit: &str, observed: &Observed) -> Row {
    let row = Row::new(Verdict::Pass, unit).detail(observed.state.clone());
    match (observed.state.as_str(), observed.is_enabled) {
        ("active", true) => row,
        ("active", false) => Row { status: Verdict::Warn, ..row }
            .detail("it does not start with the host")
            .hint(format!("Change that with `sudo systemctl enable {unit}`.")),
        _ => Row { status: Verdict::Fail, ..row }.hint(format!("See why with `journalctl -u {unit} -n 50`.")),
    }
}

fn runtime_directory(paths: &Paths) -> Row {
    match paths.ensure_runtime() {
        Ok(()) => Row::new(Verdict::Pass, "runtime directory").detail(paths.runtime.display().to_string()),
        Err(error) => failed_with("runtime directory", &error),
    }
}

fn configuration(paths: &Paths) -> Row {
    let path = paths.config_file();
    match Config::load(&path, Environment::observe().home.as_deref()) {
        Ok(config) => sizes(Row::new(Verdict::Pass, "configuration").detail(described(&path)), &config),
        Err(error) => failed_with("configuration", &error),
    }
}

fn described(path: &Path) -> String {
    let there = if path.exists() { "" } else { " (not there: defaults apply)" };
    format!("{}{there}", path.display())
}

/// Each default with its origin.
fn sizes(row: Row, config: &Config) -> Row {
    let sizes = resolve(Flags::default(), &config.vm_defaults, Host::observe());
    let origin = if config.default_image.is_some() { "config" } else { "builtin" };
    row.detail(format!("default image: {} ({origin})", config.default_image()))
        .detail(size("vcpu", &sizes.vcpu))
        .detail(size("memory", &sizes.memory))
        .detail(size("disk", &sizes.disk))
}

fn size<T: std::fmt::Display>(name: &str, sized: &Sized<T>) -> String {
    format!("{name}: {} ({})", sized.value, sized.provenance.word())
}

fn key(context: &Context) -> Row {
    match context.owner().and_then(|_| context.paths()) {
        Ok(paths) => Row::new(Verdict::Pass, "key for VMs").detail(paths.identity().display().to_string()),
        Err(error) => failing("key for VMs", &error),
    }
}

fn git_identity() -> Row {
    match git::global_identity() {
        Some(identity) => {
            Row::new(Verdict::Pass, "git identity").detail(format!("{} <{}>", identity.name, identity.email))
        }
        None => Row::new(Verdict::Warn, "git identity")
            .detail("neither user.name nor user.email is set: commits in a guest will ask for them")
            .hint("Set them with `git config --global user.name NAME` and `git config --global user.email ADDRESS`."),
    }
}

fn daemon_program() -> Row {
    match find_daemon() {
        Ok(path) => Row::new(Verdict::Pass, "bangerd program").detail(path.display().to_string()),
        Err(error) => failed_with("bangerd program", &error),
    }
}

async fn ask_daemon(context: &Context) -> Vec<Row> {
    let client = match context.client().await {
        Ok(client) => client,
        Err(error) => return vec![failing("bangerd", &error)],
    };
    let daemon = client.daemon();
    let row = Row::new(if daemon.version == VERSION { Verdict::Pass } else { Verdict::Warn }, "bangerd")
        .detail(format!("version {}, {} mode, pid {}", daemon.version, daemon.mode, daemon.pid));
    let row = if daemon.version == VERSION {
        row
    } else {
        let way_out = if daemon.mode == "system" { "sudo banger system install" } else { "banger system stop" };
        row.detail(format!("this is banger {VERSION}"))
            .hint(format!("Replace it with `{way_out}` when nothing is under way."))
    };
    let mut rows = vec![row];
    match client.system().doctor(DoctorRequest {}).await.or_fail() {
        Ok(answer) => rows.extend(answer.into_inner().checks.into_iter().map(Row::from)),
        Err(error) => rows.push(failing("the daemon's checks", &error)),
    }
    rows
}

fn failed_with<E: Classified>(title: &str, error: &E) -> Row {
    row_of(title, &Failure::from_error(error))
}

fn failing(title: &str, error: &CliError) -> Row {
    match error {
        CliError::Failed(failure) => row_of(title, failure),
        CliError::OutputClosed => Row::new(Verdict::Fail, title),
    }
}

fn row_of(title: &str, failure: &Failure) -> Row {
    let mut row = Row::new(Verdict::Fail, title);
    row.details.clone_from(&failure.chain);
    row.hint = failure.hints.first().cloned();
    row
}
