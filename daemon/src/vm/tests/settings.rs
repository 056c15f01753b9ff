//! Addresses, and what can be changed on a VM that exists.

use std::net::Ipv4Addr;
use std::time::Duration;

use banger_proto::failure::Kind;

use super::harness::*;
use crate::platform::Notice;
use crate::platform::fake::{GuestScript, Mishap, UNWANTED_DISK_MIB};
use crate::vm::driver::Change;
use crate::vm::record::VmSpec;

fn on_a_network() -> Site {
    let site = Site::new();
    site.world.set_pool("172.16.0.0/28".parse().unwrap());
    site
}

#[tokio::test]
async fn every_vm_has_an_address_of_its_own_and_tells_its_guest() {
    let site = on_a_network();
    let vms = site.daemon().await;
    let mut creating = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let vms = vms.clone();
        creating.spawn(async move { vms.create(request(name), &quiet()).await });
    }
    while let Some(created) = creating.join_next().await {
        created.unwrap().unwrap();
    }
    let mut addresses: Vec<Ipv4Addr> = vms.list().iter().map(|one| one.record.address.unwrap()).collect();
    for one in vms.list() {
        let told = site.world.seed(&one.record.id).unwrap().network.unwrap().address;
        assert_eq!(told, one.record.address.unwrap().to_string());
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    let stored = vms.host().store.vms().await.unwrap();
    assert!(stored.iter().all(|record| record.address.is_some()));
}

#[tokio::test]
async fn a_full_network_is_told_and_a_deleted_vm_makes_room() {
    let site = on_a_network();
    let vms = site.daemon().await;
    for number in 0..13 {
        let mut asked = request(&format!("box-{number}"));
        asked.start = None;
        vms.create(asked, &quiet()).await.unwrap();
    }
    let failure = vms.create(request("more"), &quiet()).await.unwrap_err();
    assert_eq!(failure.kind, Kind::HostNotReady);
    assert!(failure.to_string().contains("13 addresses of the network 172.16.0.0/28"), "{failure}");
    assert!(failure.hints[0].contains("`banger vm list`"), "{failure:?}");
    let freed = snapshot(&vms, "box-7").record.address;
    vms.delete(&id(&vms, "box-7"), &quiet()).await.unwrap();
    vms.create(request("more"), &quiet()).await.unwrap();
    assert_eq!(snapshot(&vms, "more").record.address, freed);
}

#[tokio::test]
async fn what_a_platform_cannot_have_is_refused_before_anything_is_made() {
    let site = Site::new();
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.spec.work_disk_mib = UNWANTED_DISK_MIB;
    let failure = vms.create(asked, &quiet()).await.unwrap_err();
    assert!(failure.to_string().contains("no such disks here"), "{failure}");
    site.assert_nothing_left(&vms).await;
}

#[tokio::test]
async fn nat_is_switched_while_the_vm_runs_and_size_only_at_rest() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let handle = vms.find("box").unwrap();
    handle.set(Change { nat: Some(true), ..Change::default() }).await.unwrap();
    assert_eq!(site.world.nat(&id), Some(true));

    let resize = Change { vcpu_count: Some(2), memory_mib: Some(512), nat: None };
    let error = handle.set(resize).await.unwrap_err();
    let failure = banger_proto::failure::Failure::from_error(&error);
    assert_eq!(failure.kind, Kind::Conflict);
    assert!(failure.hints[0].contains("`banger vm stop box`"), "{failure:?}");
    vms.stop(&id, None, &quiet()).await.unwrap();
    handle.set(resize).await.unwrap();
    let stored = vms.host().store.vms().await.unwrap()[0].spec.clone();
    assert_eq!(stored, VmSpec { vcpu_count: 2, memory_mib: 512, nat: true, ..request("box").spec });
}

#[tokio::test]
async fn a_change_that_cannot_be_had_changes_nothing() {
    let site = Site::new();
    let vms = site.daemon().await;
    let id = vms.create(request("box"), &quiet()).await.unwrap();
    let handle = vms.find("box").unwrap();
    site.world.arm(1, Mishap::Fail);
    handle.set(Change { nat: Some(true), ..Change::default() }).await.unwrap_err();
    assert!(!snapshot(&vms, "box").record.spec.nat);
    assert!(!vms.host().store.vms().await.unwrap()[0].spec.nat);

    vms.stop(&id, None, &quiet()).await.unwrap();
    let error = handle.set(Change { vcpu_count: Some(4000), ..Change::default() }).await.unwrap_err();
    assert!(error.to_string().contains("4000"), "{error}");
    let nothing = handle.set(Change::default()).await.unwrap_err();
    assert!(nothing.to_string().contains("nothing to change"), "{nothing}");
    assert_eq!(snapshot(&vms, "box").record.spec, request("box").spec);
}

#[tokio::test]
async fn a_daemon_that_watches_passes_on_what_was_noticed_and_knows_current_settings() {
    let site = Site::new();
    site.world.set_script(GuestScript::OnlyReachable);
    let vms = site.daemon().await;
    let mut asked = request("box");
    asked.start = Some(reachable());
    let id = vms.create(asked, &quiet()).await.unwrap();
    vms.find("box").unwrap().set(Change { nat: Some(true), ..Change::default() }).await.unwrap();
    site.world.notice(Notice { vm: id.clone(), text: "its root disk is nearly full".into() });
    let watching = tokio::spawn(vms.clone().watch(Duration::from_millis(10)));
    until(&vms, "box", |snapshot| snapshot.record.last_error.contains("nearly full")).await;
    assert_eq!(site.world.nat(&id), Some(true));
    vms.host().closing.cancel();
    tokio::time::timeout(LONG, watching).await.unwrap().unwrap();
}
