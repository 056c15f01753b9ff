//! Claims about the shelf, on a real directory.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::reporter::Reporter;

fn shelf() -> (tempfile::TempDir, Shelf) {
    let directory = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(directory.path().join("shelf")).unwrap();
    (directory, shelf)
}

async fn publish(shelf: &Shelf, name: &str, manifest: &str) -> PathBuf {
    let lock = shelf.lock(name, &Reporter::silent("test")).await.unwrap();
    let staged = shelf.stage(&lock).unwrap();
    fs::write(staged.path().join("content"), manifest).unwrap();
    shelf.publish(staged, &manifest).unwrap()
}

#[tokio::test]
async fn the_newest_build_of_a_name_wins_and_the_older_one_stays() {
    let (_directory, shelf) = shelf();
    let first = publish(&shelf, "a", "first").await;
    publish(&shelf, "b", "other").await;
    let second = publish(&shelf, "a", "second").await;
    let found = shelf.find::<String>("a").unwrap().unwrap();
    assert_eq!((found.directory, found.manifest.as_str()), (second, "second"));
    assert_eq!(shelf.newest::<String>().unwrap().len(), 2);
    let old = shelf.superseded::<String>().unwrap();
    assert_eq!(old.len(), 1);
    assert_eq!(old[0].directory, first);
    assert!(first.join("content").exists());
}

#[tokio::test]
async fn an_unpublished_build_leaves_nothing() {
    let (_directory, shelf) = shelf();
    let lock = shelf.lock("a", &Reporter::silent("test")).await.unwrap();
    let staged = shelf.stage(&lock).unwrap();
    let path = staged.path().to_owned();
    fs::write(path.join("content"), "half").unwrap();
    drop(staged);
    assert!(!path.exists());
    assert!(shelf.all::<String>().unwrap().is_empty());
}

#[tokio::test]
async fn opening_removes_leftovers_unless_somebody_is_building() {
    let (_directory, shelf) = shelf();
    let staging = shelf.root().join(STAGING);
    let abandoned = staging.join("gone@1");
    let active = staging.join("busy@1");
    for path in [&abandoned, &active] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("content"), "half").unwrap();
    }
    let lock = shelf.lock("busy", &Reporter::silent("test")).await.unwrap();
    Shelf::open(shelf.root().to_owned()).unwrap();
    assert!(!abandoned.exists());
    assert!(active.exists());
    drop(lock);
    Shelf::open(shelf.root().to_owned()).unwrap();
    assert!(!active.exists());
}

#[tokio::test]
async fn a_second_process_waits_for_the_first_and_can_be_cancelled() {
    let (_directory, shelf) = shelf();
    // Another Shelf value has its own mutexes, as another process would.
    let other = Shelf::open(shelf.root().to_owned()).unwrap();
    let held = shelf.lock("a", &Reporter::silent("first")).await.unwrap();
    let cancel = CancellationToken::new();
    let (events, mut received) = tokio::sync::mpsc::unbounded_channel();
    let reporter = Reporter::new("second".to_owned(), events, cancel.clone());
    let waiting = tokio::spawn(async move { other.lock("a", &reporter).await.map(|_| ()) });
    assert!(received.recv().await.is_some(), "the wait is told");
    cancel.cancel();
    assert!(matches!(waiting.await.unwrap(), Err(LockError::Cancelled { .. })));
    drop(held);
    let _free = shelf.lock("a", &Reporter::silent("third")).await.unwrap();
}

#[tokio::test]
async fn removal_takes_only_the_named_files() {
    let (_directory, shelf) = shelf();
    let path = publish(&shelf, "a", "first").await;
    fs::write(path.join("precious"), "by somebody else").unwrap();
    shelf.remove(&path, &["content", "never-was"]).unwrap();
    assert!(path.join("precious").exists());
    assert!(!path.join("content").exists());
    assert!(shelf.find::<String>("a").unwrap().is_none());
}

#[tokio::test]
async fn a_malformed_manifest_hides_only_its_own_artifact() {
    let (_directory, shelf) = shelf();
    publish(&shelf, "good", "fine").await;
    let bad = publish(&shelf, "bad", "fine").await;
    fs::write(bad.join(MANIFEST), "{").unwrap();
    assert_eq!(shelf.all::<String>().unwrap().len(), 1);
}
