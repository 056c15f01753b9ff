//! Transfers that break off at any moment.

use std::path::Path;

use banger_sync::overlay::{ObserveOptions, observe};

use crate::prepare::{RECEIVER, command, prepare_by, prepare_into};
use crate::repo::Repo;
use crate::sshd::Sshd;
use banger_sync::quote::shell_quote;

fn temporaries(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.file_name().as_encoded_bytes().starts_with(b".banger-tmp-") {
                found.push(entry.path());
            }
        }
    }
    found
}

/// A tree in which every file's content is one letter, many times.
fn fill(repo: &Repo, letter: u8) {
    for number in 0..40_usize {
        let size = if number % 10 == 0 { 700_000 } else { 1000 + number };
        repo.write(format!("dir{}/file{number}", number % 4), &vec![letter; size]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_cut_off_anywhere_leaves_every_file_old_or_new() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    fill(&repo, b'a');
    repo.commit("a");
    let guest = repo.place.path().join("guest");
    let options = ObserveOptions { include_untracked: true, ..ObserveOptions::default() };
    prepare_into(&connection, &observe(&repo.root, &options).unwrap(), &guest).await.unwrap();

    let mut letter = b'a';
    let mut cuts = 0;
    for limit in (0..4_000_000).step_by(170_003) {
        letter = if letter == b'z' { b'b' } else { letter + 1 };
        fill(&repo, letter);
        repo.write(format!("new-{letter}"), b"new\n");
        // Not committed: all of it has to come as content.
        let overlay = observe(&repo.root, &options).unwrap();
        // The receiver dies by a signal once its input ends early, as after a crash it cannot clear up.
        let cut = format!(
            "dd bs=64k count={limit} iflag=count_bytes status=none | {} --root {} ; kill -9 $$",
            shell_quote(RECEIVER),
            shell_quote(guest.to_str().unwrap())
        );
        let outcome = prepare_by(&connection, &overlay, &guest, &cut).await;
        cuts += usize::from(outcome.is_err());
        for number in 0..40_usize {
            let content = std::fs::read(guest.join(format!("dir{}/file{number}", number % 4))).unwrap();
            let first = content[0];
            assert!(content.iter().all(|byte| *byte == first), "file{number} is mixed after {limit} bytes");
            assert!(content.len() == 700_000 || content.len() == 1000 + number, "file{number} is cut");
        }
        let whole = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert!(whole.conflicts.is_empty(), "after {limit} bytes: {:?}", whole.conflicts);
        assert_eq!(whole.tree_digest, overlay.tree_digest());
        assert_eq!(temporaries(&guest), Vec::<std::path::PathBuf>::new());
        let status = |dir: &Path| crate::repo::git_in(dir, &["status", "--porcelain"]);
        assert_eq!(status(&guest), status(&repo.root), "after {limit} bytes");
    }
    assert!(cuts > 10, "only {cuts} transfers were really cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_receiver_is_cleaned_up_after() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.write("large", &vec![1; 8 << 20]);
    repo.git(&["add", "large"]);
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    // Its input stops in the middle of the large file, without an end, and then it is killed.
    let pid_file = shell_quote(repo.place.path().join("pid").to_str().unwrap());
    let script = format!(
        "( dd bs=64k count=3000000 iflag=count_bytes status=none; while ! ls {}/.banger-tmp-* >/dev/null 2>&1; do :; done; kill -9 $(cat {pid_file}) ) \
         | sh -c 'echo $$ > \"$1\"; shift; exec \"$@\"' sh {pid_file} {}",
        shell_quote(guest.to_str().unwrap()),
        command(&guest),
    );
    assert!(prepare_by(&connection, &overlay, &guest, &script).await.is_err());
    assert_eq!(temporaries(&guest).len(), 1, "the kill left its temporary");
    assert!(!guest.join("large").exists());
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert!(temporaries(&guest).is_empty());
    assert_eq!(std::fs::read(guest.join("large")).unwrap().len(), 8 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_transfers_at_once_are_not_mixed() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    let lock = std::fs::File::open(guest.join(".git/banger/lock")).unwrap();
    lock.lock().unwrap();
    let error = prepare_into(&connection, &overlay, &guest).await.unwrap_err();
    assert!(error.to_string().contains("another transfer"), "{error}");
    drop(lock);
    prepare_into(&connection, &overlay, &guest).await.unwrap();
}
