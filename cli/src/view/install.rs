//! An installation: what `system install` did, what `system status` sees, what `system uninstall` removes.

use banger_proto::v1::{GetVersionResponse, Vm, VmState};
use serde::Serialize;

use super::version::DaemonView;
use super::{table, time};
use crate::install::check::Plan;
use crate::install::observe::State;
use crate::install::perform::Report;
use crate::install::removal::Item;

/// `system install --json`.
#[derive(Debug, Serialize)]
pub struct InstallView {
    version: String,
    commit: String,
    owner: OwnerView,
    network: NetworkView,
    created: Vec<String>,
    replaced: Vec<String>,
    restarted: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct OwnerView {
    name: String,
    uid: u32,
}

#[derive(Debug, Serialize)]
struct NetworkView {
    bridge: String,
    subnet: String,
    gateway: String,
}

impl InstallView {
    /// What was decided and done.
    pub fn new(plan: &Plan, report: &Report) -> Self {
        let (install, text) = (&plan.install, |path: &std::path::PathBuf| path.display().to_string());
        Self {
            version: install.build.version.clone(),
            commit: install.build.commit.clone(),
            owner: OwnerView { name: install.owner.name.clone(), uid: install.owner.uid },
            network: network(install),
            created: report.created.iter().map(text).collect(),
            replaced: report.replaced.iter().map(text).collect(),
            restarted: report.restarted.clone(),
        }
    }
}

fn network(install: &banger_proto::install::Install) -> NetworkView {
    NetworkView {
        bridge: install.network.bridge.clone(),
        subnet: install.network.subnet.to_string(),
        gateway: install.network.subnet.gateway().to_string(),
    }
}

/// The lines of `system install`.
pub fn render_installed(plan: &Plan, report: &Report) -> String {
    let mut text = String::new();
    for (word, paths) in [("created", &report.created), ("replaced", &report.replaced)] {
        for path in paths {
            text += &format!("{word:<10} {}\n", path.display());
        }
    }
    for unit in &report.restarted {
        text += &format!("{:<10} {unit}\n", "started");
    }
    let install = &plan.install;
    if text.is_empty() {
        return format!("banger {} is installed for {}: nothing to do\n", install.build.version, install.owner.name);
    }
    text += &format!(
        "banger {} is installed for {}: it needs no root from now on\n",
        install.build.version, install.owner.name
    );
    text
}

/// `system status --json` of installed services.
#[derive(Debug, Serialize)]
pub struct SystemView<'a> {
    running: bool,
    socket: String,
    log: Option<String>,
    daemon: Option<DaemonView<'a>>,
    installation: InstallationView<'a>,
}

#[derive(Debug, Serialize)]
struct InstallationView<'a> {
    version: &'a str,
    commit: &'a str,
    installed: Option<String>,
    updated: Option<String>,
    owner: OwnerView,
    network: NetworkView,
    services: Vec<ServiceView<'a>>,
    programs: Vec<ProgramView<'a>>,
    changed_files: &'a [String],
    vms: Option<CountsView>,
}

#[derive(Debug, Serialize)]
struct ServiceView<'a> {
    unit: &'a str,
    state: &'a str,
    pid: Option<u32>,
    enabled: bool,
    restarts: u32,
}

#[derive(Debug, Serialize)]
struct ProgramView<'a> {
    name: &'a str,
    version: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CountsView {
    total: usize,
    running: usize,
}

impl<'a> SystemView<'a> {
    /// What was seen; `vms` only where the daemon could be asked.
    pub fn new(state: &'a State, daemon: Option<&'a GetVersionResponse>, vms: Option<&[Vm]>) -> Self {
        let build = &state.install.build;
        let services = state.services.iter().map(|(unit, observed)| ServiceView {
            unit,
            state: &observed.state,
            pid: Some(observed.pid).filter(|&pid| pid != 0),
            enabled: observed.is_enabled,
            restarts: observed.restarts,
        });
        let programs = state.programs.iter();
        Self {
            running: daemon.is_some(),
            socket: crate::client::installed::socket().display().to_string(),
            log: None,
            daemon: daemon.map(DaemonView::from),
            installation: InstallationView {
                version: &build.version,
                commit: &build.commit,
                installed: time::rfc3339(milliseconds(build.installed_unix_s)),
                updated: time::rfc3339(milliseconds(build.updated_unix_s)),
                owner: OwnerView { name: state.install.owner.name.clone(), uid: state.install.owner.uid },
                network: network(&state.install),
                services: services.collect(),
                programs: programs
                    .map(|program| ProgramView { name: &program.name, version: program.version.as_deref() })
                    .collect(),
                changed_files: &state.changed,
                vms: vms.map(counts),
            },
        }
    }
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn counts(vms: &[Vm]) -> CountsView {
    CountsView { total: vms.len(), running: vms.iter().filter(|vm| vm.state() == VmState::Running).count() }
}

/// The lines of `system status` of installed services.
pub fn render_system(state: &State, daemon: Option<&GetVersionResponse>, vms: Option<&[Vm]>) -> String {
    let install = &state.install;
    let mut pairs = Vec::new();
    for (unit, observed) in &state.services {
        let mut said = observed.state.clone();
        if observed.pid != 0 {
            said += &format!(", pid {}", observed.pid);
        }
        if !observed.is_enabled {
            said += ", does not start with the host";
        }
        if observed.restarts > 0 {
            said += &format!(", restarted {} times by systemd", observed.restarts);
        }
        pairs.push((*unit, said));
    }
    if let Some(daemon) = daemon {
        pairs.push(("running", format!("bangerd {} (commit {})", daemon.version, daemon.commit)));
    }
    pairs.push(("installed", format!("{} (commit {})", install.build.version, install.build.commit)));
    if let Some(updated) = time::rfc3339(milliseconds(install.build.updated_unix_s)) {
        pairs.push(("updated", updated));
    }
    pairs.push(("owner", format!("{} (uid {})", install.owner.name, install.owner.uid)));
    let subnet = install.network.subnet;
    pairs.push(("network", format!("{} {subnet}, gateway {}", install.network.bridge, subnet.gateway())));
    if let Some(vms) = vms {
        let counts = counts(vms);
        pairs.push(("vms", format!("{}, {} running", counts.total, counts.running)));
    }
    for program in &state.programs {
        pairs.push(("program", program.version.clone().unwrap_or_else(|| format!("{} does not run", program.name))));
    }
    for path in &state.changed {
        pairs.push(("changed since", path.clone()));
    }
    pairs.push(("socket", crate::client::installed::socket().display().to_string()));
    table::render_pairs(&pairs)
}

/// What an uninstall keeps, for programs.
#[derive(Debug, Serialize)]
pub struct RemovalView {
    what: String,
    reason: Option<&'static str>,
}

impl RemovalView {
    /// Of everything that was looked at.
    pub fn kept(items: &[Item]) -> Vec<Self> {
        let kept = items.iter().filter(|item| item.action == "keep");
        kept.map(|item| Self { what: item.what.clone(), reason: item.reason }).collect()
    }
}

/// `system uninstall --json`.
#[derive(Debug, Serialize)]
pub struct UninstalledView<'a> {
    /// What went.
    pub removed: &'a [String],
    /// What stays on purpose.
    pub kept: Vec<RemovalView>,
    /// What could not be removed.
    pub failed: &'a [String],
}

/// What will happen, one line each.
pub fn render_removal(items: &[Item]) -> String {
    let line = |item: &Item| {
        let reason = item.reason.map(|reason| format!("  ({reason})")).unwrap_or_default();
        format!("{:<8} {}{reason}\n", item.action, item.what)
    };
    items.iter().map(line).collect()
}

/// What happened.
pub fn render_uninstalled(removed: &[String]) -> String {
    format!("{} things removed: banger is uninstalled\n", removed.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use banger_proto::install::{Build, Install, Network, Owner};

    use super::*;
    use crate::install::observe::Installed;
    use crate::install::services::Observed;

    fn state() -> State {
        let observed = |state: &str, pid| Observed { state: state.into(), pid, restarts: 0, is_enabled: true };
        State {
            install: Install {
                owner: Owner { name: "dev".into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
                build: Build {
                    version: "1.0.0".into(),
                    commit: "abc".into(),
                    installed_unix_s: 1_700_000_000,
                    updated_unix_s: 1_700_000_060,
                },
                network: Network::default(),
            },
            services: vec![("bangerd-root.service", observed("active", 7)), ("bangerd.service", observed("failed", 0))],
            programs: vec![
                Installed { name: "jailer".into(), version: Some("Jailer v1.12.1".into()) },
                Installed { name: "bangerd".into(), version: None },
            ],
            changed: vec!["/etc/systemd/system/bangerd.service".into()],
        }
    }

    #[test]
    fn the_table_says_who_what_and_where() {
        assert_eq!(
            render_system(&state(), None, Some(&[Vm::default()])),
            "bangerd-root.service:  active, pid 7\n\
             bangerd.service:       failed\n\
             installed:             1.0.0 (commit abc)\n\
             updated:               2023-11-14T22:14:20.000Z\n\
             owner:                 dev (uid 1000)\n\
             network:               br-fc 172.16.0.0/24, gateway 172.16.0.1\n\
             vms:                   1, 0 running\n\
             program:               Jailer v1.12.1\n\
             program:               bangerd does not run\n\
             changed since:         /etc/systemd/system/bangerd.service\n\
             socket:                /run/banger/bangerd.sock\n"
        );
    }

    #[test]
    fn the_json_form_has_stable_keys() {
        let state = state();
        let json = serde_json::to_value(SystemView::new(&state, None, None)).unwrap();
        assert_eq!(json["running"], false);
        assert_eq!(json["installation"]["owner"], serde_json::json!({ "name": "dev", "uid": 1000 }));
        assert_eq!(
            json["installation"]["services"][0],
            serde_json::json!({ "unit": "bangerd-root.service", "state": "active", "pid": 7, "enabled": true, "restarts": 0 })
        );
        assert_eq!(json["installation"]["vms"], serde_json::Value::Null);
    }

    #[test]
    fn a_removal_says_why_something_stays() {
        let item = |action, what: &str, reason| Item { action, what: what.into(), reason };
        let items = [item("remove", "/a", None), item("keep", "/b", Some("data"))];
        assert_eq!(render_removal(&items), "remove   /a\nkeep     /b  (data)\n");
        assert_eq!(RemovalView::kept(&items).len(), 1);
    }
}
