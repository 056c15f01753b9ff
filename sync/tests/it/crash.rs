//! The receiver dies at any byte: every file is old or new, and the next run finishes and clears up.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use banger_sync::overlay::{ObserveOptions, Overlay, observe};
use banger_sync::prepare::GitOutcome;
use banger_sync::quote::shell_quote;
use banger_sync::receiver;
use banger_sync::ssh::Connection;

use crate::difference::noise;
use crate::prepare::{RECEIVER, command_with_pid, prepare_by, prepare_into};
use crate::repo::{Repo, git_in};
use crate::sshd::Sshd;
use crate::tape::cuts;

/// Runs a prepare and keeps every byte the host sent.
pub async fn recorded(connection: &Connection, overlay: &Overlay, root: &Path, tape: &Path) -> Vec<u8> {
    let command = format!(
        "tee {} | {} --root {}",
        shell_quote(tape.to_str().unwrap()),
        shell_quote(RECEIVER),
        shell_quote(root.to_str().unwrap())
    );
    prepare_by(connection, overlay, root, &command).await.unwrap();
    std::fs::read(tape).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if path.is_symlink() || relative == Path::new(".git") {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(relative, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with(".banger-tmp-")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_frame_and_at_random_bytes_each_file_is_old_or_new() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let large = noise(3 << 20, 1);
    repo.write("large", &large);
    repo.write("gone", b"to be removed\n");
    repo.commit("before");
    let before = repo.place.path().join("before");
    prepare_into(&connection, &observe(&repo.root, &ObserveOptions::default()).unwrap(), &before).await.unwrap();
    repo.write("large", &[&large[700 << 10..], &noise(900 << 10, 2), &large[..700 << 10]].concat());
    repo.write("README.md", b"after\n");
    repo.write("new/file", b"new\n");
    repo.remove("gone");
    repo.chmod("src/main.c", 0o755);
    repo.commit("after");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let after = repo.place.path().join("after");
    copy(&before, &after);
    let tape = recorded(&connection, &overlay, &after, &repo.place.path().join("tape")).await;
    let (old, new) = (files(&before), files(&after));

    for cut in cuts(&tape, 60) {
        let guest = repo.place.path().join("guest");
        copy(&before, &guest);
        let ended = receiver::run(&guest, Cursor::new(&tape[..cut]), std::io::sink());
        assert_eq!(ended.is_ok(), cut == tape.len(), "cut at {cut}");
        for (path, content) in files(&guest) {
            let known = old.get(&path) == Some(&content) || new.get(&path) == Some(&content);
            assert!(known || is_temporary(&path), "cut at {cut}: {} is neither old nor new", path.display());
        }
        let finished = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert!(finished.conflicts.is_empty(), "cut at {cut}: {:?}", finished.conflicts);
        assert_ne!(finished.git, GitOutcome::KeptGuestHistory, "cut at {cut}");
        assert_eq!(files(&guest), new, "cut at {cut}: with no temporary left");
        assert_eq!(git_in(&guest, &["status", "--porcelain"]), b"", "cut at {cut}");
        std::fs::remove_dir_all(&guest).unwrap();
    }
}

/// Not a stream that ends but a process that is gone, in the middle of a system call or between two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_while_it_writes_leaves_old_or_new() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    for letter in [b'c', b'x'] {
        for number in 0..300 {
            repo.write(format!("many/{number}"), &vec![letter; 2000]);
        }
        // The second time they are no objects: they come as content, one after the other.
        if letter == b'c' {
            repo.commit("many");
        }
    }
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let mut killed = 0;
    for round in 0..12_u32 {
        let pid_file = repo.place.path().join("pid");
        let command = command_with_pid(&guest, &pid_file);
        let many = guest.join("many");
        let killer = std::thread::spawn(move || {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            let enough = usize::try_from(round * 20).unwrap();
            while std::time::Instant::now() < deadline {
                if std::fs::read_dir(&many).map_or(0, Iterator::count) > enough {
                    let pid = std::fs::read_to_string(&pid_file).unwrap();
                    std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
                    return;
                }
                std::thread::yield_now();
            }
        });
        killed += u32::from(prepare_by(&connection, &overlay, &guest, &command).await.is_err());
        killer.join().unwrap();
        for (path, content) in files(&guest) {
            assert!(is_temporary(&path) || std::fs::read(repo.path(&path)).unwrap() == content, "{}", path.display());
        }
    }
    assert!(killed > 0, "no receiver was caught at work");
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_eq!(files(&guest), files(&repo.root));
}
