//! From the plan to a started guest, and every way not to get there.

use banger_proto::failure::Kind;
use banger_proto::root::v1::Refusal;
use banger_proto::v1;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, skipped};
use super::root_client::FakeVmm;
use super::root_client::Mishap;
use crate::platform::{Observed, Platform as _, VmPlan};
use crate::reporter::Reporter;

#[tokio::test]
async fn a_guest_is_started_with_everything_it_needs_and_its_key_does_not_stay_on_the_disk() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = VmPlan { nat: true, ..fixture.plan(1) };
    let running = fixture.started(&plan).await;
    assert_eq!(running.agent_address, "172.16.0.2:4022".parse().unwrap());
    assert_eq!(running.ssh_address, Some("172.16.0.2:22".parse().unwrap()));
    assert!(fixture.helper.state().vms[plan.id.as_str()].nat);
    let files = fixture.files(&plan);
    assert!(!files.initrd.exists());
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(files.config).unwrap()).unwrap();
    assert_eq!(told["boot-source"]["initrd_path"], "/initrd");
    assert_eq!(fixture.platform.inspect(&plan, None).await.unwrap(), Observed::Running(running));
}

#[tokio::test]
async fn what_was_made_a_moment_ago_is_not_looked_for_but_everything_else_is() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.started(&plan).await;
    assert_eq!(fixture.helper.asked(), ["AttachLink", "CreateRootDisk", "LaunchVm"]);
    fixture.platform.kill(&plan, None).await.unwrap();
    fixture.helper.asked();
    // A reboot of the host in between.
    fixture.helper.state().vms.get_mut(plan.id.as_str()).unwrap().address = 0;
    fixture.launch(&plan).await.unwrap();
    assert_eq!(fixture.helper.asked(), ["Inventory", "AttachLink", "LaunchVm"]);
    fixture.platform.kill(&plan, None).await.unwrap();
    fixture.helper.asked();
    // What is there already was not made now.
    fixture.started(&plan).await;
    assert_eq!(fixture.helper.asked(), ["AttachLink", "CreateRootDisk", "Inventory", "LaunchVm"]);
}

#[tokio::test]
async fn a_vm_runs_once() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.started(&plan).await;
    let error = fixture.launch(&plan).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "{error}");
}

#[tokio::test]
async fn a_vmm_that_ends_instead_of_starting_leaves_no_process_and_no_key() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    fixture.helper.state().vmm = FakeVmm::EndsAtOnce;
    let plan = fixture.plan(1);
    fixture.helper.state().console = fixture.files(&plan).console;
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let error = fixture.launch(&plan).await.unwrap_err();
    let told = banger_proto::failure::Failure::from_error(&error).to_string();
    assert!(told.contains("it ended"), "{told}");
    let words = format!("\"no such tap\"; read all of it with `banger vm logs {}`", plan.name);
    assert!(error.hints.iter().any(|hint| hint.contains(&words)), "{:?}", error.hints);
    assert_eq!(fixture.helper.state().vms[plan.id.as_str()].pid, 0);
    assert!(!fixture.files(&plan).initrd.exists());
    fixture.helper.state().vmm = FakeVmm::Obliging;
    fixture.launch(&plan).await.unwrap();
}

#[tokio::test]
async fn a_start_that_was_cancelled_meanwhile_is_ended() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let cancel = CancellationToken::new();
    let reporter = Reporter::new("op-test".into(), tokio::sync::mpsc::unbounded_channel().0, cancel.clone());
    cancel.cancel();
    let error = fixture.platform.launch(&plan, &Default::default(), &reporter).await.unwrap_err();
    assert_eq!((error.kind, error.left_behind), (Kind::Cancelled, Vec::new()));
    assert!(fixture.helper.asked().iter().any(|asked| asked == "LaunchVm"));
    assert_eq!(fixture.helper.state().vms[plan.id.as_str()].pid, 0);
    assert!(!fixture.files(&plan).initrd.exists());
}

#[tokio::test]
async fn a_launch_is_never_asked_for_twice_but_everything_else_is() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.helper.next("CreateRootDisk", Mishap::HangUp);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    fixture.helper.asked();
    fixture.helper.next("LaunchVm", Mishap::HangUp);
    let error = fixture.launch(&plan).await.unwrap_err();
    assert_eq!(error.kind, Kind::Failed);
    assert!(error.hints[0].contains("`journalctl -u bangerd-root`"), "{:?}", error.hints);
    assert_eq!(fixture.helper.asked().iter().filter(|asked| *asked == "LaunchVm").count(), 1);
}

#[tokio::test]
async fn a_helper_that_is_not_there_is_named_with_the_way_to_start_it() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.root().join("helper.sock")).unwrap();
    let error = fixture.platform.provision(&fixture.plan(1), &fixture.reporter).await.unwrap_err();
    assert_eq!(error.kind, Kind::HostNotReady);
    assert!(error.hints[0].contains("`sudo systemctl start bangerd-root`"), "{:?}", error.hints);
    assert!(!fixture.plan(1).directory.exists());
}

#[tokio::test]
async fn a_refused_launch_is_told_in_the_helpers_words() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let refusal = Refusal {
        kind: v1::FailureKind::Failed as u32,
        chain: vec!["cannot launch the VM".into(), "why".into()],
        ..Refusal::default()
    };
    fixture.helper.next("LaunchVm", Mishap::Refuse(refusal));
    let error = fixture.launch(&plan).await.unwrap_err();
    assert_eq!(banger_proto::failure::Failure::from_error(&error).to_string(), "cannot launch the VM: why");
}
