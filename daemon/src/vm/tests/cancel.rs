//! Ctrl-C, and deletes that overtake a creation, at every stage.

use banger_proto::failure::Kind;

use super::harness::*;
use crate::platform::fake::GuestScript;
use crate::vm::state::VmState;

#[tokio::test]
async fn cancelling_a_creation_in_any_stage_leaves_nothing() {
    for stage in ["image", "provision", "launch", "boot"] {
        let site = Site::new();
        let mut asked = request("box");
        match stage {
            "image" => asked.image = Some("endless".parse().unwrap()),
            "boot" => site.world.set_script(GuestScript::Silent),
            method => site.world.hang_in(method),
        }
        let vms = site.daemon().await;
        let (reporter, cancel) = cancellable();
        let creating = tokio::spawn({
            let vms = vms.clone();
            async move { vms.create(asked, &reporter).await }
        });
        match stage {
            "image" => tokio::task::yield_now().await,
            "boot" => {
                site.world.entered("launch").await;
                until(&vms, "box", |snapshot| snapshot.record.state == VmState::Booting).await;
            }
            method => site.world.entered(method).await,
        }
        cancel.cancel();
        let failure = creating.await.unwrap().unwrap_err();
        assert_eq!(failure.kind, Kind::Cancelled, "{stage}: {failure}");
        assert!(failure.left_behind.is_empty(), "{stage}: {failure:?}");
        site.assert_nothing_left(&vms).await;
    }
}

#[tokio::test]
async fn deleting_a_vm_that_is_being_created_cancels_its_creation() {
    for method in ["provision", "launch"] {
        let site = Site::new();
        site.world.hang_in(method);
        let vms = site.daemon().await;
        let creating = tokio::spawn({
            let vms = vms.clone();
            async move { vms.create(request("box"), &quiet()).await }
        });
        site.world.entered(method).await;
        vms.delete(&id(&vms, "box"), &quiet()).await.unwrap();
        let failure = creating.await.unwrap().unwrap_err();
        assert_eq!(failure.kind, Kind::Cancelled, "{method}: {failure}");
        site.assert_nothing_left(&vms).await;
    }
}

#[tokio::test]
async fn cancelling_a_start_leaves_the_vm_stopped() {
    for stage in ["launch", "boot"] {
        let site = Site::new();
        let vms = site.daemon().await;
        let mut asked = request("box");
        asked.start = None;
        let id = vms.create(asked, &quiet()).await.unwrap();
        if stage == "boot" {
            site.world.set_script(GuestScript::Silent);
        } else {
            site.world.hang_in("launch");
        }
        let (reporter, cancel) = cancellable();
        let starting = tokio::spawn({
            let (vms, id) = (vms.clone(), id.clone());
            async move { vms.start(&id, None, booted(), &reporter).await }
        });
        site.world.entered("launch").await;
        if stage == "boot" {
            until(&vms, "box", |snapshot| snapshot.record.state == VmState::Booting).await;
        }
        cancel.cancel();
        let failure = starting.await.unwrap().unwrap_err();
        assert_eq!(failure.kind, Kind::Cancelled, "{stage}: {failure}");
        assert!(!snapshot(&vms, "box").is_alive(), "{stage}");
        assert!(site.world.processes().is_empty(), "{stage}");
        assert_eq!(vms.host().store.intents().await.unwrap(), Vec::new());
        site.assert_consistent(&vms).await;
    }
}

#[tokio::test]
async fn cancelling_a_stop_leaves_the_vm_as_it_was() {
    let site = Site::new();
    site.world.set_script(GuestScript::Stubborn);
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let (reporter, cancel) = cancellable();
    let stopping = tokio::spawn({
        let (vms, id) = (vms.clone(), id.clone());
        async move { vms.stop(&id, None, &reporter).await }
    });
    until(&vms, "box", |snapshot| snapshot.record.state == VmState::Stopping).await;
    cancel.cancel();
    assert_eq!(stopping.await.unwrap().unwrap_err().kind, Kind::Cancelled);
    assert_eq!(snapshot(&vms, "box").record.state, VmState::Running);
    site.assert_consistent(&vms).await;
}
