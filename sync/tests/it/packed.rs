//! Files that are objects of the pack that comes anyway are not sent a second time.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use banger_sync::overlay::{CopyMode, ObserveOptions, observe};
use banger_sync::receiver;

use crate::crash::recorded;
use crate::difference::noise;
use crate::prepare::{RECEIVER, assert_same_for_git, prepare_into};
use crate::repo::{Repo, git_in};
use crate::sshd::Sshd;
use crate::tape::boundaries;

/// Content that does not get smaller, in files of the usual sizes, and one that is too large for memory.
fn repository() -> (Repo, u64) {
    let repo = Repo::new();
    let mut bytes = 0;
    for (number, size) in (0_u32..).zip([0, 1, 100, 5_000, 70_000, 300_000, 2 << 20, 20 << 20]) {
        for copy in 0..6 {
            if size > 300_000 && copy > 0 {
                break;
            }
            let content = noise(size, u64::from(number * 100 + copy));
            repo.write(format!("d{copy}/f{number}"), &content);
            bytes += content.len() as u64;
        }
    }
    repo.commit("content");
    (repo, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pack_has_is_not_sent_as_content() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let (repo, bytes) = repository();
    for (name, gc) in [("loose", false), ("packed", true)] {
        if gc {
            repo.git(&["gc", "-q"]);
        }
        let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
        let guest = repo.place.path().join(name);
        let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert_eq!(prepared.tree_digest, overlay.tree_digest(), "{name}");
        assert_eq!(prepared.files_sent, overlay.manifest.entries.len() as u64, "{name}");
        // The largest one comes twice.
        let most = bytes + (20 << 20) + (2 << 20);
        assert!(prepared.bytes_sent < most, "{name}: {} of {most}", prepared.bytes_sent);
        assert_same_for_git(name, &repo.root, &guest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_become_the_files_they_stand_for() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let base = noise(200_000, 7);
    for version in 0..30_usize {
        let mut content = base.clone();
        for step in 0..version {
            content[step * 5_000..step * 5_000 + 20].fill(u8::try_from(step).unwrap());
        }
        content.truncate(200_000 - version * 1_000);
        repo.write(format!("many/{version}"), &content);
        repo.write("one", &content);
        repo.commit("a version");
    }
    repo.git(&["repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50"]);
    let chains = repo.text(&["rev-list", "--objects", "--all", "--disk-usage"]);
    assert!(chains.parse::<u64>().unwrap() < 600_000, "git made no deltas: {chains}");
    for mode in [CopyMode::Overlay, CopyMode::FullCopy] {
        let overlay = observe(&repo.root, &ObserveOptions { mode, ..ObserveOptions::default() }).unwrap();
        let guest = repo.place.path().join(format!("{mode:?}"));
        let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert_eq!(prepared.tree_digest, overlay.tree_digest());
        assert!(prepared.bytes_sent < 2_000_000, "{}", prepared.bytes_sent);
        assert_same_for_git("deltas", &repo.root, &guest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_from_its_object_is_sent() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.write(".gitattributes", b"*.txt text eol=crlf\n*.ident ident\n");
    repo.write("lines.txt", b"one\r\ntwo\r\n");
    repo.write("id.ident", b"$Id$\n");
    repo.commit("converted");
    for path in ["lines.txt", "id.ident"] {
        repo.remove(path);
        repo.git(&["checkout", "-q", "--", path]);
    }
    let objects = [repo.git(&["show", "HEAD:lines.txt"]), repo.git(&["show", "HEAD:id.ident"])];
    let files = [std::fs::read(repo.path("lines.txt")).unwrap(), std::fs::read(repo.path("id.ident")).unwrap()];
    assert!(objects[0] != files[0] && objects[1] != files[1], "git converts them");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    // After the look: the index says that the object is something else now.
    repo.write("src/main.c", b"staged since\n");
    repo.git(&["add", "src/main.c"]);
    let guest = repo.place.path().join("guest");
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert!(prepared.conflicts.is_empty());
    for path in ["lines.txt", "id.ident", "README.md"] {
        assert_eq!(std::fs::read(guest.join(path)).unwrap(), std::fs::read(repo.path(path)).unwrap(), "{path}");
    }
    let main = std::fs::read(guest.join("src/main.c")).unwrap();
    assert!(main == b"staged since\n" || main == repo.git(&["show", "HEAD:src/main.c"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_arrived_do_not_come_again_after_a_broken_run() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    for number in 0..5_000 {
        repo.write(format!("{}/{number}", number % 50), &noise(300, number));
    }
    repo.commit("many");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let whole = repo.place.path().join("whole");
    let tape = recorded(&connection, &overlay, &whole, &repo.place.path().join("tape")).await;
    // Up to the first answer about objects, and into what follows.
    let first = boundaries(&tape).into_iter().find(|cut| *cut > tape.len() * 9 / 10).unwrap();
    let broken = repo.place.path().join("broken");
    receiver::run(&broken, &tape[..first], Vec::new()).unwrap_err();
    let there = || std::fs::read_dir(broken.join(".git/objects/pack")).unwrap().count();
    assert_eq!(there(), 2, "a pack and its index");
    assert!(broken.join("0").exists(), "what was made is kept");
    let prepared = prepare_into(&connection, &overlay, &broken).await.unwrap();
    assert_eq!(prepared.tree_digest, overlay.tree_digest());
    assert_eq!(there(), 2, "the same ones");
    assert_same_for_git("broken", &repo.root, &broken);
    no_temporaries(&broken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_while_it_makes_files_leaves_each_whole_or_absent() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    for number in 0..3_000 {
        repo.write(format!("{}/{number}", number % 10), &noise(20_000, number));
    }
    repo.commit("many");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let whole = repo.place.path().join("whole");
    let tape_file = repo.place.path().join("tape");
    recorded(&connection, &overlay, &whole, &tape_file).await;
    let mut kills_midway = 0;
    for round in 0..5_u64 {
        let guest = repo.place.path().join(format!("guest-{round}"));
        let mut receiver = std::process::Command::new(RECEIVER)
            .args(["--root", guest.to_str().unwrap()])
            .stdin(std::fs::File::open(&tape_file).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !guest.join(".git/banger/tree/0").exists() {
            assert!(receiver.try_wait().unwrap().is_none(), "it ended before it made a file");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 15));
        receiver.kill().unwrap();
        receiver.wait().unwrap();
        let mut made = 0;
        for number in 0..3_000 {
            if let Ok(content) = std::fs::read(guest.join(format!("{}/{number}", number % 10))) {
                assert!(content == noise(20_000, number), "round {round}: {number} is torn");
                made += 1;
            }
        }
        kills_midway += u32::from(made < 3_000);
        let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert!(prepared.conflicts.is_empty());
        assert_eq!(prepared.tree_digest, overlay.tree_digest());
        no_temporaries(&guest);
    }
    assert!(kills_midway > 0, "all came too late");
}

fn no_temporaries(root: &Path) {
    let found = std::process::Command::new("find").arg(root).args(["-name", ".banger-tmp-*"]).output().unwrap();
    assert_eq!(found.stdout, b"");
    assert_eq!(git_in(root, &["status", "--porcelain"]), b"");
}

/// Two branches that differ in every one of forty files, 2 MB of content that does not get smaller on each, and `main` is
/// checked out.
pub fn two_branches() -> Repo {
    let repo = Repo::new();
    for (branch, seed) in [("main", 0), ("other", 1000)] {
        if branch != "main" {
            repo.git(&["checkout", "-q", "-b", branch]);
        }
        for file in 0..40 {
            repo.write(format!("many/{}/{file}", file % 5), &noise(50_000, seed + file));
        }
        repo.commit(branch);
    }
    repo.git(&["checkout", "-q", "main"]);
    repo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_guest_has_of_an_earlier_checkout_is_not_sent_again() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = two_branches();
    let guest = repo.place.path().join("guest");
    let mut sent = Vec::new();
    let mut bring = async |branch: &str| {
        repo.git(&["checkout", "-q", branch]);
        let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
        let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert!(prepared.conflicts.is_empty(), "{branch}");
        assert_eq!(prepared.tree_digest, overlay.tree_digest(), "{branch}");
        assert_same_for_git(branch, &repo.root, &guest);
        sent.push((prepared.files_sent, prepared.bytes_sent));
    };
    bring("main").await;
    bring("other").await;
    bring("main").await;
    bring("other").await;
    // The guest's git tidies up, and has only one of them any more.
    git_in(&guest, &["reflog", "expire", "--expire=now", "--all"]);
    git_in(&guest, &["-c", "gc.pruneExpire=now", "gc", "-q", "--prune=now"]);
    bring("main").await;
    bring("other").await;
    let (files, bytes): (Vec<u64>, Vec<u64>) = sent.into_iter().unzip();
    assert!(files[1..].iter().all(|files| *files == 40), "{files:?}");
    assert!(bytes[2] < 20_000 && bytes[3] < 20_000, "{bytes:?}");
}
