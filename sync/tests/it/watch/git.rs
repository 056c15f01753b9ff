//! Git's operations are transactions, and their metadata follows.

use std::time::{Duration, Instant};

use banger_sync::overlay::observe;
use banger_sync::watch::cycle::Tuning;
use banger_sync::watch::{FlushError, State};

use super::{Following, Wanted, is_in_step, number};
use crate::repo::{Repo, git_in};
use crate::sshd::Sshd;

/// Two branches that differ in every one of `count` files.
fn two_branches(count: usize) -> Repo {
    let repo = Repo::new();
    for file in 0..count {
        repo.write(format!("many/{}/{file}", file % 50), format!("main {file}\n").as_bytes());
    }
    repo.commit("main");
    repo.git(&["checkout", "-q", "-b", "other"]);
    for file in 0..count {
        repo.write(format!("many/{}/{file}", file % 50), format!("the other {file}\n").as_bytes());
    }
    repo.write("only-other", b"x\n");
    repo.commit("other");
    repo.git(&["checkout", "-q", "main"]);
    repo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_branches_and_the_index_follow() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, two_branches(50), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let same = |what: &str| {
        for arguments in [
            &["status", "--porcelain=v1", "-uno"][..],
            &["log", "-1", "--format=%H %s"],
            &["symbolic-ref", "HEAD"],
            &["ls-files", "-s"],
            &["diff", "--cached"],
        ] {
            let (ours, theirs) = (session.repo.git(arguments), git_in(&session.guest, arguments));
            assert_eq!(String::from_utf8_lossy(&theirs), String::from_utf8_lossy(&ours), "{what}: git {arguments:?}");
        }
    };
    for (what, steps) in [
        ("a commit", &[&["commit", "-q", "--allow-empty", "-m", "empty"][..]][..]),
        ("a checkout", &[&["checkout", "-q", "other"]]),
        ("a new branch", &[&["checkout", "-q", "-b", "feature/deep/er"]]),
        ("something staged", &[&["rm", "-q", "only-other"]]),
        ("a stash", &[&["stash", "-q"]]),
        ("the stash again", &[&["stash", "pop", "-q", "--index"]]),
        ("a hard reset", &[&["reset", "-q", "--hard", "HEAD~1"]]),
        ("a detached head", &[&["checkout", "-q", "--detach"]]),
        ("a rebase", &[&["checkout", "-q", "other"], &["rebase", "-q", "main"]]),
        ("a moved reference", &[&["update-ref", "refs/heads/other", "main"]]),
    ] {
        for step in steps {
            session.repo.git(step);
        }
        session.assert_in_step(what).await;
        if what != "a detached head" {
            same(what);
        }
        assert!(!session.status().guest_history, "{what}");
    }
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_git_does_is_held_until_it_is_done() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let generation = session.status().generation;
    // As a checkout that takes its time.
    let lock = session.repo.path(".git/index.lock");
    std::fs::copy(session.repo.path(".git/index"), &lock).unwrap();
    session.repo.write("README.md", b"half of a checkout\n");
    session.until("held", |status| status.state == State::HeldByGit).await;
    let watch = session.watch.clone();
    let barrier = tokio::spawn(async move { watch.flush().await });
    tokio::pin!(barrier);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut barrier).await;
    assert!(early.is_err(), "a barrier waits as well");
    assert_eq!(session.status().generation, generation, "nothing went over");
    session.repo.write("src/main.c", b"the other half\n");
    std::fs::rename(&lock, session.repo.path(".git/index")).unwrap();
    let flushed = barrier.await.unwrap().unwrap();
    assert_eq!(flushed.guest, session.host_digest(false));
    assert_eq!(flushed.generation, generation + 1, "as one generation");
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_lock_is_told_and_edits_go_on() {
    let Some(sshd) = Sshd::start() else { return };
    let tuning = Tuning { stale_lock: 300, ..Tuning::default() };
    let session = Following::start(&sshd, Repo::new(), Wanted { tuning, ..Wanted::default() }).await;
    session.until("in step", is_in_step).await;
    let lock = session.repo.path(".git/index.lock");
    std::fs::write(&lock, b"").unwrap();
    session.repo.write("README.md", b"beside a stale lock\n");
    session.until("told", |status| status.stale_lock).await;
    session.guest_has("README.md", Some(b"beside a stale lock\n")).await;
    assert_eq!(session.watch.flush().await.unwrap_err(), FlushError::StaleLock);
    std::fs::remove_file(&lock).unwrap();
    session.assert_in_step("without the lock").await;
    assert!(!session.status().stale_lock);
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_checkout_never_shows_a_mixed_tree() {
    let Some(sshd) = Sshd::start() else { return };
    let files = number("BANGER_CHECKOUT_FILES", 20_000);
    let rounds = number("BANGER_CHECKOUT_ROUNDS", 4);
    let repo = two_branches(files);
    let digest =
        |repo: &Repo| observe(&repo.root, &banger_sync::overlay::ObserveOptions::default()).unwrap().tree_digest();
    let main = digest(&repo);
    repo.git(&["checkout", "-q", "other"]);
    let other = digest(&repo);
    let session = Following::start(&sshd, repo, Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let root = session.repo.root.clone();
    let switching = std::thread::spawn(move || {
        let mut took = Duration::ZERO;
        for round in 0..rounds {
            let began = Instant::now();
            git_in(&root, &["checkout", "-q", if round % 2 == 0 { "main" } else { "other" }]);
            took += began.elapsed();
        }
        took
    });
    let mut seen = [0, 0];
    while !switching.is_finished() {
        let (flushed, held) = session.watch.hold().await.unwrap();
        let there = crate::watch::barrier::digest_of_guest(&session.guest, &session.repo);
        assert_eq!(there, flushed.guest, "what a command finds is what was printed");
        match flushed.guest {
            tree if tree == main => seen[0] += 1,
            tree if tree == other => seen[1] += 1,
            mixed => panic!("a mixed tree {mixed}; main {main}, other {other}"),
        }
        drop(held);
    }
    switching.join().unwrap();
    session.assert_in_step("at the end").await;
    assert!(seen[0] + seen[1] > 0);
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkout_of_what_the_guest_has_sends_no_content() {
    let Some(sshd) = Sshd::start() else { return };
    let mut session = Following::start(&sshd, crate::packed::two_branches(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let mut check_out = async |branch: &str| {
        session.repo.git(&["checkout", "-q", branch]);
        session.assert_in_step(branch).await;
        let (mut files, mut bytes) = (0, 0);
        while let Ok(batch) = session.batches.try_recv() {
            (files, bytes) = (files + batch.files, bytes + batch.bytes);
        }
        (files, bytes)
    };
    check_out("main").await;
    // Its objects come, and the files are made of them.
    let (files, bytes) = check_out("other").await;
    assert!(files == 40 && (2_000_000..2_300_000).contains(&bytes), "{files} files, {bytes} bytes");
    for branch in ["main", "other"] {
        let (files, bytes) = check_out(branch).await;
        assert!(files == 40 && bytes < 20_000, "{branch}: {files} files, {bytes} bytes");
    }
    // Where the guest lost its packs, content comes.
    let packs = session.guest.join(".git/objects/pack");
    let names = || std::fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path());
    names().filter(|path| path.extension().is_some_and(|end| end == "idx")).for_each(|path| {
        std::fs::remove_file(path).unwrap();
    });
    session.repo.git(&["checkout", "-q", "main"]);
    session.assert_in_step("without packs").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_guest_did_stays_when_files_are_made_of_objects() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, crate::packed::two_branches(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    for branch in ["other", "main"] {
        session.repo.git(&["checkout", "-q", branch]);
        session.assert_in_step(branch).await;
    }
    std::fs::write(session.guest.join("many/3/3"), "the guest's work").unwrap();
    session.repo.git(&["checkout", "-q", "other"]);
    let flushed = session.watch.flush().await.unwrap();
    assert_eq!(flushed.conflicts.iter().map(|one| one.path.to_string()).collect::<Vec<_>>(), ["many/3/3"]);
    assert_eq!(std::fs::read(session.guest.join("many/3/3")).unwrap(), b"the guest's work");
    assert_eq!(session.differences(false).await.len(), 1);
    session.stop().await;
}
