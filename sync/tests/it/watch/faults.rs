//! What breaks is made whole again by the session itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::quote::shell_quote;
use banger_sync::watch::{Side, State, Watching};

use super::{Following, Wanted, guest_of, is_in_step, path};
use crate::prepare::{RECEIVER, command_with_pid, prepare_into};
use crate::repo::Repo;
use crate::sshd::Sshd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_connection_is_made_again_and_nothing_is_missed() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    session.way.barred.store(true, Ordering::Relaxed);
    session.way.cut().await;
    session.until("noticed", |status| status.state == State::Connecting && status.problem.is_some()).await;
    session.repo.write("README.md", b"meanwhile\n");
    session.repo.remove("run.sh");
    std::fs::write(session.guest.join("src/main.c"), b"the guest's\n").unwrap();
    session.way.barred.store(false, Ordering::Relaxed);
    session.guest_has("README.md", Some(b"meanwhile\n")).await;
    session.guest_has("run.sh", None).await;
    session.until("the guest's edit is told", |status| status.conflicts.len() == 1).await;
    assert_eq!(std::fs::read(session.guest.join("src/main.c")).unwrap(), b"the guest's\n");
    assert!(session.status().connections >= 2);
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_receiver_is_started_again_whatever_it_was_doing() {
    let Some(sshd) = Sshd::start() else { return };
    let repo = Repo::new();
    for file in 0..200 {
        repo.write(format!("many/{file}"), b"0\n");
    }
    repo.commit("many");
    let guest = guest_of(&repo);
    let pid_file = repo.place.path().join("pid");
    let command = command_with_pid(&guest, &pid_file);
    let session = Following::start(&sshd, repo, Wanted { command: Some(command), ..Wanted::default() }).await;
    session.until("in step", is_in_step).await;
    for round in 1..=8_u64 {
        for file in 0..200 {
            session.repo.write(format!("many/{file}"), format!("{round}\n").repeat(500).as_bytes());
        }
        // Anywhere in or around the batch.
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        session.assert_in_step(&format!("killed {round} times")).await;
    }
    assert!(session.status().connections > 4, "{:?}", session.status());
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_events_are_made_up_for() {
    let Some(sshd) = Sshd::start() else { return };
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    // A paused session leaves its queue alone.
    session.watch.pause();
    session.until("paused", |status| status.state == State::Paused).await;
    for number in 0..limit {
        session.repo.write(if number % 2 == 0 { "README.md" } else { "run.sh" }, b"flood\n");
    }
    session.repo.write("src/main.c", b"after the flood\n");
    session.watch.resume();
    session.guest_has("src/main.c", Some(b"after the flood\n")).await;
    session.until("counted", |status| status.overflows > 0).await;
    session.assert_in_step("after an overflow").await;
    session.repo.write("src/main.c", b"and on\n");
    session.guest_has("src/main.c", Some(b"and on\n")).await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_directories_than_may_be_watched_are_polled_and_told() {
    let Some(sshd) = Sshd::start() else { return };
    let repo = Repo::new();
    for directory in 0..150 {
        repo.write(format!("d{directory}/file"), b"0\n");
    }
    repo.commit("directories");
    let session = Following::start(&sshd, repo, Wanted { budget: Some(100), ..Wanted::default() }).await;
    session.until("in step", is_in_step).await;
    assert!(matches!(session.status().watching, Watching::Polling { needed, budget: 100 } if needed > 150));
    session.repo.write("d149/file", b"polled\n");
    session.guest_has("d149/file", Some(b"polled\n")).await;
    session.repo.write("d1/file", b"flushed\n");
    session.assert_in_step("degraded").await;
    session.repo.git(&["commit", "-q", "-a", "-m", "polled"]);
    session.assert_in_step("a commit").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepare_beside_a_session_makes_it_begin_anew() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    // Between two batches others have their turn.
    assert_eq!(session.differences(false).await, []);
    let connection = sshd.connect().await;
    session.repo.write("README.md", b"prepared\n");
    let overlay = observe(&session.repo.root, &ObserveOptions::default()).unwrap();
    prepare_into(&connection, &overlay, &session.guest).await.unwrap();
    session.repo.write("README.md", b"followed\n");
    session.guest_has("README.md", Some(b"followed\n")).await;
    session.assert_in_step("beside a prepare").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_session_knows_what_the_last_one_did() {
    let Some(sshd) = Sshd::start() else { return };
    let mut repo = Repo::new();
    for round in 0..3 {
        let session = Following::start(&sshd, repo, Wanted::default()).await;
        session.until("in step", is_in_step).await;
        session.repo.write("README.md", format!("{round}\n").as_bytes());
        session.guest_has("README.md", Some(format!("{round}\n").as_bytes())).await;
        // Written over what the session brought, not what the first prepare did.
        std::fs::write(session.guest.join("src/main.c"), format!("the guest's {round}\n")).unwrap();
        session.until("told", |status| status.conflicts.len() == 1).await;
        (repo, _) = session.stop().await;
        repo.write("README.md", b"between two sessions\n");
    }
    let session = Following::start(&sshd, repo, Wanted::default()).await;
    session.guest_has("README.md", Some(b"between two sessions\n")).await;
    session.until("told", |status| status.conflicts.len() == 1).await;
    assert_eq!(std::fs::read(session.guest.join("src/main.c")).unwrap(), b"the guest's 2\n");
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_is_paused_and_resumed_is_everything() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    session.until("in step", is_in_step).await;
    session.watch.pause();
    session.until("paused", |status| status.state == State::Paused).await;
    let generation = session.status().generation;
    session.repo.write("README.md", b"paused\n");
    session.repo.git(&["commit", "-q", "-a", "-m", "paused"]);
    assert_eq!(session.watch.flush().await.unwrap_err(), banger_sync::watch::FlushError::Paused);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(session.status().generation, generation);
    session.watch.resume();
    session.guest_has("README.md", Some(b"paused\n")).await;
    session.assert_in_step("resumed").await;
    session.stop().await;
}

/// Every byte a host sent in a session with every kind of batch, and the repository as it is at its end.
pub async fn recorded_session(sshd: &Sshd) -> (Vec<u8>, Repo) {
    let repo = Repo::new();
    repo.write("large", &vec![1; 700 << 10]);
    repo.commit("large");
    let tape = repo.place.path().join("tape");
    let command = format!(
        "tee {} | {} --root {}",
        shell_quote(tape.to_str().unwrap()),
        shell_quote(RECEIVER),
        shell_quote(guest_of(&repo).to_str().unwrap())
    );
    let session = Following::start(sshd, repo, Wanted { command: Some(command), ..Wanted::default() }).await;
    session.until("in step", is_in_step).await;
    for round in 0..3 {
        session.repo.write("README.md", format!("round {round}\n").as_bytes());
        session.watch.flush().await.unwrap();
        session.repo.write("large", &vec![round; 900 << 10]);
        session.repo.chmod("src/main.c", if round % 2 == 0 { 0o755 } else { 0o644 });
        session.watch.flush().await.unwrap();
    }
    session.repo.remove("run.sh");
    std::fs::write(session.guest.join("src/main.c"), b"the guest's\n").unwrap();
    session.until("told", |status| status.conflicts.len() == 1).await;
    session.watch.prefer(Side::Host, path("src/main.c")).await.unwrap();
    session.repo.commit("a commit");
    session.assert_in_step("at the end").await;
    let (repo, _) = session.stop().await;
    let bytes = std::fs::read(&tape).unwrap();
    (bytes, repo)
}

/// Not only between frames but at random bytes: whatever was done of it, the next transfer knows it for its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_cut_anywhere_is_finished_by_the_next_transfer() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (tape, repo) = recorded_session(&sshd).await;
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    for cut in crate::tape::cuts(&tape, 30) {
        let guest = repo.place.path().join("cut");
        let _ = banger_sync::receiver::run(&guest, std::io::Cursor::new(&tape[..cut]), std::io::sink());
        let finished = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert_eq!(finished.conflicts, [], "cut at {cut}");
        assert_eq!(finished.tree_digest, overlay.tree_digest(), "cut at {cut}");
        assert_eq!(crate::repo::git_in(&guest, &["status", "--porcelain"]), b"", "cut at {cut}");
        std::fs::remove_dir_all(&guest).unwrap();
    }
}
