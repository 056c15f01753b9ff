//! What can go wrong while a VMM starts, and what it may not inherit.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::guest::v1::Seed;

use super::fixture::{Fixture, cancelled, eventually, skipped, told};
use crate::platform::{Observed, Platform as _, VmPlan};

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_inherits_nothing_from_the_daemon() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let secret = fixture.root().join("secret");
    std::fs::write(&secret, "").unwrap();
    let leak = std::fs::File::open(&secret).unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();

    let running = fixture.started(&fixture.plan(1)).await;
    let process = format!("/proc/{}", running.process.pid);
    let open: Vec<_> = std::fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.contains(&secret), "{open:?}");
    assert!(open.iter().any(|path| path.ends_with("root.qcow2")), "{open:?}");

    let pid = rustix::process::Pid::from_raw(i32::try_from(running.process.pid).unwrap());
    assert_eq!(rustix::process::getsid(pid).unwrap(), pid.unwrap());
    assert_eq!(rustix::process::getpgid(pid).unwrap(), pid.unwrap());
    let environment = std::fs::read_to_string(format!("{process}/environ")).unwrap();
    assert_eq!(environment.split_terminator('\0').count(), 2, "{environment:?}");
    // Seccomp mode 2: filtered.
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let filtered = status.lines().any(|line| line.split_ascii_whitespace().eq(["Seccomp:", "2"]));
    assert!(filtered || !built_with_sandbox(&fixture).await, "{status}");
}

async fn built_with_sandbox(fixture: &Fixture) -> bool {
    fixture.platform.qemu().await.unwrap().sandbox == super::super::tools::Sandbox::Available
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_port_is_reachable_and_a_busy_one_is_named() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let port = free_port();
    // The guest's own port once more: what the user published must not be taken for the chosen one.
    let plan = VmPlan { published_ports: vec![(port, 22)], ..fixture.plan(1) };
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let error = fixture.launch(&plan).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.attempt.contains(&port.to_string()) && !error.hints.is_empty(), "{error:?}");
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
    assert!(!plan.directory.join("initrd.cpio").exists());

    drop(busy);
    let running = fixture.launch(&plan).await.unwrap();
    assert_ne!(running.ssh_address.unwrap().port(), port);
    tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_lost_between_the_look_and_the_start_is_named_too() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let port = free_port();
    // Twice the same port: each is free when looked at, the second is not when QEMU binds it.
    let plan = VmPlan { published_ports: vec![(port, 80), (port, 81)], ..fixture.plan(1) };
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let error = fixture.launch(&plan).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "{}", told(&error));
    assert!(error.attempt.contains(&port.to_string()), "{}", told(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_that_cannot_start_says_why_and_is_gone() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = VmPlan { vmlinux: fixture.root().join("no-such-kernel"), ..fixture.plan(1) };
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let error = fixture.launch(&plan).await.unwrap_err();
    assert!(told(&error).contains("no-such-kernel"), "{}", told(&error));
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
    assert!(plan.directory.join("work.ext4").exists(), "what was provisioned is kept");
    assert!(!plan.directory.join("initrd.cpio").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_is_refused_and_harms_nothing() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    assert_eq!(fixture.launch(&plan).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(fixture.observed(&plan).await, Observed::Running(running));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_start_leaves_no_process() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let error = fixture.platform.launch(&plan, &Seed::default(), &cancelled()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Cancelled);
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_nobody_waits_for_leaves_no_process() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let pids = || super::super::remains::processes_of(&plan.id, &plan.runtime_directory, &boot()).unwrap();
    {
        let launch = fixture.launch(&plan);
        tokio::pin!(launch);
        eventually("the process is there", async || {
            // Polled only from here, and dropped before it could answer.
            let _ = tokio::time::timeout(Duration::from_millis(1), &mut launch).await;
            !pids().is_empty()
        })
        .await;
    }
    eventually("the process is gone", async || pids().is_empty()).await;
}

fn boot() -> String {
    super::super::process::host_boot_id().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_with_foreign_directories_is_refused() {
    let fixture = Fixture::new();
    let victim = fixture.root().join("precious");
    std::fs::create_dir(&victim).unwrap();
    let plan = VmPlan { directory: victim.clone(), ..fixture.plan(1) };
    let errors = fixture.platform.teardown(&plan).await;
    assert_eq!(errors.iter().map(|error| error.kind).collect::<Vec<_>>(), [Kind::Internal]);
    assert!(victim.exists());
}
