//! Large files: only what is new of them travels, and what the guest did to its version meanwhile is not lost.

use banger_sync::diff::ConflictReason;
use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::watch::BatchKind;

use crate::prepare::{assert_same_for_git, prepare_into};
use crate::repo::Repo;
use crate::sshd::Sshd;
use crate::watch::{Following, Wanted, is_in_step};

const SIZE: usize = 12 << 20;
/// What an edit in one place may cost: its blocks, and the git files.
const LITTLE: u64 = 400 << 10;

/// Bytes that look random and are always the same.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_prepare_sends_what_is_new_of_a_large_file() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = repo.place.path().join("guest");
    let mut content = noise(SIZE, 1);
    repo.write("large", &content);
    repo.write("other", &noise(3 << 20, 2));
    repo.commit("large");
    let options = ObserveOptions::default();
    let first = prepare_into(&connection, &observe(&repo.root, &options).unwrap(), &guest).await.unwrap();
    assert!(first.bytes_sent > SIZE as u64);

    let edits: [fn(&mut Vec<u8>); 5] = [
        |content| drop(content.splice(5_000_000..5_000_000, *b"inserted")),
        |content| content.extend_from_slice(b"appended"),
        |content| content.truncate(7 << 20),
        |content| content.rotate_left(3 << 20),
        |content| drop(content.drain(..100)),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        edit(&mut content);
        repo.write("large", &content);
        repo.chmod("large", if number % 2 == 0 { 0o755 } else { 0o644 });
        let overlay = observe(&repo.root, &options).unwrap();
        let again = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert_eq!((again.files_sent, again.tree_digest), (1, overlay.tree_digest()), "edit {number}");
        assert!(again.bytes_sent < LITTLE, "edit {number}: {} bytes", again.bytes_sent);
        assert_eq!(std::fs::read(guest.join("large")).unwrap(), content, "edit {number}");
        assert_same_for_git("an edit", &repo.root, &guest);
    }

    // All of it is new.
    repo.write("large", &noise(SIZE, 3));
    let again = prepare_into(&connection, &observe(&repo.root, &options).unwrap(), &guest).await.unwrap();
    assert!(again.bytes_sent >= SIZE as u64);
    assert_eq!(std::fs::read(guest.join("large")).unwrap(), noise(SIZE, 3));

    // The guest's own version is no base, and stays.
    std::fs::write(guest.join("large"), noise(SIZE, 4)).unwrap();
    repo.write("large", &noise(SIZE - 1, 3));
    let again = prepare_into(&connection, &observe(&repo.root, &options).unwrap(), &guest).await.unwrap();
    assert_eq!(again.conflicts[0].reason, ConflictReason::ChangedInGuest);
    assert_eq!(std::fs::read(guest.join("large")).unwrap(), noise(SIZE, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_sends_what_is_new_of_a_large_file() {
    let Some(sshd) = Sshd::start() else { return };
    let repo = Repo::new();
    let mut content = noise(SIZE, 5);
    repo.write("large", &content);
    repo.commit("large");
    let mut session = Following::start(&sshd, repo, Wanted::default()).await;
    session.until("in step", is_in_step).await;
    assert_eq!(session.batches.recv().await.unwrap().kind, BatchKind::Whole);
    content.extend_from_slice(b"a line of a log\n");
    crate::watch::save(&session.repo.root, "large", &content);
    session.guest_has("large", Some(&content)).await;
    let batch = session.batches.recv().await.unwrap();
    assert!(batch.bytes < LITTLE, "{} bytes", batch.bytes);
    session.assert_in_step("after an edit of a large file").await;
    // Written in place, over and over.
    for byte in 0..20_u8 {
        content[usize::from(byte) * 500_000] = byte;
        session.repo.write("large", &content);
    }
    session.guest_has("large", Some(&content)).await;
    session.assert_in_step("after many").await;
    session.stop().await;
}
