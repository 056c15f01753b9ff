//! VMMs outlive daemons: who finds them, who must not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::fixture::{Fixture, end, skipped};
use crate::platform::{Observed, Platform as _, ProcessIdentity};

/// Tells [`launches_and_waits_to_be_killed`] where to work.
const ROOT_VARIABLE: &str = "BANGER_TEST_DAEMON_ROOT";

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_daemon_adopts_a_running_vmm() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;

    let restarted = Fixture::at(fixture.root());
    let recorded = serde_json::to_string(&running.process).unwrap();
    let recorded: ProcessIdentity = serde_json::from_str(&recorded).unwrap();
    for known in [Some(&recorded), None] {
        let observed = restarted.platform.inspect(&plan, known).await.unwrap();
        assert_eq!(observed, Observed::Running(running.clone()), "{known:?}");
    }
    // A record of an earlier boot of the host means nothing, but the process is found all the same.
    let stale = ProcessIdentity { host_boot_id: "earlier".into(), ..recorded };
    assert_eq!(restarted.platform.inspect(&plan, Some(&stale)).await.unwrap(), Observed::Running(running));

    restarted.platform.kill(&plan, None).await.unwrap();
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_survives_a_killed_daemon_and_is_found_without_a_record() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "platform::qemu::tests::found_again::launches_and_waits_to_be_killed"])
        .args(["--ignored", "--nocapture"])
        .env(ROOT_VARIABLE, fixture.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(daemon.stdout.take().unwrap());
    let told = output.lines().map_while(Result::ok).find_map(|line| {
        let at = line.find("launched ")?;
        line[at + "launched ".len()..].trim().parse::<u32>().ok()
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let Observed::Running(running) = fixture.observed(&plan).await else { panic!("it died with its daemon") };
    assert_eq!(Some(running.process.pid), told);
    fixture.platform.kill(&plan, None).await.unwrap();
    fixture.platform.wait_gone(&running.process).await;
    assert!(fixture.platform.teardown(&plan).await.is_empty());
}

/// Not a test: the daemon that is killed in the one above.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_vmm_survives_a_killed_daemon_and_is_found_without_a_record"]
async fn launches_and_waits_to_be_killed() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else { return };
    let fixture = Fixture::at(root.as_ref());
    let running = fixture.started(&fixture.plan(1)).await;
    writeln!(std::io::stdout(), "\nlaunched {}", running.process.pid).unwrap();
    // Ends with the test that started it, should that fail before the kill.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_with_other_roots_do_not_see_each_other() {
    if skipped() {
        return;
    }
    let (ours, theirs) = (Fixture::new(), Fixture::new());
    // The same id under both roots.
    let running = ours.started(&ours.plan(1)).await;
    let foreign = theirs.plan(1);
    assert_eq!(theirs.observed(&foreign).await, Observed::Gone);
    assert!(theirs.platform.inventory().await.unwrap().is_empty());
    theirs.platform.kill(&foreign, None).await.unwrap();
    assert!(theirs.platform.remove_orphan(&foreign.id).await.is_empty());
    assert_eq!(ours.observed(&ours.plan(1)).await, Observed::Running(running));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_left_of_a_vm_is_found_and_removed() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let (with_process, with_files, with_sockets) = (fixture.plan(1), fixture.plan(2), fixture.plan(3));
    let running = fixture.started(&with_process).await;
    // Only the process is left.
    std::fs::remove_dir_all(&with_process.directory).unwrap();
    std::fs::remove_file(with_process.runtime_directory.join("id")).unwrap();
    for (plan, gone) in [(&with_files, &with_files.runtime_directory), (&with_sockets, &with_sockets.directory)] {
        fixture.platform.provision(plan, &fixture.reporter).await.unwrap();
        std::fs::remove_dir_all(gone).unwrap();
    }
    // Not named like a VM: none of ours.
    std::fs::create_dir(fixture.paths.state.join("vms/README")).unwrap();

    let found = fixture.platform.inventory().await.unwrap();
    assert_eq!(found, [&with_process.id, &with_files.id, &with_sockets.id].map(Clone::clone));
    for id in &found {
        let errors = fixture.platform.remove_orphan(id).await;
        assert!(errors.is_empty(), "{errors:?}");
    }
    assert!(fixture.platform.inventory().await.unwrap().is_empty());
    fixture.platform.wait_gone(&running.process).await;
    assert!(fixture.paths.state.join("vms/README").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vmm_without_its_sockets_is_an_error_and_not_taken_for_gone() {
    if skipped() {
        return;
    }
    let fixture = Fixture::new();
    let plan = fixture.plan(1);
    let running = fixture.started(&plan).await;
    std::fs::remove_dir_all(&plan.runtime_directory).unwrap();
    let error = fixture.platform.inspect(&plan, Some(&running.process)).await.unwrap_err();
    assert!(error.hints[0].contains("`banger vm kill box-1`"), "{error:?}");
    end(&running).await;
    assert_eq!(fixture.observed(&plan).await, Observed::Gone);
}
