//! Snapshots of the table, the details and the JSON object.

use banger_proto::v1::{Connection, PublishedPort, Vm, VmSpec, VmState, Workspace};

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn vm() -> Vm {
    Vm {
        id: "0123456789abcdef0123456789abcdef".into(),
        name: "box-1".into(),
        state: VmState::Running.into(),
        spec: Some(VmSpec {
            vcpu_count: 2,
            memory_mib: 2048,
            work_disk_mib: 8192,
            nat: true,
            published_ports: vec![PublishedPort { host_port: 8080, guest_port: 80 }],
        }),
        image_name: "debian-bookworm".into(),
        image_id: "f".repeat(64),
        kernel_name: "generic-6.12".into(),
        created_unix_ms: NOW - 180_000,
        started_unix_ms: NOW - 120_000,
        vmm: "qemu-tcg".into(),
        vmm_pid: 42,
        connection: Some(Connection {
            agent_host: "127.0.0.1".into(),
            agent_port: 4000,
            user: "root".into(),
            host_key: "ssh-ed25519 AAAA".into(),
            ..Connection::default()
        }),
        workspace: Some(Workspace {
            guest_path: b"/root/repo".to_vec(),
            source_path: b"/home/me/repo".to_vec(),
            head_commit: "abc".into(),
            tree_digest: "d1".into(),
            prepared_unix_ms: NOW - 60_000,
        }),
        console_log_path: "/s/console.log".into(),
        reachable_after_ms: 5000,
        ..Vm::default()
    }
}

#[test]
fn the_list_has_one_line_per_vm() {
    let mut stopped = vm();
    stopped.name = "evil\u{1b}[2J".into();
    stopped.set_state(VmState::Stopped);
    stopped.unclean = true;
    stopped.image_name.clear();
    stopped.workspace = None;
    assert_eq!(
        render_list(&[vm(), stopped], NOW),
        "NAME           STATE              IMAGE            VCPU  MEMORY  DISK   CREATED  WORKSPACE\n\
         box-1          running            debian-bookworm  2     2 GiB   8 GiB  3m ago   /root/repo\n\
         evil\\u{1b}[2J  stopped (unclean)  ffffffffffff     2     2 GiB   8 GiB  3m ago   -\n"
    );
    assert!(render_list(&[], NOW).starts_with("NAME"));
}

#[test]
fn the_details_name_everything_that_is_known() {
    let text = render_details(&vm(), NOW);
    for line in [
        "name:                box-1",
        "state:               running",
        "published:           127.0.0.1:8080 -> 80",
        "created:             2023-11-14T22:10:20.000Z (3m ago)",
        "vmm:                 qemu-tcg, pid 42",
        "agent:               127.0.0.1:4000",
        "workspace head:      abc",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
    }
    assert!(!text.contains("last error"), "{text}");
}

#[test]
fn the_json_object_is_stable() {
    let json = serde_json::to_value(VmListView::new(&[vm()])).unwrap_or_default();
    assert_eq!(
        json,
        serde_json::json!({ "vms": [{
            "id": "0123456789abcdef0123456789abcdef", "name": "box-1", "state": "running",
            "last_error": null, "unclean": false,
            "image": "debian-bookworm", "image_id": "f".repeat(64), "kernel": "generic-6.12",
            "vcpu": 2, "memory_mib": 2048, "work_disk_mib": 8192, "nat": true, "address": null,
            "published_ports": [{ "host_port": 8080, "guest_port": 80 }],
            "created": "2023-11-14T22:10:20.000Z", "started": "2023-11-14T22:11:20.000Z",
            "reachable_after_ms": 5000, "booted_after_ms": null,
            "vmm": "qemu-tcg", "vmm_pid": 42, "boot_id": null,
            "connection": {
                "agent_host": "127.0.0.1", "agent_port": 4000, "ssh_host": null, "ssh_port": null,
                "user": "root", "host_key": "ssh-ed25519 AAAA",
            },
            "workspace": {
                "guest_path": "/root/repo", "source_path": "/home/me/repo", "head_commit": "abc",
                "tree_digest": "d1", "prepared": "2023-11-14T22:12:20.000Z",
            },
            "console_log": "/s/console.log",
        }] })
    );
}
