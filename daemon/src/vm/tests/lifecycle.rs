//! When nothing goes wrong, and when users ask for the impossible.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::guest;

use super::harness::*;
use crate::platform::fake::GuestScript;
use crate::vm::record::{OwnerFile, OwnerMaterial, Workspace};
use crate::vm::state::VmState;

#[tokio::test]
async fn a_created_vm_runs_and_tells_how_to_reach_it() {
    let site = Site::new();
    let vms = site.daemon().await;
    let created = vms.create(request("box"), &quiet()).await.unwrap();
    let snapshot = snapshot(&vms, "box");
    assert_eq!(snapshot.record.id, created);
    assert_eq!(snapshot.record.state, VmState::Running);
    assert_eq!(snapshot.record.boot_id, "boot-1");
    assert!(snapshot.record.reachable_after_ms > 0 && snapshot.record.booted_after_ms > 0);
    assert!(snapshot.record.runtime.is_some() && snapshot.record.last_error.is_empty());
    assert_eq!(vms.host().store.intents().await.unwrap(), Vec::new());
    site.assert_consistent(&vms).await;
}

#[tokio::test]
async fn the_guest_is_told_who_it_is_before_its_first_boot() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let seed = site.world.seed(&id).unwrap();
    assert_eq!(seed.hostname, "box");
    assert_eq!(seed.authorized_keys, ["ssh-ed25519 AAAA me"]);
    assert!(seed.ssh_host_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert_eq!(seed.init_path, "/sbin/init");
    assert_eq!(seed.network.unwrap().address, "10.0.2.15");
}

#[tokio::test]
async fn a_restart_keeps_identity_and_owner_and_takes_new_files_when_given() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let first = site.world.seed(&id).unwrap();
    vms.stop(&id, None, &quiet()).await.unwrap();
    vms.start(&id, None, booted(), &quiet()).await.unwrap();
    let second = site.world.seed(&id).unwrap();
    assert_eq!(first.ssh_host_key, second.ssh_host_key);
    assert_eq!(first.authorized_keys, second.authorized_keys);

    let file = OwnerFile { path: b".netrc".to_vec(), mode: 0o600, content: b"x".to_vec() };
    let owner = OwnerMaterial { files: vec![file.clone()], ..OwnerMaterial::default() };
    vms.stop(&id, None, &quiet()).await.unwrap();
    vms.start(&id, Some(owner), booted(), &quiet()).await.unwrap();
    assert_eq!(site.world.seed(&id).unwrap().files[0].path, file.path);
    assert_eq!(vms.host().store.vms().await.unwrap()[0].owner.files, [file]);
}

#[tokio::test]
async fn a_stopped_vm_keeps_its_disks_and_starts_again() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    vms.stop(&id, None, &quiet()).await.unwrap();
    let stopped = snapshot(&vms, "box");
    assert_eq!((stopped.record.state, stopped.record.unclean), (VmState::Stopped, false));
    assert!(site.world.processes().is_empty() && site.world.directories().len() == 1);
    vms.start(&id, None, booted(), &quiet()).await.unwrap();
    assert_eq!(snapshot(&vms, "box").record.state, VmState::Running);
    site.assert_consistent(&vms).await;
}

#[tokio::test]
async fn deleting_a_running_vm_leaves_nothing() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    vms.delete(&id, &quiet()).await.unwrap();
    site.assert_nothing_left(&vms).await;
    assert_eq!(vms.find("box").unwrap_err().kind, Kind::NotFound);
    assert_eq!(vms.delete(&id, &quiet()).await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn a_vm_can_be_created_without_being_started() {
    let site = Site::new();
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.start = None;
    let id = vms.create(asked, &quiet()).await.unwrap();
    assert_eq!(snapshot(&vms, "box").record.state, VmState::Provisioned);
    assert_eq!(vms.host().store.intents().await.unwrap(), Vec::new());
    vms.start(&id, None, reachable(), &quiet()).await.unwrap();
    site.assert_consistent(&vms).await;
}

#[tokio::test]
async fn of_two_creations_with_one_name_exactly_one_wins() {
    let site = Site::new();
    let vms = site.daemon().await;
    let attempts = (0..8).map(|_| {
        let vms = vms.clone();
        tokio::spawn(async move { vms.create(request("box"), &quiet()).await })
    });
    let mut won = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(failure) => assert_eq!(failure.kind, Kind::Conflict, "{failure}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(names(&vms), ["box"]);
    site.assert_consistent(&vms).await;
}

#[tokio::test]
async fn unnamed_vms_get_different_names() {
    let site = Site::new();
    let vms = site.daemon().await;
    for _ in 0..3 {
        let mut asked = request("unused");
        asked.name = None;
        vms.create(asked, &quiet()).await.unwrap();
    }
    let mut all = names(&vms);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_before_anything_exists() {
    let site = Site::new();
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.spec.vcpu_count = 0;
    assert_eq!(vms.create(asked, &quiet()).await.unwrap_err().kind, Kind::Usage);
    site.assert_nothing_left(&vms).await;
}

#[tokio::test]
async fn a_running_vm_is_not_started_twice_and_a_resting_one_is_stopped_with_a_warning() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let failure = vms.start(&id, None, booted(), &quiet()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Conflict);
    assert!(failure.hints[0].contains("banger vm restart box"), "{failure:?}");
    vms.stop(&id, None, &quiet()).await.unwrap();
    let (reporter, mut told) = recorded();
    vms.stop(&id, None, &reporter).await.unwrap();
    let event = format!("{:?}", told.try_recv().unwrap());
    assert!(event.contains("was not running"), "{event}");
}

#[tokio::test]
async fn a_guest_that_will_not_power_off_is_killed_and_called_unclean() {
    let site = Site::new();
    site.world.set_script(GuestScript::Stubborn);
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let (reporter, mut told) = recorded();
    vms.stop(&id, Some(Duration::from_millis(100)), &reporter).await.unwrap();
    let stopped = snapshot(&vms, "box");
    assert_eq!((stopped.record.state, stopped.record.unclean), (VmState::Stopped, true));
    let mut events = String::new();
    while let Ok(event) = told.try_recv() {
        events += &format!("{event:?}\n");
    }
    assert!(events.contains("unsynced writes may be lost"), "{events}");

    site.world.set_script(GuestScript::Obliging);
    vms.start(&id, None, booted(), &quiet()).await.unwrap();
    assert!(!snapshot(&vms, "box").record.unclean, "a new start wipes the slate");
}

#[tokio::test]
async fn a_kill_cuts_a_stop_short() {
    let site = Site::new();
    site.world.set_script(GuestScript::Stubborn);
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let stopping = tokio::spawn({
        let (vms, id) = (vms.clone(), id.clone());
        async move { vms.stop(&id, Some(Duration::from_secs(600)), &quiet()).await }
    });
    until(&vms, "box", |snapshot| snapshot.record.state == VmState::Stopping).await;
    vms.kill(&id, &quiet()).await.unwrap();
    stopping.await.unwrap().unwrap();
    let stopped = snapshot(&vms, "box");
    assert_eq!((stopped.record.state, stopped.record.unclean), (VmState::Stopped, true));
    site.assert_consistent(&vms).await;
}

#[tokio::test]
async fn a_vmm_that_ends_by_itself_is_noticed() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    site.world.end_process(&id);
    let stopped = until(&vms, "box", |snapshot| !snapshot.is_alive()).await;
    assert_eq!(stopped.record.state, VmState::Stopped);
    assert!(stopped.control.is_none());
}

#[tokio::test]
async fn the_guest_answers_questions() {
    let site = Site::new();
    let vms = site.daemon().await;
    vms.create(request("box"), &quiet()).await.unwrap();
    let control = snapshot(&vms, "box").control.unwrap();
    let question = guest::v1::host_frame::Request::ListPorts(guest::v1::ListPorts {});
    let guest::v1::guest_frame::Body::Ports(ports) = control.request(question, LONG).await.unwrap() else {
        panic!("not ports")
    };
    assert_eq!(ports.ports.len(), 3);
    let question = guest::v1::host_frame::Request::GetStats(guest::v1::GetStats {});
    let error = control.request(question, LONG).await.unwrap_err();
    assert_eq!(error.to_string(), "the guest refused: not in this test");
}

#[tokio::test]
async fn the_workspace_of_a_vm_survives_the_daemon() {
    let site = Site::new();
    let workspace = Workspace {
        guest_path: b"/root/repo".to_vec(),
        source_path: b"/home/me/\xff".to_vec(),
        head_commit: "c0ffee".into(),
        tree_digest: "d".into(),
        prepared_unix_ms: 7,
    };
    {
        let vms = site.daemon().await;
        vms.create(request("box"), &quiet()).await.unwrap();
        vms.find("box").unwrap().record_workspace(workspace.clone()).await.unwrap();
        vms.close().await;
    }
    let vms = site.daemon().await;
    assert_eq!(snapshot(&vms, "box").record.workspace, Some(workspace));
}

#[tokio::test]
async fn an_image_in_use_is_not_deleted() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let image = "default".parse().unwrap();
    let users = vms.unless_image_used(&image, async { panic!("must not run") }).await.unwrap_err();
    assert_eq!(users[0].as_str(), "box");
    vms.delete(&id, &quiet()).await.unwrap();
    vms.unless_image_used(&image, async {}).await.unwrap();
}
