//! Directories, disks and what the helper makes; and what is left when that fails.

use banger_proto::failure::Kind;
use banger_proto::root::v1::Refusal;
use banger_proto::v1;

use super::fixture::{Fixture, skipped};
use super::root_client::Mishap;
use crate::platform::{Platform as _, VmPlan};
use crate::vm::record::{PublishedPort, VmSpec};

fn refusal() -> Refusal {
    Refusal {
        kind: v1::FailureKind::HostNotReady as u32,
        chain: vec!["cannot create the root disk".into(), "cannot open the image".into(), "No such file".into()],
        hints: vec!["Look at it with `ls`.".into()],
        left_behind: vec!["a loop device".into()],
    }
}

#[tokio::test]
async fn a_vm_gets_its_disks_and_its_link_and_nothing_runs_yet() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    assert!(fixture.files(&plan).work_disk.exists());
    let held = fixture.helper.state().vms[plan.id.as_str()].clone();
    assert_eq!((held.address, held.root_disk, held.pid), (0xac10_0002, true, 0));
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    assert_eq!(fixture.platform.inventory().await.unwrap(), [plan.id]);
}

#[tokio::test]
async fn a_failure_leaves_nothing_and_keeps_every_word_of_the_helper() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.helper.next("CreateRootDisk", Mishap::Refuse(refusal()));
    let error = fixture.platform.provision(&plan, &fixture.reporter).await.unwrap_err();
    let failure = banger_proto::failure::Failure::from_error(&error);
    assert_eq!(failure.kind, Kind::HostNotReady);
    assert_eq!(failure.chain, refusal().chain);
    assert_eq!(failure.hints, refusal().hints);
    assert_eq!(error.left_behind, refusal().left_behind);
    assert!(!plan.directory.exists());
    assert!(fixture.helper.state().vms.is_empty());
}

#[tokio::test]
async fn a_failure_takes_nothing_of_an_earlier_call() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    fixture.helper.next("CreateRootDisk", Mishap::Refuse(refusal()));
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap_err();
    assert!(fixture.files(&plan).work_disk.exists());
    assert!(fixture.helper.state().vms.contains_key(plan.id.as_str()));
}

#[tokio::test]
async fn an_image_outside_the_store_is_a_bug_and_not_a_request() {
    let fixture = Fixture::new();
    let plan = VmPlan { rootfs: "/tmp/rootfs.ext4".into(), ..fixture.plan(1) };
    if skipped() {
        return;
    }
    let error = fixture.platform.provision(&plan, &fixture.reporter).await.unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert!(fixture.helper.asked().is_empty());
}

#[tokio::test]
async fn published_ports_are_refused_with_the_way_that_works_here() {
    let fixture = Fixture::new();
    let spec =
        |published_ports| VmSpec { vcpu_count: 1, memory_mib: 256, work_disk_mib: 64, nat: false, published_ports };
    fixture.platform.check(&spec(Vec::new())).unwrap();
    let error = fixture.platform.check(&spec(vec![PublishedPort { host: 80, guest: 80 }])).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.hints[0].contains("`NAME.vm:PORT`"), "{:?}", error.hints);
    let error = fixture.platform.check(&VmSpec { vcpu_count: 33, ..spec(Vec::new()) }).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
}
