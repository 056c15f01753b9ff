#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

fn opened(root: &Path, budget: Option<usize>) -> Events {
    fs::create_dir_all(root.join(".git/refs/heads/deep")).unwrap();
    let git = root.join(".git");
    Events::open(root, GitPlaces { own: git.clone(), common: git }, budget).unwrap()
}

/// Everything told until nothing is for a while.
async fn told(events: &mut Events) -> Vec<Hint> {
    let mut hints = Vec::new();
    while tokio::time::timeout(Duration::from_millis(100), events.ready()).await.is_ok() {
        events.drain(&mut hints).unwrap();
    }
    hints
}

#[tokio::test]
async fn saves_are_told_where_they_are_watched_and_nowhere_else() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(root.join("ignored")).unwrap();
    let mut events = opened(root, None);
    let added = events.watch(&[path("a"), path("a/b")]).unwrap();
    assert_eq!(added, [path("a"), path("a/b")]);
    assert_eq!(events.watch(&[path("a"), path("a/b")]).unwrap(), []);
    fs::write(root.join("a/b/file"), "x").unwrap();
    fs::write(root.join("ignored/file"), "x").unwrap();
    fs::write(root.join("top"), "x").unwrap();
    let hints = told(&mut events).await;
    assert!(hints.contains(&Hint::At(path("a/b/file"))) && hints.contains(&Hint::At(path("top"))), "{hints:?}");
    assert!(!hints.iter().any(|hint| matches!(hint, Hint::At(at) if at.to_string().starts_with("ignored"))));
    fs::write(root.join(".git/index.lock"), "x").unwrap();
    assert!(told(&mut events).await.contains(&Hint::Git));
    fs::create_dir(root.join(".git/refs/heads/new")).unwrap();
    told(&mut events).await;
    fs::write(root.join(".git/refs/heads/new/branch"), "x").unwrap();
    assert!(told(&mut events).await.contains(&Hint::Git), "directories of branches are watched as they come");
}

#[tokio::test]
async fn a_directory_that_moves_is_told_twice_and_its_old_name_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    let mut events = opened(root, None);
    events.watch(&[path("a"), path("a/b")]).unwrap();
    fs::rename(root.join("a"), root.join("z")).unwrap();
    let hints = told(&mut events).await;
    assert!(hints.contains(&Hint::Below(path("a"))) && hints.contains(&Hint::Below(path("z"))), "{hints:?}");
    assert_eq!(events.watched(), 1, "only the root");
    events.watch(&[path("z"), path("z/b")]).unwrap();
    fs::write(root.join("z/b/file"), "x").unwrap();
    assert!(told(&mut events).await.contains(&Hint::At(path("z/b/file"))));
}

#[tokio::test]
async fn an_overflow_means_everywhere() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut events = opened(root, None);
    events.watch(&[]).unwrap();
    // Alternating names, as the kernel merges equal neighbours.
    for number in 0..limit {
        fs::write(root.join(if number % 2 == 0 { "even" } else { "odd" }), "x").unwrap();
    }
    assert!(told(&mut events).await.contains(&Hint::Everything));
    fs::write(root.join("after"), "x").unwrap();
    assert!(told(&mut events).await.contains(&Hint::At(path("after"))), "and it goes on");
}

#[tokio::test]
async fn over_the_budget_only_git_is_watched() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let names: Vec<String> = (0..50).map(|number| format!("d{number:02}")).collect();
    for name in &names {
        fs::create_dir(root.join(name)).unwrap();
    }
    let directories: Vec<TreePath> = names.iter().map(|name| path(name)).collect();
    let mut events = opened(root, Some(20));
    assert_eq!(events.watch(&directories), Err(OverBudget { needed: 51, budget: 20 }));
    assert_eq!(events.watched(), 0);
    fs::write(root.join("d00/file"), "x").unwrap();
    fs::write(root.join(".git/HEAD"), "x").unwrap();
    let hints = told(&mut events).await;
    assert!(hints.iter().all(|hint| *hint == Hint::Git) && !hints.is_empty(), "{hints:?}");
    assert!(events.watch(&directories[..5]).is_ok(), "and again once it fits");
}

#[tokio::test]
async fn the_end_of_the_root_is_told() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut events = opened(&root, None);
    events.watch(&[]).unwrap();
    fs::rename(&root, place.path().join("elsewhere")).unwrap();
    assert!(told(&mut events).await.contains(&Hint::Root));
}
