//! Versions and the state of the daemon.

use std::path::Path;

use banger_proto::v1::GetVersionResponse;
use banger_proto::version::{COMMIT, VERSION};
use serde::Serialize;

use super::table;

/// `version --json`.
#[derive(Debug, Serialize)]
pub struct VersionView<'a> {
    version: &'static str,
    commit: &'static str,
    guest_protocol: u32,
    daemon: Option<DaemonView<'a>>,
}

/// A running daemon.
#[derive(Debug, Serialize)]
pub struct DaemonView<'a> {
    version: &'a str,
    commit: &'a str,
    mode: &'a str,
    pid: u32,
    uid: u32,
}

/// `system status --json`.
#[derive(Debug, Serialize)]
pub struct StatusView<'a> {
    running: bool,
    socket: String,
    log: Option<String>,
    daemon: Option<DaemonView<'a>>,
}

impl<'a> From<&'a GetVersionResponse> for DaemonView<'a> {
    fn from(daemon: &'a GetVersionResponse) -> Self {
        Self { version: &daemon.version, commit: &daemon.commit, mode: &daemon.mode, pid: daemon.pid, uid: daemon.uid }
    }
}

impl<'a> VersionView<'a> {
    /// This program and the daemon, if one runs.
    pub fn new(daemon: Option<&'a GetVersionResponse>) -> Self {
        let guest_protocol = banger_proto::version::GUEST_PROTOCOL_VERSION;
        Self { version: VERSION, commit: COMMIT, guest_protocol, daemon: daemon.map(DaemonView::from) }
    }
}

impl<'a> StatusView<'a> {
    /// Where the daemon is, or would be; an installed one writes into the journal.
    pub fn new(socket: &Path, log: Option<&Path>, daemon: Option<&'a GetVersionResponse>) -> Self {
        Self {
            running: daemon.is_some(),
            socket: socket.display().to_string(),
            log: log.map(|log| log.display().to_string()),
            daemon: daemon.map(DaemonView::from),
        }
    }
}

/// `banger --version`.
pub fn one_line() -> String {
    format!("{VERSION} (commit {COMMIT})")
}

/// The lines of `version`.
pub fn render(daemon: Option<&GetVersionResponse>) -> String {
    let running = daemon.map_or_else(
        || "not running".to_owned(),
        |daemon| format!("{} (commit {}), {} mode, pid {}", daemon.version, daemon.commit, daemon.mode, daemon.pid),
    );
    table::render_pairs(&[
        ("banger", VERSION.to_owned()),
        ("commit", COMMIT.to_owned()),
        ("guest protocol", banger_proto::version::GUEST_PROTOCOL_VERSION.to_string()),
        ("bangerd", running),
    ])
}

/// The lines of `system status`.
pub fn render_status(socket: &Path, log: Option<&Path>, daemon: Option<&GetVersionResponse>) -> String {
    let mut pairs = vec![("bangerd", if daemon.is_some() { "running" } else { "not running" }.to_owned())];
    if let Some(daemon) = daemon {
        pairs.push(("version", format!("{} (commit {})", daemon.version, daemon.commit)));
        pairs.push(("mode", daemon.mode.clone()));
        pairs.push(("pid", daemon.pid.to_string()));
        pairs.push(("uid", daemon.uid.to_string()));
    }
    pairs.push(("socket", socket.display().to_string()));
    if let Some(log) = log {
        pairs.push(("log", log.display().to_string()));
    }
    table::render_pairs(&pairs)
}
