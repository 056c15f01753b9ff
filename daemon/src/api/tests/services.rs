//! What clients can rely on.

use std::time::Duration;

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1;

use super::client::*;
use crate::platform::fake::GuestScript;
use crate::vm::tests::harness::{LONG, Site};

async fn soon(what: &str, mut there: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what} did not happen");
}

fn named(name: &str) -> v1::GetVmRequest {
    v1::GetVmRequest { reference: name.into() }
}

#[tokio::test]
async fn a_vm_is_created_shown_stopped_and_deleted() {
    let served = serve(Site::new()).await;
    let id = served.create("box").await.unwrap();
    let vm = served.vm().get(named(&id[..6])).await.unwrap().into_inner();
    assert_eq!((vm.id.as_str(), vm.name.as_str(), vm.state()), (id.as_str(), "box", v1::VmState::Running));
    assert_eq!((vm.image_name.as_str(), vm.vmm.as_str()), ("default", "fake"));
    assert!(vm.vmm_pid > 0 && vm.started_unix_ms > 0 && vm.console_log_path.ends_with("console.log"));
    let connection = vm.connection.unwrap();
    assert_eq!((connection.agent_host.as_str(), connection.agent_port, connection.ssh_port), ("127.0.0.1", 4022, 0));
    assert!(connection.host_key.starts_with("ssh-ed25519 "));

    let stop = v1::StopVmRequest { reference: "box".into(), timeout_seconds: 0 };
    finish(served.vm().stop(stop).await.unwrap().into_inner()).await.unwrap();
    let vm = served.vm().get(named("box")).await.unwrap().into_inner();
    assert_eq!((vm.state(), vm.connection), (v1::VmState::Stopped, None));

    let delete = v1::DeleteVmRequest { reference: "box".into() };
    finish(served.vm().delete(delete).await.unwrap().into_inner()).await.unwrap();
    served.site.assert_nothing_left(&served.vms).await;
}

#[tokio::test]
async fn failures_keep_their_kind_hints_and_operation_on_the_wire() {
    let served = serve(Site::new()).await;
    let failure = Failure::from(served.vm().get(named("nobody")).await.unwrap_err());
    assert_eq!((failure.kind, failure.chain[0].as_str()), (Kind::NotFound, "there is no VM \"nobody\""));
    assert!(failure.hints[0].contains("`banger vm list`"));

    served.create("box").await.unwrap();
    let failure = served.create("box").await.unwrap_err();
    assert_eq!(failure.kind, Kind::Conflict);
    assert!(failure.operation_id.starts_with("op-"), "{failure:?}");

    let bad = v1::CreateVmRequest { name: "Bad_Name".into(), ..create_request("x") };
    let failure = Failure::from(served.vm().create(bad).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Usage);
}

#[tokio::test]
async fn an_unnamed_vm_gets_a_name_that_the_operation_tells() {
    let served = serve(Site::new()).await;
    let mut events = served.vm().create(create_request("")).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap().event.unwrap();
    let v1::operation_event::Event::Started(started) = first else { panic!("{first:?}") };
    assert!(started.subject.contains('-'), "{started:?}");
    soon("the creation", || served.vms.list().len() == 1).await;
    assert_eq!(served.vms.list()[0].record.name.as_str(), started.subject);
}

#[tokio::test]
async fn a_client_that_hangs_up_takes_its_creation_with_it() {
    let site = Site::new();
    site.world.hang_in("launch");
    let served = serve(site).await;
    let events = served.vm().create(create_request("box")).await.unwrap().into_inner();
    served.site.world.entered("launch").await;
    drop(events);
    soon("the clean-up", || served.vms.list().is_empty()).await;
    served.site.assert_nothing_left(&served.vms).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_a_stop() {
    let site = Site::new();
    site.world.set_script(GuestScript::Stubborn);
    let served = serve(site).await;
    served.create("box").await.unwrap();
    let stop = v1::StopVmRequest { reference: "box".into(), timeout_seconds: 1 };
    drop(served.vm().stop(stop).await.unwrap());
    soon("the stop", || !served.vms.any_alive()).await;
    let vm = served.vm().get(named("box")).await.unwrap().into_inner();
    assert!(vm.unclean);
}

#[tokio::test]
async fn an_operation_can_be_listed_watched_and_cancelled_by_another_client() {
    let site = Site::new();
    site.world.set_script(GuestScript::Silent);
    let served = serve(site).await;
    let events = served.vm().create(create_request("box")).await.unwrap().into_inner();
    soon("the boot", || served.vms.any_alive()).await;
    let list = v1::ListOperationsRequest { include_done: false };
    let operations = served.operation().list(list).await.unwrap().into_inner().operations;
    assert_eq!((operations[0].kind.as_str(), operations[0].subject.as_str()), ("vm.create", "box"));
    let id = operations[0].id.clone();
    let watch = v1::WatchOperationRequest { id: id.clone() };
    let watched = served.operation().watch(watch).await.unwrap().into_inner();
    served.operation().cancel(v1::CancelOperationRequest { id }).await.unwrap();
    let (one, other) = tokio::join!(finish(events), finish(watched));
    assert_eq!(one.unwrap_err().kind, Kind::Cancelled);
    assert_eq!(other.unwrap_err().kind, Kind::Cancelled);
    served.site.assert_nothing_left(&served.vms).await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page_without_gap_or_repeat() {
    let served = serve(Site::new()).await;
    for name in ["a", "b", "c", "d", "e"] {
        let request = v1::CreateVmRequest { start: false, ..create_request(name) };
        finish(served.vm().create(request).await.unwrap().into_inner()).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListVmsRequest { page_size: 2, page_token };
        let page = served.vm().list(request).await.unwrap().into_inner();
        assert!(page.vms.len() <= 2);
        seen.extend(page.vms.into_iter().map(|vm| vm.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn ports_of_the_guest_come_with_the_host_port_that_reaches_them() {
    let served = serve(Site::new()).await;
    served.create("box").await.unwrap();
    let request = v1::ListPortsRequest { reference: "box".into() };
    let ports = served.vm().list_ports(request.clone()).await.unwrap().into_inner().ports;
    let reached: Vec<_> = ports.iter().map(|port| (port.port, port.host_port)).collect();
    assert_eq!(reached, [(80, 8080), (5432, 0), (4022, 4022)]);

    let kill = v1::KillVmRequest { reference: "box".into() };
    finish(served.vm().kill(kill).await.unwrap().into_inner()).await.unwrap();
    let failure = Failure::from(served.vm().list_ports(request).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Conflict);
}

#[tokio::test]
async fn a_followed_log_ends_with_the_vm() {
    let served = serve(Site::new()).await;
    served.create("box").await.unwrap();
    let request = v1::LogsRequest { reference: "box".into(), follow: true };
    let mut log = served.vm().logs(request).await.unwrap().into_inner();
    let first = log.message().await.unwrap().unwrap().data;
    assert!(first.starts_with(b"fake kernel\n"));
    let path = served.vm().get(named("box")).await.unwrap().into_inner().console_log_path;
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, b"more\n").unwrap();
    assert_eq!(log.message().await.unwrap().unwrap().data, b"more\n");
    let kill = v1::KillVmRequest { reference: "box".into() };
    finish(served.vm().kill(kill).await.unwrap().into_inner()).await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, log.message()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_log_that_does_not_exist_is_explained() {
    let served = serve(Site::new()).await;
    let request = v1::CreateVmRequest { start: false, ..create_request("box") };
    finish(served.vm().create(request).await.unwrap().into_inner()).await.unwrap();
    let request = v1::LogsRequest { reference: "box".into(), follow: false };
    let failure = Failure::from(served.vm().logs(request).await.unwrap_err());
    assert!(failure.chain[0].contains("never started"), "{failure}");
}

#[tokio::test]
async fn waiting_returns_when_the_guest_is_there_or_gone() {
    let site = Site::new();
    site.world.set_script(GuestScript::OnlyReachable);
    let served = serve(site).await;
    let request = v1::CreateVmRequest { wait: v1::WaitFor::Reachable.into(), ..create_request("box") };
    finish(served.vm().create(request).await.unwrap().into_inner()).await.unwrap();
    let wait = |wait: v1::WaitFor, timeout_seconds| v1::WaitVmRequest {
        reference: "box".into(),
        wait: wait.into(),
        timeout_seconds,
    };
    served.vm().wait(wait(v1::WaitFor::Reachable, 20)).await.unwrap();
    let failure = Failure::from(served.vm().wait(wait(v1::WaitFor::Booted, 1)).await.unwrap_err());
    assert!(failure.chain[0].contains("\"booted\""), "{failure}");
    let kill = v1::KillVmRequest { reference: "box".into() };
    finish(served.vm().kill(kill).await.unwrap().into_inner()).await.unwrap();
    let vm = served.vm().wait(wait(v1::WaitFor::Booted, 20)).await.unwrap().into_inner();
    assert_eq!(vm.state(), v1::VmState::Stopped);
}

#[tokio::test]
async fn an_image_of_a_vm_is_not_deleted_and_the_vm_is_named() {
    let served = serve(Site::new()).await;
    served.create("box").await.unwrap();
    let request = v1::DeleteImageRequest { name: "default".into() };
    let failure = Failure::from(served.image().delete(request).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Conflict);
    assert!(failure.chain[0].contains("\"box\""), "{failure}");
    assert!(failure.hints[0].contains("`banger vm delete box`"), "{failure:?}");
}

#[tokio::test]
async fn the_daemon_ends_on_request_but_not_under_an_operation() {
    let site = Site::new();
    site.world.set_script(GuestScript::Silent);
    let served = serve(site).await;
    let events = served.vm().create(create_request("box")).await.unwrap().into_inner();
    soon("the boot", || served.vms.any_alive()).await;
    let failure = Failure::from(served.system().shutdown(v1::ShutdownRequest {}).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Conflict);
    assert!(failure.chain[0].contains("vm.create of box"), "{failure}");
    drop(events);
    soon("the clean-up", || served.vms.list().is_empty()).await;
    soon("the end of the operation", || !served.server.is_finished()).await;
    loop {
        match served.system().shutdown(v1::ShutdownRequest {}).await {
            Ok(_) => break,
            Err(status) => assert_eq!(Failure::from(status).kind, Kind::Conflict),
        }
    }
    tokio::time::timeout(LONG, served.server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn an_ending_daemon_tells_its_watchers_and_leaves_vms_alone() {
    let site = Site::new();
    site.world.set_script(GuestScript::Silent);
    let served = serve(site).await;
    let events = served.vm().create(create_request("box")).await.unwrap().into_inner();
    soon("the boot", || served.vms.any_alive()).await;
    let request = v1::LogsRequest { reference: "box".into(), follow: true };
    let mut log = served.vm().logs(request).await.unwrap().into_inner();
    served.end.cancel();
    let failure = finish(events).await.unwrap_err();
    assert!(failure.chain[0].contains("keeps running"), "{failure}");
    while let Ok(Some(_)) = log.message().await {}
    tokio::time::timeout(LONG, served.server).await.unwrap().unwrap().unwrap();
    assert_eq!(served.site.world.processes().len(), 1);
}

#[tokio::test]
async fn the_daemon_tells_its_version_and_its_view_of_the_host() {
    let served = serve(Site::new()).await;
    let version = served.system().get_version(v1::GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.pid), (banger_proto::version::VERSION, std::process::id()));
    let checks = served.system().doctor(v1::DoctorRequest {}).await.unwrap().into_inner().checks;
    let store = checks.iter().find(|check| check.title == "store").unwrap();
    assert_eq!(store.status(), v1::CheckStatus::Pass);
    assert!(
        checks.iter().all(|check| check.status() == v1::CheckStatus::Pass || check.hint.contains('`')),
        "{checks:?}"
    );
}

#[tokio::test]
async fn a_vm_is_changed_and_shown_as_it_is_then() {
    let served = serve(Site::new()).await;
    served.create("box").await.unwrap();
    let set = v1::SetVmRequest { reference: "box".into(), nat: Some(true), ..v1::SetVmRequest::default() };
    let vm = served.vm().set(set.clone()).await.unwrap().into_inner();
    assert!(vm.spec.unwrap().nat);
    let resize = v1::SetVmRequest { nat: None, memory_mib: Some(512), ..set };
    let failure = Failure::from(served.vm().set(resize).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Conflict);
    let nobody = v1::SetVmRequest { reference: "nobody".into(), nat: Some(true), ..v1::SetVmRequest::default() };
    assert_eq!(Failure::from(served.vm().set(nobody).await.unwrap_err()).kind, Kind::NotFound);
}
