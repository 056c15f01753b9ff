//! What looks like a command to delete everything, or cannot go on, stops the session and leaves the guest alone.

use std::os::unix::fs::symlink;

use banger_sync::quote::shell_quote;
use banger_sync::watch::{FlushError, State};

use super::{Following, Wanted, guest_of, is_in_step};
use crate::prepare::RECEIVER;
use crate::repo::Repo;
use crate::sshd::Sshd;

fn is_halted(status: &banger_sync::watch::Status) -> bool {
    matches!(status.state, State::Halted { .. })
}

fn why(session: &Following) -> String {
    match &session.status().state {
        State::Halted { why, .. } => why.clone(),
        other => panic!("not halted: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_gone_or_another_halts_and_comes_back() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let away = session.repo.place.path().join("away");
    std::fs::rename(&session.repo.root, &away).unwrap();
    session.until("halted", is_halted).await;
    assert_eq!(why(&session), "the directory is gone");
    assert!(matches!(session.watch.flush().await.unwrap_err(), FlushError::Halted { .. }));
    assert!(session.guest.join("README.md").exists(), "the guest keeps everything");
    // Nobody put it back: it says so again.
    session.watch.resume();
    assert!(matches!(session.watch.flush().await.unwrap_err(), FlushError::Halted { .. }));
    std::fs::rename(&away, &session.repo.root).unwrap();
    session.repo.write("README.md", b"back\n");
    session.watch.resume();
    session.guest_has("README.md", Some(b"back\n")).await;
    session.repo.write("README.md", b"and followed\n");
    session.guest_has("README.md", Some(b"and followed\n")).await;
    session.assert_in_step("back").await;

    std::fs::rename(&session.repo.root, &away).unwrap();
    std::fs::create_dir(&session.repo.root).unwrap();
    session.until("halted", is_halted).await;
    assert!(session.guest.join("README.md").exists());
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_file_system_in_its_place_halts() {
    let Some(sshd) = Sshd::start() else { return };
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &std::path::Path| std::os::unix::fs::MetadataExt::dev(&path.metadata().unwrap());
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    if device(elsewhere.path()) == device(&session.repo.root) {
        eprintln!("skipped: /dev/shm is the file system of the temporary directory");
        return;
    }
    session.until("in step", is_in_step).await;
    std::fs::rename(&session.repo.root, session.repo.place.path().join("away")).unwrap();
    symlink(elsewhere.path(), &session.repo.root).unwrap();
    session.until("halted", is_halted).await;
    assert_eq!(why(&session), "the directory is on another file system than before");
    assert!(session.guest.join("README.md").exists());
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_root_halts_until_it_is_confirmed() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let empty = |session: &Following| {
        for entry in std::fs::read_dir(&session.repo.root).unwrap().map(Result::unwrap) {
            match entry.file_name() {
                name if name == ".git" => {}
                _ if entry.file_type().unwrap().is_dir() => std::fs::remove_dir_all(entry.path()).unwrap(),
                _ => std::fs::remove_file(entry.path()).unwrap(),
            }
        }
    };
    empty(&session);
    session.until("halted", is_halted).await;
    assert!(why(&session).contains("went at once"), "{}", why(&session));
    assert!(std::fs::read_dir(&session.guest).unwrap().count() > 1, "some of it may have gone one by one, never all");
    session.repo.git(&["checkout", "-q", "--", "."]);
    session.watch.resume();
    session.assert_in_step("put back").await;
    empty(&session);
    session.until("halted", is_halted).await;
    session.watch.resume();
    session.assert_in_step("confirmed").await;
    assert!(!session.guest.join("README.md").exists());
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_without_its_repository_halts() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let away = session.repo.place.path().join("away");
    std::fs::rename(session.repo.path(".git"), &away).unwrap();
    session.until("halted", is_halted).await;
    std::fs::rename(&away, session.repo.path(".git")).unwrap();
    session.watch.resume();
    session.assert_in_step("with it").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_guest_disk_halts_and_goes_on_when_there_is_room() {
    goes_on_after_a_full_disk(async |session| session.watch.resume()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_refused_it_is_asked_again_once_it_was_away() {
    goes_on_after_a_full_disk(async |session| session.way.cut().await).await;
}

async fn goes_on_after_a_full_disk(by: impl AsyncFnOnce(&Following)) {
    let Some(sshd) = Sshd::start() else { return };
    let allowed = std::process::Command::new("unshare").args(["-Urm", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine allows no namespaces of one's own to mount a small disk in");
        return;
    }
    let repo = Repo::new();
    let guest = guest_of(&repo);
    std::fs::create_dir(&guest).unwrap();
    let size = repo.place.path().join("size");
    std::fs::write(&size, "2m").unwrap();
    let inner = format!(
        "mount -t tmpfs -o size=$(cat {}) none {} && exec {} --root {}",
        shell_quote(size.to_str().unwrap()),
        shell_quote(guest.to_str().unwrap()),
        shell_quote(RECEIVER),
        shell_quote(guest.to_str().unwrap())
    );
    let command = format!("unshare -Urm sh -c {}", shell_quote(&inner));
    let session = Following::start(&sshd, repo, Wanted { command: Some(command), ..Wanted::default() }).await;
    session.until("in step", is_in_step).await;
    session.repo.write("README.md", &vec![b'x'; 4 << 20]);
    session.until("halted", is_halted).await;
    assert_eq!(why(&session), "the guest's disk is full");
    std::fs::write(&size, "64m").unwrap();
    by(&session).await;
    session.until("in step", is_in_step).await;
    let flushed = session.watch.flush().await.unwrap();
    assert_eq!(flushed.guest, session.host_digest(false));
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_carried_is_told_and_followed_once_it_can() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    session.repo.remove("run.sh");
    assert!(std::process::Command::new("mkfifo").arg(session.repo.path("run.sh")).status().unwrap().success());
    session.until("told", |status| status.problem.as_ref().is_some_and(|why| why.contains("run.sh"))).await;
    assert!(matches!(session.watch.flush().await.unwrap_err(), FlushError::Unreadable { .. }));
    session.repo.remove("run.sh");
    session.repo.write("run.sh", b"a file again\n");
    session.guest_has("run.sh", Some(b"a file again\n")).await;
    session.until("no problem", |status| status.problem.is_none()).await;
    session.assert_in_step("carried").await;
    session.stop().await;
}
