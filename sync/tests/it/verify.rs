//! What `verify` sees, against a real SSH server.

use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::verify::{DifferenceKind, verify};

use crate::prepare::{command, prepare_into};
use crate::repo::Repo;
use crate::sshd::Sshd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_trees_have_no_difference_and_every_kind_of_difference_is_named() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    let equal = verify(&connection, &overlay, &command(&guest)).await.unwrap();
    assert_eq!((equal.host, equal.guest, equal.differences.len()), (overlay.tree_digest(), overlay.tree_digest(), 0));
    assert_eq!(equal.paths, overlay.manifest.entries.len() as u64);

    // The same size and times: only reading the file shows it.
    let path = guest.join("README.md");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, b"HELLO again\n").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    std::fs::remove_file(guest.join("run.sh")).unwrap();
    std::fs::create_dir(guest.join("run.sh")).unwrap();
    std::fs::remove_file(guest.join("link")).unwrap();
    std::fs::write(guest.join("link"), b"src/main.c").unwrap();
    std::fs::remove_file(guest.join("src/main.c")).unwrap();
    repo.git(&["rm", "-q", "src/deep/er/file.txt"]);
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let found = verify(&connection, &overlay, &command(&guest)).await.unwrap();
    assert_ne!(found.host, found.guest);
    let differences: Vec<(String, DifferenceKind)> =
        found.differences.iter().map(|difference| (difference.path.to_string(), difference.kind)).collect();
    let expected = [
        ("README.md", DifferenceKind::Content),
        ("link", DifferenceKind::Kind),
        ("run.sh", DifferenceKind::Obstructed),
        ("src/deep/er/file.txt", DifferenceKind::Extra),
        ("src/main.c", DifferenceKind::Missing),
    ];
    assert_eq!(differences, expected.map(|(path, kind)| (path.to_owned(), kind)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_makes_nothing_where_nothing_was_prepared() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let guest = repo.place.path().join("nothing");
    assert!(verify(&connection, &overlay, &command(&guest)).await.is_err());
    assert!(!guest.exists());
}
