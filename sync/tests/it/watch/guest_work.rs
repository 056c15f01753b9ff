//! What is done in the guest stays and is told, or is replaced, as the session was started; and is settled on request.

use banger_sync::diff::ConflictReason;
use banger_sync::watch::{Mode, PreferError, Side};

use super::{Following, Wanted, is_in_step, path};
use crate::repo::{Repo, git_in};
use crate::sshd::Sshd;

fn conflicts(session: &Following) -> Vec<(String, ConflictReason)> {
    session.status().conflicts.iter().map(|one| (one.path.to_string(), one.reason)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_work_is_kept_and_told_until_it_is_settled() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    std::fs::write(session.guest.join("README.md"), b"the guest's\n").unwrap();
    std::fs::remove_file(session.guest.join("run.sh")).unwrap();
    // Nothing happens on the host, and it is told all the same.
    session.until("told", |status| status.conflicts.len() == 2).await;
    assert_eq!(
        conflicts(&session),
        [
            ("README.md".to_owned(), ConflictReason::ChangedInGuest),
            ("run.sh".to_owned(), ConflictReason::DeletedInGuest)
        ]
    );
    session.repo.write("README.md", b"the host's\n");
    session.repo.write("src/main.c", b"a mark behind it\n");
    session.guest_has("src/main.c", Some(b"a mark behind it\n")).await;
    let flushed = session.watch.flush().await.unwrap();
    assert_ne!(flushed.guest, flushed.host);
    assert_eq!(flushed.conflicts.len(), 2);
    assert_eq!(std::fs::read(session.guest.join("README.md")).unwrap(), b"the guest's\n");

    session.watch.prefer(Side::Host, path("README.md")).await.unwrap();
    assert_eq!(std::fs::read(session.guest.join("README.md")).unwrap(), b"the host's\n");
    session.watch.prefer(Side::Guest, path("run.sh")).await.unwrap();
    assert!(!session.repo.path("run.sh").exists(), "the guest deleted it");
    assert!(matches!(session.watch.prefer(Side::Host, path("README.md")).await, Err(PreferError::NoConflict { .. })));
    session.assert_in_step("settled").await;

    std::fs::write(session.guest.join("README.md"), b"the guest's again\n").unwrap();
    session.until("told", |status| status.conflicts.len() == 1).await;
    session.watch.prefer(Side::Guest, path("README.md")).await.unwrap();
    assert_eq!(std::fs::read(session.repo.path("README.md")).unwrap(), b"the guest's again\n");
    session.assert_in_step("taken over").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_takes_its_edit_back_is_in_step_again() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let before = std::fs::read(session.guest.join("README.md")).unwrap();
    std::fs::write(session.guest.join("README.md"), b"the guest's\n").unwrap();
    session.until("told", |status| status.conflicts.len() == 1).await;
    session.repo.write("README.md", b"the host's\n");
    session.repo.remove("run.sh");
    session.guest_has("run.sh", None).await;
    std::fs::write(session.guest.join("README.md"), before).unwrap();
    session.guest_has("README.md", Some(b"the host's\n")).await;
    session.until("settled by itself", |status| status.conflicts.is_empty()).await;
    session.assert_in_step("by itself").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_replaces_what_the_guest_did() {
    let Some(sshd) = Sshd::start() else { return };
    let wanted = Wanted { mode: Mode::OneWayReplica, ..Wanted::default() };
    let session = Following::start(&sshd, Repo::new(), wanted).await;
    session.until("in step", is_in_step).await;
    std::fs::write(session.guest.join("README.md"), b"the guest's\n").unwrap();
    std::fs::remove_file(session.guest.join("run.sh")).unwrap();
    std::fs::write(session.guest.join("own"), b"nobody else's\n").unwrap();
    session.guest_has("README.md", Some(b"hello again\n")).await;
    session.guest_has("run.sh", Some(b"#!/bin/sh\necho hi\n")).await;
    assert_eq!(std::fs::read(session.guest.join("own")).unwrap(), b"nobody else's\n");
    // A directory with something in it is never replaced.
    std::fs::remove_file(session.guest.join("run.sh")).unwrap();
    std::fs::create_dir(session.guest.join("run.sh")).unwrap();
    std::fs::write(session.guest.join("run.sh/inside"), b"x\n").unwrap();
    session.until("told", |status| !status.conflicts.is_empty()).await;
    assert_eq!(conflicts(&session), [("run.sh".to_owned(), ConflictReason::Obstructed)]);
    assert!(session.guest.join("run.sh/inside").exists());
    std::fs::remove_dir_all(session.guest.join("run.sh")).unwrap();
    session.guest_has("run.sh", Some(b"#!/bin/sh\necho hi\n")).await;
    session.assert_in_step("a replica").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_the_guest_are_its_own_and_files_still_follow() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    git_in(&session.guest, &["commit", "-q", "--allow-empty", "-m", "the guest's"]);
    let head = git_in(&session.guest, &["rev-parse", "HEAD"]);
    session.repo.write("README.md", b"of the host\n");
    session.repo.commit("the host's");
    session.guest_has("README.md", Some(b"of the host\n")).await;
    session.until("told", |status| status.guest_history).await;
    assert_eq!(git_in(&session.guest, &["rev-parse", "HEAD"]), head);
    session.repo.write("README.md", b"once more\n");
    session.guest_has("README.md", Some(b"once more\n")).await;
    // And it can be given up again.
    git_in(&session.guest, &["reset", "-q", "--soft", "HEAD~1"]);
    session.until("followed again", |status| !status.guest_history).await;
    session.assert_in_step("again").await;
    assert_eq!(git_in(&session.guest, &["rev-parse", "HEAD"]), session.repo.git(&["rev-parse", "HEAD"]));
    session.stop().await;
}

/// What cannot be written as things are is told once, not sent again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_guests_work_leaves_no_room_for_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    std::fs::write(session.guest.join("README.md"), b"the guest's\n").unwrap();
    std::fs::create_dir(session.guest.join("new")).unwrap();
    std::fs::write(session.guest.join("new/file"), b"the guest's\n").unwrap();
    session.repo.remove("README.md");
    session.repo.write("README.md/below", b"a directory here\n");
    session.repo.write("new", b"a file here\n");
    session.repo.git(&["add", "-A"]);
    let flushing = tokio::time::timeout(super::PATIENCE, session.watch.flush());
    let flushed = flushing.await.expect("the barrier ends").unwrap();
    let told: Vec<(String, ConflictReason)> =
        flushed.conflicts.iter().map(|one| (one.path.to_string(), one.reason)).collect();
    let expected = [
        ("README.md", ConflictReason::ChangedInGuest),
        ("README.md/below", ConflictReason::Obstructed),
        ("new", ConflictReason::Obstructed),
    ];
    assert_eq!(told, expected.map(|(path, reason)| (path.to_owned(), reason)));
    let generation = session.status().generation;
    session.watch.flush().await.unwrap();
    assert_eq!(session.status().generation, generation, "nothing is sent again");
    // Out of the way, it comes by itself.
    std::fs::remove_dir_all(session.guest.join("new")).unwrap();
    std::fs::remove_file(session.guest.join("README.md")).unwrap();
    session.assert_in_step("room again").await;
    session.stop().await;
}
