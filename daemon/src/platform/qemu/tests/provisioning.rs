//! Directories and disks, and what is left when making them fails.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use banger_proto::failure::Kind;

use super::super::tools::QEMU_IMG;
use super::fixture::{Fixture, cancelled, skipped, told};
use crate::platform::programs::{self, Program};
use crate::platform::work_disk::MKE2FS;
use crate::platform::{Platform as _, VmPlan};

fn read(program: Program, arguments: &[&str]) -> String {
    let output = Command::new(programs::find(program).unwrap()).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn disks_have_the_asked_sizes_and_take_no_space() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = VmPlan { work_disk_mib: 20 * 1024, ..fixture.plan(1) };
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();

    let root = plan.directory.join("root.qcow2");
    let described: serde_json::Value =
        serde_json::from_str(&read(QEMU_IMG, &["info", "--output=json", root.to_str().unwrap()])).unwrap();
    assert_eq!(described["virtual-size"], 1 << 20);
    assert_eq!(described["backing-filename"], plan.rootfs.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(described["backing-filename-format"], "raw");

    let work = plan.directory.join("work.ext4");
    let found = std::fs::metadata(&work).unwrap();
    assert_eq!(found.len(), 20 << 30);
    assert!(found.blocks() * 512 < 16 << 20, "{} KiB used", found.blocks() / 2);
    assert_eq!(found.mode() & 0o777, 0o600);
    let top = read(Program { name: "debugfs", ..MKE2FS }, &["-R", "stat /", work.to_str().unwrap()]);
    let words: Vec<&str> = top.split_ascii_whitespace().collect();
    for pair in [["Mode:", "0755"], ["User:", "0"], ["Group:", "0"]] {
        assert!(words.windows(2).any(|found| found == pair), "{pair:?} in {top}");
    }
}

#[tokio::test]
async fn a_failure_leaves_nothing() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = VmPlan { rootfs: fixture.root().join("no-such-image"), ..fixture.plan(1) };
    let error = fixture.platform.provision(&plan, &fixture.reporter).await.unwrap_err();
    assert!(told(&error).contains("no-such-image"), "{}", told(&error));
    let cancelled = fixture.platform.provision(&fixture.plan(1), &cancelled()).await.unwrap_err();
    assert_eq!(cancelled.kind, Kind::Cancelled);
    // Too small for a filesystem: the tool's own words.
    let tiny = VmPlan { work_disk_mib: 0, ..fixture.plan(1) };
    let error = fixture.platform.provision(&tiny, &fixture.reporter).await.unwrap_err();
    assert!(told(&error).contains("mke2fs said: "), "{}", told(&error));
    assert!(!plan.directory.exists() && !plan.runtime_directory.exists());
}

#[tokio::test]
async fn provisioning_again_keeps_what_is_complete_and_redoes_the_rest() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    let (root, work) = (plan.directory.join("root.qcow2"), plan.directory.join("work.ext4"));
    let kept = std::fs::metadata(&work).unwrap().ino();
    // As a crash in the middle would leave it.
    std::fs::rename(&root, plan.directory.join("root.qcow2.new")).unwrap();

    let broken = VmPlan { rootfs: fixture.root().join("no-such-image"), ..plan.clone() };
    fixture.platform.provision(&broken, &fixture.reporter).await.unwrap_err();
    assert_eq!(std::fs::metadata(&work).unwrap().ino(), kept, "a failure undoes only its own work");

    fixture.platform.provision(&plan, &fixture.reporter).await.unwrap();
    assert_eq!(std::fs::metadata(&work).unwrap().ino(), kept);
    let mut names: Vec<_> =
        std::fs::read_dir(&plan.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["root.qcow2", "work.ext4"]);
}
