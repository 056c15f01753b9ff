//! A command runs on the tree whose digest was printed, whatever the host does meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use banger_sync::digest::{DigestBuilder, TreeDigest};
use banger_sync::entry::{Content, EntryKind};

use super::{Following, Wanted, is_in_step, number, save};
use crate::repo::{Repo, git_in, split};
use crate::sshd::Sshd;

/// Computed from nothing but the guest's files, at the paths either side's index names.
pub fn digest_of_guest(guest: &Path, repo: &Repo) -> TreeDigest {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let mut paths: Vec<Vec<u8>> = split(&git_in(guest, &["ls-files", "-z"])).collect();
    paths.extend(split(&git_in(&repo.root, &["ls-files", "-z"])));
    paths.sort();
    paths.dedup();
    let mut builder = DigestBuilder::default();
    for path in paths {
        let place = guest.join(std::ffi::OsStr::from_bytes(&path));
        let Ok(metadata) = place.symlink_metadata() else { continue };
        let (kind, bytes) = if metadata.is_symlink() {
            (EntryKind::Symlink, std::fs::read_link(&place).unwrap().as_os_str().as_bytes().to_vec())
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            (if executable { EntryKind::Executable } else { EntryKind::File }, std::fs::read(&place).unwrap())
        } else {
            continue;
        };
        builder.push(&path, Content { kind, digest: blake3_of(&bytes) });
    }
    builder.finish()
}

fn blake3_of(bytes: &[u8]) -> blake3::Hash {
    blake3::hash(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_run_reads_content_whose_digest_was_printed() {
    let Some(sshd) = Sshd::start() else { return };
    let runs = number("BANGER_BARRIER_RUNS", 1000);
    let repo = Repo::new();
    for file in 0..20 {
        repo.write(format!("busy/{file}"), b"0\n");
    }
    repo.commit("busy");
    let session = Following::start(&sshd, repo, Wanted::default()).await;
    session.until("in step", is_in_step).await;
    let over = Arc::new(AtomicBool::new(false));
    let mutators: Vec<_> = (0..2)
        .map(|mutator| {
            let (root, over) = (session.repo.root.clone(), over.clone());
            std::thread::spawn(move || {
                let mut number = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    let name = format!("busy/{}", (number * 7 + mutator) % 20);
                    if number.is_multiple_of(3) {
                        save(&root, &name, format!("{mutator} {number}\n").as_bytes());
                    } else {
                        std::fs::write(root.join(&name), format!("{number}\n").repeat(50)).unwrap();
                    }
                    number += 1;
                }
                number
            })
        })
        .collect();
    let mut digests = std::collections::HashSet::new();
    for run in 0..runs {
        let (flushed, held) = tokio::time::timeout(super::PATIENCE, session.watch.hold())
            .await
            .unwrap_or_else(|_| panic!("run {run}: {:#?}", session.status()))
            .unwrap();
        assert_eq!(flushed.guest, flushed.host, "run {run}");
        assert_eq!(digest_of_guest(&session.guest, &session.repo), flushed.guest, "run {run}");
        digests.insert(flushed.guest);
        drop(held);
    }
    over.store(true, Ordering::Relaxed);
    let edits: u64 = mutators.into_iter().map(|mutator| mutator.join().unwrap()).sum();
    assert!(edits > 100 && digests.len() > runs / 2, "{edits} edits, {} trees in {runs} runs", digests.len());
    session.assert_in_step("at the end").await;
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_covers_everything_saved_before_it() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    for number in 0..30 {
        let content = format!("{number}\n");
        session.repo.write("README.md", content.as_bytes());
        session.watch.flush().await.unwrap();
        assert_eq!(std::fs::read(session.guest.join("README.md")).unwrap(), content.as_bytes());
    }
    session.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tree_of_a_running_command_stays_and_then_catches_up() {
    let Some(sshd) = Sshd::start() else { return };
    let session = Following::start(&sshd, Repo::new(), Wanted::default()).await;
    let (flushed, held) = session.watch.hold().await.unwrap();
    session.repo.write("README.md", b"meanwhile\n");
    session.until("held", |status| status.state == banger_sync::watch::State::HeldByCommand).await;
    let watch = session.watch.clone();
    let second = tokio::spawn(async move { watch.flush().await });
    tokio::pin!(second);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), &mut second).await.is_err());
    assert_eq!(digest_of_guest(&session.guest, &session.repo), flushed.guest);
    drop(held);
    session.watch.shown(super::PATIENCE).await;
    assert_ne!(session.watch.status().state, banger_sync::watch::State::HeldByCommand);
    assert_eq!(second.await.unwrap().unwrap().guest, session.host_digest(false));
    session.guest_has("README.md", Some(b"meanwhile\n")).await;
    session.stop().await;
}
