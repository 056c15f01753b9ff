//! Finding, ending and removing VMs, and keeping the network right.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::root::v1::Refusal;
use banger_proto::v1;

use super::fixture::{Fixture, skipped};
use super::root_client::Mishap;
use crate::platform::{Observed, Platform as _, VmPlan};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_killed_vmm_is_gone_and_can_be_killed_again() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    let gone = fixture.platform.wait_gone(&running.process);
    fixture.platform.kill(&plan, Some(&running.process)).await.unwrap();
    tokio::time::timeout(LONG, gone).await.unwrap();
    assert_eq!(fixture.platform.inspect(&plan, Some(&running.process)).await.unwrap(), Observed::Gone);
    fixture.platform.kill(&plan, Some(&running.process)).await.unwrap();
    fixture.platform.kill(&fixture.plan(2), None).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_was_started_for_a_daemon_that_died_is_found_and_its_key_does_not_stay() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    fixture.platform.launch_vmm(&plan, "op-test").await.unwrap();
    let initrd = fixture.files(&plan).initrd;
    std::fs::write(&initrd, "key").unwrap();
    assert!(matches!(fixture.platform.inspect(&plan, None).await.unwrap(), Observed::Running(_)));
    assert!(!initrd.exists());
}

#[tokio::test]
async fn a_vmm_is_not_taken_for_gone_because_the_helper_is_away() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    // The next daemon, with no handles yet and for a while no helper.
    let next = fixture.another_platform();
    let socket = fixture.root().join("helper.sock");
    let aside = fixture.root().join("aside.sock");
    std::fs::rename(&socket, &aside).unwrap();
    let mut gone = next.wait_gone(&running.process);
    assert!(tokio::time::timeout(Duration::from_millis(800), &mut gone).await.is_err());
    std::fs::rename(&aside, &socket).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1500), &mut gone).await.is_err());
    fixture.helper.state().end(plan.id.as_str());
    tokio::time::timeout(LONG, gone).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_removed_vm_is_left_and_removing_it_again_is_fine() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.started(&plan).await;
    assert!(fixture.platform.teardown(&plan).await.is_empty());
    assert!(fixture.helper.state().vms.is_empty() && !plan.directory.exists());
    assert!(fixture.platform.teardown(&plan).await.is_empty(), "the helper does not know it any more");
    assert_eq!(fixture.platform.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn what_the_helper_cannot_take_away_does_not_keep_our_own_files() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let refusal = Refusal {
        kind: v1::FailureKind::Failed as u32,
        chain: vec!["cannot take away everything".into()],
        left_behind: vec!["cannot remove the tap: busy".into()],
        ..Refusal::default()
    };
    fixture.helper.next("TeardownVm", Mishap::Refuse(refusal));
    let errors = fixture.platform.teardown(&plan).await;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].left_behind, ["cannot remove the tap: busy"]);
    assert!(!plan.directory.exists());
    // It is found again as an orphan.
    assert_eq!(fixture.platform.inventory().await.unwrap(), std::slice::from_ref(&plan.id));
    assert!(fixture.platform.remove_orphan(&plan.id).await.is_empty());
    assert_eq!(fixture.platform.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn what_others_took_from_the_network_is_put_back_and_a_look_alone_changes_nothing() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = VmPlan { nat: true, ..fixture.plan(1) };
    fixture.started(&plan).await;
    let wanted = || vec![plan.clone()];
    fixture.helper.asked();
    assert!(fixture.platform.reassert(&wanted).await.unwrap().is_empty());
    assert_eq!(fixture.helper.asked(), ["Inventory"]);

    {
        let mut state = fixture.helper.state();
        (state.network_ready, state.resolver_ready) = (false, false);
        state.vms.get_mut(plan.id.as_str()).unwrap().nat = false;
    }
    fixture.platform.reassert(&wanted).await.unwrap();
    let asked = fixture.helper.asked();
    assert_eq!(asked, ["Inventory", "Inventory", "EnsureNetwork", "SetNat", "SetResolver"]);
    let state = fixture.helper.state();
    assert!(state.network_ready && state.resolver_ready && state.vms[plan.id.as_str()].nat);
}

#[tokio::test]
async fn one_repair_that_fails_does_not_stop_the_others() {
    let fixture = Fixture::new();
    {
        let mut state = fixture.helper.state();
        (state.network_ready, state.resolver_ready) = (false, false);
    }
    let refusal = Refusal {
        kind: v1::FailureKind::HostNotReady as u32,
        chain: vec!["no bridge today".into()],
        ..Refusal::default()
    };
    fixture.helper.next("EnsureNetwork", Mishap::Refuse(refusal));
    let error = fixture.platform.reassert(&Vec::new).await.unwrap_err();
    assert_eq!((error.kind, error.attempt.as_str()), (Kind::HostNotReady, "no bridge today"));
    assert!(fixture.helper.state().resolver_ready);
}

#[tokio::test]
async fn a_store_that_fills_is_noticed() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.started(&plan).await;
    {
        let mut state = fixture.helper.state();
        let held = state.vms.get_mut(plan.id.as_str()).unwrap();
        (held.copy_on_write_used_sectors, held.copy_on_write_total_sectors) = (96, 100);
    }
    let wanted = || vec![plan.clone()];
    let notices = fixture.platform.reassert(&wanted).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].text.contains("96 %"), "{notices:?}");
    assert!(fixture.platform.reassert(&wanted).await.unwrap().is_empty(), "told once");
}
