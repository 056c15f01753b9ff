//! The daemon dies at every call, before and after it took effect; the next one makes everything true again.

use std::future::Future;
use std::time::Duration;

use super::harness::*;
use crate::platform::fake::{GuestScript, Mishap};
use crate::vm::Vms;
use crate::vm::state::VmState;

const CALLS: usize = 8;

/// A runtime whose drop is the death of everything the daemon was doing.
fn life<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Runs `verb` in a daemon that dies at the `nth` call; true if it did.
fn dies_during<Verb>(site: &Site, nth: usize, mishap: Mishap, verb: impl FnOnce(Vms) -> Verb) -> bool
where
    Verb: Future + Send + 'static,
    Verb::Output: Send,
{
    life(async {
        let vms = site.daemon().await;
        site.world.arm(nth, mishap);
        tokio::select! {
            () = site.world.crashed() => {}
            _ = tokio::spawn(verb(vms)) => {}
        }
        site.world.disarm()
    })
}

/// Tries every point of death, until the verb gets through without meeting it.
fn at_every_point(mut check: impl FnMut(usize, Mishap) -> bool) {
    for mishap in [Mishap::CrashBefore, Mishap::CrashAfter] {
        let met = (1..CALLS).filter(|nth| check(*nth, mishap)).count();
        assert!((1..CALLS - 1).contains(&met), "the verb makes {met} calls");
    }
}

#[test]
fn a_creation_that_was_interrupted_is_there_or_it_is_not() {
    at_every_point(|nth, mishap| {
        let site = Site::new();
        let died = dies_during(&site, nth, mishap, |vms| async move { vms.create(request("box"), &quiet()).await });
        life(async {
            let vms = site.daemon().await;
            if died {
                site.assert_nothing_left(&vms).await;
            } else {
                let running = until(&vms, "box", |snapshot| snapshot.control.is_some()).await;
                assert_eq!(running.record.state, VmState::Running);
            }
            site.assert_consistent(&vms).await;
            // The name is free, or the VM can be removed.
            match vms.find("box") {
                Ok(found) => vms.delete(&found.snapshot().record.id, &quiet()).await.unwrap(),
                Err(_) => drop(vms.create(request("box"), &quiet()).await.unwrap()),
            }
        });
        died
    });
}

#[test]
fn a_deletion_that_was_interrupted_is_finished() {
    at_every_point(|nth, mishap| {
        let site = Site::new();
        life(async { site.daemon().await.create(request("box"), &quiet()).await.unwrap() });
        let died = dies_during(&site, nth, mishap, |vms| async move {
            let id = id(&vms, "box");
            vms.delete(&id, &quiet()).await
        });
        life(async {
            let vms = site.daemon().await;
            site.assert_nothing_left(&vms).await;
        });
        died
    });
}

#[test]
fn a_start_that_was_interrupted_is_seen_as_what_came_of_it() {
    at_every_point(|nth, mishap| {
        let site = Site::new();
        life(async {
            let mut asked = request("box");
            asked.start = None;
            site.daemon().await.create(asked, &quiet()).await.unwrap()
        });
        let died = dies_during(&site, nth, mishap, |vms| async move {
            let id = id(&vms, "box");
            vms.start(&id, None, booted(), &quiet()).await
        });
        life(async {
            let vms = site.daemon().await;
            site.assert_consistent(&vms).await;
            let found = snapshot(&vms, "box");
            if found.is_alive() {
                let running = until(&vms, "box", |snapshot| snapshot.record.state == VmState::Running).await;
                assert!(running.record.reachable_after_ms > 0);
            } else {
                assert!(found.record.last_error.contains("while it was starting"), "{found:?}");
                vms.start(&found.record.id, None, booted(), &quiet()).await.unwrap();
            }
            assert_eq!(vms.host().store.intents().await.unwrap(), Vec::new());
            site.assert_consistent(&vms).await;
        });
        died
    });
}

#[test]
fn a_stop_that_was_interrupted_is_asked_for_again() {
    let site = Site::new();
    site.world.set_script(GuestScript::Stubborn);
    life(async {
        let vms = site.daemon().await;
        let id = vms.create(request("box"), &quiet()).await.unwrap();
        let stopping = tokio::spawn({
            let vms = vms.clone();
            async move { vms.stop(&id, Some(Duration::from_secs(600)), &quiet()).await }
        });
        until(&vms, "box", |snapshot| snapshot.record.state == VmState::Stopping).await;
        drop(stopping);
    });
    let site = site.impatient(Duration::from_millis(100));
    life(async {
        let vms = site.daemon().await;
        let stopped = until(&vms, "box", |snapshot| !snapshot.is_alive()).await;
        assert_eq!((stopped.record.state, stopped.record.unclean), (VmState::Stopped, true));
        site.assert_consistent(&vms).await;
    });
}

#[test]
fn running_vms_survive_the_daemon_and_are_watched_again() {
    let site = Site::new();
    let id = life(async { site.daemon().await.create(request("box"), &quiet()).await.unwrap() });
    let process = site.world.processes()[&id].clone();
    life(async {
        let vms = site.daemon().await;
        let found = snapshot(&vms, "box");
        assert_eq!(found.record.runtime.as_ref().map(|runtime| &runtime.process), Some(&process));
        assert_eq!(found.record.state, VmState::Running);
        vms.stop(&id, None, &quiet()).await.unwrap();
        let stopped = snapshot(&vms, "box");
        assert_eq!((stopped.record.state, stopped.record.unclean), (VmState::Stopped, false));
    });
}

#[test]
fn after_a_reboot_of_the_host_vms_are_stopped_not_lost() {
    let site = Site::new();
    let id = life(async { site.daemon().await.create(request("box"), &quiet()).await.unwrap() });
    site.world.reboot();
    life(async {
        let vms = site.daemon().await;
        let found = snapshot(&vms, "box");
        assert_eq!((found.record.state, found.is_alive()), (VmState::Stopped, false));
        vms.start(&id, None, booted(), &quiet()).await.unwrap();
        site.assert_consistent(&vms).await;
    });
}

#[test]
fn what_no_store_knows_is_removed_unless_the_store_itself_is_new() {
    let site = Site::new();
    let known = life(async { site.daemon().await.create(request("box"), &quiet()).await.unwrap() });
    let orphan = "f".repeat(32).parse().unwrap();
    site.world.plant_orphan(&orphan);
    life(async { drop(site.daemon().await) });
    assert!(site.world.directories().iter().eq([&known]));

    // The store was moved aside: its VMs are nobody's any more, and nobody's to delete.
    std::fs::remove_file(site.paths().database()).unwrap();
    for _ in 0..2 {
        life(async {
            let vms = site.daemon().await;
            assert_eq!(names(&vms), Vec::<String>::new());
        });
        assert!(site.world.directories().iter().eq([&known]));
    }
}

#[test]
fn a_platform_that_cannot_look_does_not_make_the_daemon_forget() {
    let site = Site::new();
    life(async { site.daemon().await.create(request("box"), &quiet()).await.unwrap() });
    life(async {
        let (vms, origin) = site.unreconciled();
        site.world.arm(1, Mishap::Fail);
        vms.reconcile(origin).await.unwrap();
        let found = snapshot(&vms, "box");
        assert_eq!(found.record.state, VmState::Broken);
        assert!(found.record.last_error.contains("cannot tell whether its VMM runs"), "{found:?}");
    });
    life(async {
        let vms = site.daemon().await;
        let found = until(&vms, "box", |snapshot| snapshot.record.state == VmState::Running).await;
        assert!(found.is_alive());
        site.assert_consistent(&vms).await;
    });
}
