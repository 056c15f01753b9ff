//! A VM: a row of `vm list`, the lines of `vm show`, the JSON object of both.

use banger_proto::v1::{Vm, VmState};
use serde::Serialize;

use super::{mebibytes, non_empty, table, time};

/// The word for a state.
pub fn state_word(state: VmState) -> &'static str {
    match state {
        VmState::Unspecified => "unknown",
        VmState::Created => "created",
        VmState::Provisioned => "provisioned",
        VmState::Booting => "booting",
        VmState::Running => "running",
        VmState::Stopping => "stopping",
        VmState::Stopped => "stopped",
        VmState::Broken => "broken",
    }
}

/// The table of `vm list`.
pub fn render_list(vms: &[Vm], now_ms: i64) -> String {
    let header = ["NAME", "STATE", "IMAGE", "VCPU", "MEMORY", "DISK", "CREATED", "WORKSPACE"];
    let rows: Vec<Vec<String>> = vms.iter().map(|vm| row(vm, now_ms)).collect();
    table::render(&header, &rows)
}

fn row(vm: &Vm, now_ms: i64) -> Vec<String> {
    let spec = vm.spec.clone().unwrap_or_default();
    let image = non_empty(&vm.image_name).unwrap_or_else(|| vm.image_id.get(..12).unwrap_or(&vm.image_id));
    let unclean = if vm.unclean { " (unclean)" } else { "" };
    vec![
        vm.name.clone(),
        format!("{}{unclean}", state_word(vm.state())),
        image.to_owned(),
        spec.vcpu_count.to_string(),
        mebibytes(spec.memory_mib),
        mebibytes(spec.work_disk_mib),
        time::ago(vm.created_unix_ms, now_ms),
        vm.workspace.as_ref().map_or_else(|| "-".into(), |workspace| lossy(&workspace.guest_path)),
    ]
}

/// The lines of `vm show`.
pub fn render_details(vm: &Vm, now_ms: i64) -> String {
    let spec = vm.spec.clone().unwrap_or_default();
    let mut pairs =
        vec![("name", vm.name.clone()), ("id", vm.id.clone()), ("state", state_word(vm.state()).to_owned())];
    if let Some(why) = non_empty(&vm.last_error) {
        pairs.push(("last error", why.to_owned()));
    }
    if vm.unclean {
        pairs.push(("unclean", "the last stop had to kill the guest: unsynced writes may be lost".into()));
    }
    pairs.push(("image", vm.image_name.clone()));
    pairs.push(("kernel", vm.kernel_name.clone()));
    pairs.push(("vcpu", spec.vcpu_count.to_string()));
    pairs.push(("memory", mebibytes(spec.memory_mib)));
    pairs.push(("disk", mebibytes(spec.work_disk_mib)));
    if let Some(address) = non_empty(&vm.address) {
        pairs.push(("address", address.to_owned()));
    }
    pairs.push(("nat", if spec.nat { "yes" } else { "no" }.into()));
    for port in &spec.published_ports {
        pairs.push(("published", format!("127.0.0.1:{} -> {}", port.host_port, port.guest_port)));
    }
    pairs.push(("created", moment(vm.created_unix_ms, now_ms)));
    if vm.started_unix_ms != 0 {
        pairs.push(("started", moment(vm.started_unix_ms, now_ms)));
    }
    if vm.reachable_after_ms != 0 {
        pairs.push(("reachable after", format!("{} ms", vm.reachable_after_ms)));
    }
    if vm.booted_after_ms != 0 {
        pairs.push(("booted after", format!("{} ms", vm.booted_after_ms)));
    }
    if let Some(vmm) = non_empty(&vm.vmm) {
        let pid = if vm.vmm_pid == 0 { String::new() } else { format!(", pid {}", vm.vmm_pid) };
        pairs.push(("vmm", format!("{vmm}{pid}")));
    }
    if let Some(connection) = &vm.connection {
        pairs.push(("agent", format!("{}:{}", connection.agent_host, connection.agent_port)));
        if connection.ssh_port != 0 {
            pairs.push(("ssh", format!("{}:{}", connection.ssh_host, connection.ssh_port)));
        }
    }
    if let Some(workspace) = &vm.workspace {
        pairs.push(("workspace", lossy(&workspace.guest_path)));
        pairs.push(("workspace source", lossy(&workspace.source_path)));
        pairs.push(("workspace head", workspace.head_commit.clone()));
        pairs.push(("workspace digest", workspace.tree_digest.clone()));
        pairs.push(("workspace prepared", moment(workspace.prepared_unix_ms, now_ms)));
    }
    if let Some(path) = non_empty(&vm.console_log_path) {
        pairs.push(("console log", path.to_owned()));
    }
    table::render_pairs(&pairs)
}

fn moment(unix_ms: i64, now_ms: i64) -> String {
    time::rfc3339(unix_ms).map_or_else(|| "-".into(), |text| format!("{text} ({})", time::ago(unix_ms, now_ms)))
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// `{"vms": […]}`.
#[derive(Debug, Serialize)]
pub struct VmListView {
    vms: Vec<VmView>,
}

impl VmListView {
    /// From the daemon's answer.
    pub fn new(vms: &[Vm]) -> Self {
        Self { vms: vms.iter().map(VmView::from).collect() }
    }
}

/// A VM for programs.
#[derive(Debug, Serialize)]
pub struct VmView {
    id: String,
    name: String,
    state: &'static str,
    last_error: Option<String>,
    unclean: bool,
    image: String,
    image_id: String,
    kernel: String,
    vcpu: u32,
    memory_mib: u64,
    work_disk_mib: u64,
    nat: bool,
    address: Option<String>,
    published_ports: Vec<PublishedPortView>,
    created: Option<String>,
    started: Option<String>,
    reachable_after_ms: Option<u64>,
    booted_after_ms: Option<u64>,
    vmm: Option<String>,
    vmm_pid: Option<u32>,
    boot_id: Option<String>,
    connection: Option<ConnectionView>,
    workspace: Option<WorkspaceView>,
    console_log: Option<String>,
}

#[derive(Debug, Serialize)]
struct PublishedPortView {
    host_port: u32,
    guest_port: u32,
}

#[derive(Debug, Serialize)]
struct ConnectionView {
    agent_host: String,
    agent_port: u32,
    ssh_host: Option<String>,
    ssh_port: Option<u32>,
    user: String,
    host_key: String,
}

#[derive(Debug, Serialize)]
struct WorkspaceView {
    guest_path: String,
    source_path: String,
    head_commit: Option<String>,
    tree_digest: String,
    prepared: Option<String>,
}

impl From<&Vm> for VmView {
    fn from(vm: &Vm) -> Self {
        let spec = vm.spec.clone().unwrap_or_default();
        let text = |text: &str| non_empty(text).map(str::to_owned);
        let ports = spec.published_ports.iter();
        Self {
            id: vm.id.clone(),
            name: vm.name.clone(),
            state: state_word(vm.state()),
            last_error: text(&vm.last_error),
            unclean: vm.unclean,
            image: vm.image_name.clone(),
            image_id: vm.image_id.clone(),
            kernel: vm.kernel_name.clone(),
            vcpu: spec.vcpu_count,
            memory_mib: spec.memory_mib,
            work_disk_mib: spec.work_disk_mib,
            nat: spec.nat,
            address: text(&vm.address),
            published_ports: ports
                .map(|port| PublishedPortView { host_port: port.host_port, guest_port: port.guest_port })
                .collect(),
            created: time::rfc3339(vm.created_unix_ms),
            started: time::rfc3339(vm.started_unix_ms),
            reachable_after_ms: Some(vm.reachable_after_ms).filter(|&elapsed| elapsed != 0),
            booted_after_ms: Some(vm.booted_after_ms).filter(|&elapsed| elapsed != 0),
            vmm: text(&vm.vmm),
            vmm_pid: Some(vm.vmm_pid).filter(|&pid| pid != 0),
            boot_id: text(&vm.boot_id),
            connection: vm.connection.as_ref().map(|connection| ConnectionView {
                agent_host: connection.agent_host.clone(),
                agent_port: connection.agent_port,
                ssh_host: text(&connection.ssh_host),
                ssh_port: Some(connection.ssh_port).filter(|&port| port != 0),
                user: connection.user.clone(),
                host_key: connection.host_key.clone(),
            }),
            workspace: vm.workspace.as_ref().map(|workspace| WorkspaceView {
                guest_path: lossy(&workspace.guest_path),
                source_path: lossy(&workspace.source_path),
                head_commit: text(&workspace.head_commit),
                tree_digest: workspace.tree_digest.clone(),
                prepared: time::rfc3339(workspace.prepared_unix_ms),
            }),
            console_log: text(&vm.console_log_path),
        }
    }
}

#[cfg(test)]
mod tests;
