//! From provision to teardown.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use super::fixture::{Fixture, eventually, skipped};
use super::tiny_kernel;
use crate::platform::{Observed, Platform as _};

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_lives_and_leaves_no_trace() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let (platform, plan) = (&fixture.platform, fixture.plan(1));
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
    let running = fixture.started(&plan).await;

    assert_eq!(fixture.observed(&plan).await, Observed::Running(running.clone()));
    assert!(!plan.directory.join("initrd.cpio").exists(), "the guest's private key is not left on the disk");
    for directory in [&plan.directory, &plan.runtime_directory] {
        assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    }
    let ssh = running.ssh_address.unwrap();
    assert_ne!(ssh, running.agent_address);
    for address in [running.agent_address, ssh] {
        tokio::net::TcpStream::connect(address).await.unwrap();
    }
    platform.connect_control(&plan).await.unwrap();
    let console = plan.directory.join("console.log");
    eventually("the kernel spoke", async || std::fs::read_to_string(&console).is_ok_and(|text| text.contains('H')))
        .await;

    platform.kill(&plan, Some(&running.process)).await.unwrap();
    platform.wait_gone(&running.process).await;
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
    platform.kill(&plan, Some(&running.process)).await.unwrap();

    assert!(platform.teardown(&plan).await.is_empty());
    assert!(platform.teardown(&plan).await.is_empty(), "a second teardown converges");
    for root in [fixture.paths.state.join("vms"), fixture.paths.runtime.join("vm")] {
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
    }
    assert!(platform.inventory().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_off_in_the_guest_ends_the_vmm() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    fixture.use_kernel(&tiny_kernel::that_powers_off());
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    tokio::time::timeout(Duration::from_secs(60), fixture.platform.wait_gone(&running.process)).await.unwrap();
    assert_eq!(fixture.platform.inspect(&plan, Some(&running.process)).await.unwrap(), Observed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_in_the_guest_restarts_it_in_place() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    fixture.use_kernel(&tiny_kernel::that_resets());
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    let console = plan.directory.join("console.log");
    eventually("it booted three times", async || {
        std::fs::read_to_string(&console).is_ok_and(|text| text.matches('R').count() >= 3)
    })
    .await;
    assert_eq!(fixture.observed(&plan).await, Observed::Running(running));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_of_the_start_before_is_kept() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let console = plan.directory.join("console.log");
    let spoke = async || std::fs::read_to_string(&console).is_ok_and(|text| text.contains('H'));
    let first = fixture.started(&plan).await;
    eventually("the first start spoke", spoke).await;
    let disk = std::fs::metadata(plan.directory.join("root.qcow2")).unwrap().ino();
    fixture.platform.kill(&plan, Some(&first.process)).await.unwrap();

    let second = fixture.launch(&plan).await.unwrap();
    assert_ne!(first.process, second.process);
    eventually("the second start spoke", spoke).await;
    for log in [&console, &plan.directory.join("console.log.1")] {
        assert_eq!(std::fs::read_to_string(log).unwrap().matches('H').count(), 1, "{}", log.display());
    }
    assert_eq!(std::fs::metadata(plan.directory.join("root.qcow2")).unwrap().ino(), disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_vms_share_an_image() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plans = [fixture.plan(1), fixture.plan(2), fixture.plan(3)];
    let running =
        [fixture.started(&plans[0]).await, fixture.started(&plans[1]).await, fixture.started(&plans[2]).await];
    let mut ports: Vec<u16> = running
        .iter()
        .flat_map(|running| [running.agent_address, running.ssh_address.unwrap()])
        .map(|address| address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6);
    for plan in &plans {
        assert!(fixture.platform.teardown(plan).await.is_empty());
    }
}
