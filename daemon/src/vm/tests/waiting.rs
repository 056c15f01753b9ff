//! Guests that do not come up, and what users are told.

use std::time::Duration;

use banger_proto::failure::Kind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::harness::*;
use crate::platform::fake::GuestScript;
use crate::vm::state::VmState;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_guest_that_never_answers_is_kept_and_the_stage_is_named() {
    for (script, stage, state) in [
        (GuestScript::Silent, "\"boot\"", VmState::Broken),
        (GuestScript::Speechless, "\"reachable\"", VmState::Broken),
        (GuestScript::OnlyReachable, "\"booted\"", VmState::Running),
    ] {
        let site = Site::new().impatient(SHORT);
        site.world.set_script(script);
        let vms = site.daemon().await;
        let failure = vms.create(request("box"), &quiet()).await.unwrap_err();
        assert!(failure.chain[0].contains(stage) && failure.chain[0].contains("\"box\""), "{failure}");
        for command in ["banger vm logs box", "banger vm ports box", "banger vm show box"] {
            assert!(failure.hints.iter().any(|hint| hint.contains(command)), "{failure:?}");
        }
        let kept = until(&vms, "box", |snapshot| !snapshot.record.last_error.is_empty()).await;
        assert_eq!(kept.record.state, state);
        assert!(kept.is_alive());
        site.assert_consistent(&vms).await;
        // Ways out of it.
        let id = kept.record.id.clone();
        if state == VmState::Broken {
            assert_eq!(vms.start(&id, None, booted(), &quiet()).await.unwrap_err().kind, Kind::Conflict);
        }
        vms.delete(&id, &quiet()).await.unwrap();
        site.assert_nothing_left(&vms).await;
    }
}

#[tokio::test]
async fn an_init_that_fails_is_told_with_its_stage_and_reason() {
    let site = Site::new();
    site.world.set_script(GuestScript::Failing);
    let vms = site.daemon().await;
    let failure = vms.create(request("box"), &quiet()).await.unwrap_err();
    assert!(failure.chain[0].contains("\"mount\""), "{failure}");
    assert_eq!(failure.chain[1], "no root disk [2J", "control characters of a guest are not passed on");
    let kept = snapshot(&vms, "box");
    assert_eq!(kept.record.state, VmState::Broken);
    assert!(kept.record.last_error.contains("no root disk"), "{}", kept.record.last_error);
}

#[tokio::test]
async fn a_vmm_that_dies_while_booting_leaves_its_last_words() {
    let site = Site::new();
    site.world.set_script(GuestScript::Dying);
    let vms = site.daemon().await;
    let failure = vms.create(request("box"), &quiet()).await.unwrap_err();
    assert!(failure.to_string().contains("Kernel panic - not syncing"), "{failure}");
    let kept = snapshot(&vms, "box");
    assert_eq!((kept.record.state, kept.is_alive()), (VmState::Broken, false));
    site.assert_consistent(&vms).await;

    site.world.set_script(GuestScript::Obliging);
    vms.start(&kept.record.id, None, booted(), &quiet()).await.unwrap();
    let started = snapshot(&vms, "box");
    assert_eq!((started.record.state, started.record.last_error.as_str()), (VmState::Running, ""));
}

#[tokio::test]
async fn booted_means_that_the_ssh_server_of_the_image_answers() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    site.world.set_ssh_address(listener.local_addr().unwrap());
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.image = Some("with-sshd".parse().unwrap());
    let creating = tokio::spawn({
        let vms = vms.clone();
        async move { vms.create(asked, &quiet()).await }
    });
    // A forwarded port accepts and hangs up as long as nobody listens in the guest.
    drop(listener.accept().await.unwrap());
    assert!(!creating.is_finished());
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"SSH-2.0-test\r\n").await.unwrap();
    creating.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_ssh_server_that_never_answers_is_its_own_stage() {
    let site = Site::new().impatient(Duration::from_millis(700));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    site.world.set_ssh_address(listener.local_addr().unwrap());
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.image = Some("with-sshd".parse().unwrap());
    let failure = vms.create(asked, &quiet()).await.unwrap_err();
    assert!(failure.chain[0].contains("\"ssh\""), "{failure}");
    assert_eq!(snapshot(&vms, "box").record.state, VmState::Running);
}

#[tokio::test]
async fn what_went_wrong_in_the_guest_is_passed_on_as_a_warning() {
    let site = Site::new();
    let vms = site.daemon().await;
    let (reporter, mut told) = recorded();
    vms.create(request("box"), &reporter).await.unwrap();
    let mut events = String::new();
    while let Ok(event) = told.try_recv() {
        events += &format!("{event:?}\n");
    }
    assert!(events.contains("in the guest: the clock was off"), "{events}");
    let stages = ["image", "disks", "launch", "boot", "reachable", "booted"];
    let positions: Vec<_> = stages.map(|stage| events.find(&format!("name: {stage:?}")).expect(stage)).to_vec();
    assert!(positions.is_sorted(), "{events}");
}

#[tokio::test]
async fn waiting_ends_when_the_vm_is_deleted_or_the_daemon_ends() {
    let site = Site::new();
    site.world.set_script(GuestScript::Silent);
    let vms = site.daemon().await;
    let creating = tokio::spawn({
        let vms = vms.clone();
        async move { vms.create(request("box"), &quiet()).await }
    });
    site.world.entered("launch").await;
    while vms.find("box").is_err() {
        tokio::task::yield_now().await;
    }
    until(&vms, "box", |snapshot| snapshot.record.state == VmState::Booting).await;
    vms.delete(&id(&vms, "box"), &quiet()).await.unwrap();
    let failure = creating.await.unwrap().unwrap_err();
    assert!(failure.chain[0].contains("deleted while waiting"), "{failure}");
    site.assert_nothing_left(&vms).await;

    let starting = tokio::spawn({
        let vms = vms.clone();
        async move { vms.create(request("other"), &quiet()).await }
    });
    while vms.find("other").is_err() {
        tokio::task::yield_now().await;
    }
    until(&vms, "other", |snapshot| snapshot.record.state == VmState::Booting).await;
    vms.host().closing.cancel();
    let failure = starting.await.unwrap().unwrap_err();
    assert!(failure.chain[0].contains("shutting down"), "{failure}");
    assert!(snapshot(&vms, "other").is_alive(), "the VM survives the daemon");
}
