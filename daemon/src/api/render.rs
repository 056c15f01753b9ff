//! What the daemon knows → messages.

use banger_proto::guest_contract::{AGENT_SSH_PORT, IMAGE_SSH_PORT};
use banger_proto::{guest, v1};

use crate::operation::Overview;
use crate::paths::Paths;
use crate::vm::driver::Snapshot;
use crate::vm::observe::console_log;
use crate::vm::plan::vm_plan;
use crate::vm::record::{RuntimeRecord, VmRecord, VmSpec, Workspace};
use crate::vm::state::VmState;

/// Who one logs in as.
const GUEST_USER: &str = "root";

pub(super) fn vm(snapshot: &Snapshot, paths: &Paths) -> v1::Vm {
    let record = &snapshot.record;
    v1::Vm {
        id: record.id.to_string(),
        name: record.name.to_string(),
        state: state(record.state).into(),
        last_error: record.last_error.clone(),
        spec: Some(spec(&record.spec)),
        image_name: record.boot.image.to_string(),
        image_id: record.boot.image_id.to_string(),
        kernel_name: record.boot.kernel.to_string(),
        created_unix_ms: record.created_unix_ms,
        started_unix_ms: record.started_unix_ms,
        vmm: record.vmm.clone(),
        vmm_pid: record.runtime.as_ref().map_or(0, |runtime| runtime.process.pid),
        boot_id: record.boot_id.clone(),
        connection: record.runtime.as_ref().map(|runtime| connection(record, runtime)),
        workspace: record.workspace.as_ref().map(workspace),
        console_log_path: console_log(&vm_plan(record, paths)).to_string_lossy().into_owned(),
        unclean: record.unclean,
        reachable_after_ms: record.reachable_after_ms,
        booted_after_ms: record.booted_after_ms,
        address: record.address.map(|address| address.to_string()).unwrap_or_default(),
    }
}

fn state(state: VmState) -> v1::VmState {
    match state {
        VmState::Created => v1::VmState::Created,
        VmState::Provisioned => v1::VmState::Provisioned,
        VmState::Booting => v1::VmState::Booting,
        VmState::Running => v1::VmState::Running,
        VmState::Stopping => v1::VmState::Stopping,
        VmState::Stopped => v1::VmState::Stopped,
        VmState::Broken => v1::VmState::Broken,
    }
}

fn spec(spec: &VmSpec) -> v1::VmSpec {
    v1::VmSpec {
        vcpu_count: spec.vcpu_count,
        memory_mib: spec.memory_mib,
        work_disk_mib: spec.work_disk_mib,
        nat: spec.nat,
        published_ports: spec
            .published_ports
            .iter()
            .map(|port| v1::PublishedPort { host_port: port.host.into(), guest_port: port.guest.into() })
            .collect(),
    }
}

fn connection(record: &VmRecord, runtime: &RuntimeRecord) -> v1::Connection {
    let ssh = runtime.ssh_address.filter(|_| record.boot.has_sshd);
    v1::Connection {
        agent_host: runtime.agent_address.ip().to_string(),
        agent_port: runtime.agent_address.port().into(),
        ssh_host: ssh.map(|address| address.ip().to_string()).unwrap_or_default(),
        ssh_port: ssh.map_or(0, |address| address.port().into()),
        user: GUEST_USER.to_owned(),
        host_key: record.host_key.public.clone(),
    }
}

fn workspace(workspace: &Workspace) -> v1::Workspace {
    v1::Workspace {
        guest_path: workspace.guest_path.clone(),
        source_path: workspace.source_path.clone(),
        head_commit: workspace.head_commit.clone(),
        tree_digest: workspace.tree_digest.clone(),
        prepared_unix_ms: workspace.prepared_unix_ms,
    }
}

/// Ports the guest listens on, each with the host port that reaches it.
pub(super) fn ports(ports: Vec<guest::v1::Port>, record: &VmRecord) -> v1::ListPortsResponse {
    let host_port = |port: &guest::v1::Port| {
        let runtime = record.runtime.as_ref()?;
        // A guest with an address of its own is reached there.
        if port.protocol != "tcp" || is_loopback(&port.address) || record.address.is_some() {
            return None;
        }
        let published = record.spec.published_ports.iter().find(|published| u32::from(published.guest) == port.port);
        if let Some(published) = published {
            return Some(published.host);
        }
        if port.port == u32::from(AGENT_SSH_PORT) {
            return Some(runtime.agent_address.port());
        }
        runtime.ssh_address.filter(|_| port.port == u32::from(IMAGE_SSH_PORT)).map(|address| address.port())
    };
    v1::ListPortsResponse {
        ports: ports
            .into_iter()
            .map(|port| v1::ListeningPort {
                host_port: host_port(&port).unwrap_or(0).into(),
                protocol: port.protocol,
                address: port.address,
                port: port.port,
                process: port.process,
            })
            .collect(),
    }
}

/// Nothing outside the guest reaches a server there.
fn is_loopback(address: &str) -> bool {
    address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

pub(super) fn operation(overview: Overview) -> v1::Operation {
    v1::Operation {
        id: overview.id,
        kind: overview.kind.to_owned(),
        subject: overview.subject,
        started_unix_ms: overview.started_unix_ms,
        done: overview.outcome.is_some(),
        failure: overview.outcome.and_then(Result::err),
        stage: overview.stage,
    }
}
