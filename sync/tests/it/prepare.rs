//! A whole transfer through a real SSH server, judged by git on both sides.

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_sync::diff::ConflictReason;
use banger_sync::overlay::{ObserveOptions, Overlay, observe};
use banger_sync::prepare::{GitOutcome, PrepareError, Prepared, Receiver};
use banger_sync::quote::shell_quote;
use banger_sync::ssh::Connection;

use crate::repo::{Repo, git_command, git_in};
use crate::scenarios;
use crate::sshd::Sshd;

pub const RECEIVER: &str = env!("CARGO_BIN_EXE_banger-sync-receiver");

pub fn command(root: &Path) -> String {
    format!("{} --root {}", shell_quote(RECEIVER), shell_quote(root.to_str().unwrap()))
}

/// The same, and its process writes down which it is, for whoever wants to kill it.
pub fn command_with_pid(root: &Path, pid_file: &Path) -> String {
    format!("echo $$ > {}; exec {}", shell_quote(pid_file.to_str().unwrap()), command(root))
}

pub async fn prepare_into(connection: &Connection, overlay: &Overlay, root: &Path) -> Result<Prepared, PrepareError> {
    prepare_by(connection, overlay, root, &command(root)).await
}

/// With a receiver that `command` starts.
pub async fn prepare_by(
    connection: &Connection,
    overlay: &Overlay,
    root: &Path,
    command: &str,
) -> Result<Prepared, PrepareError> {
    let receiver = Receiver::open_with(connection, command).await?;
    receiver.prepare(overlay, root.to_str().unwrap(), &|_| {}).await
}

fn everything() -> ObserveOptions {
    ObserveOptions { include_untracked: true, ..ObserveOptions::default() }
}

/// git must not see a difference between the two directories.
pub fn assert_same_for_git(name: &str, host: &Path, guest: &Path) {
    for arguments in [
        &["status", "--porcelain=v1", "-z", "-uall"][..],
        &["status", "--porcelain=v2", "-z", "-uno"],
        &["diff"],
        &["diff", "--cached"],
        &["ls-files", "-s", "-z"],
        &["ls-files", "-v", "-z"],
        &["log", "-1", "--format=%H %T %an %s"],
        &["symbolic-ref", "HEAD"],
    ] {
        let run = |dir: &Path| git_command(dir).args(arguments).output().unwrap();
        let (ours, theirs) = (run(host), run(guest));
        assert_eq!(
            String::from_utf8_lossy(&theirs.stdout),
            String::from_utf8_lossy(&ours.stdout),
            "{name}: git {arguments:?}: {}",
            String::from_utf8_lossy(&theirs.stderr)
        );
        assert_eq!(theirs.status.code(), ours.status.code(), "{name}: git {arguments:?}");
    }
    let check = git_command(guest).args(["fsck", "--strict", "--no-dangling"]).output().unwrap();
    let unborn = git_command(guest).args(["rev-parse", "-q", "--verify", "HEAD"]).output().unwrap().stdout.is_empty();
    assert!(check.status.success() || unborn, "{name}: {}", String::from_utf8_lossy(&check.stderr));
}

fn guest_root(repo: &Repo) -> PathBuf {
    repo.place.path().join("guest/it's here")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_sees_no_difference_between_host_and_guest() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    for (name, build) in scenarios::ALL {
        let repo = build();
        let overlay = observe(&repo.root, &everything()).unwrap();
        let guest = guest_root(&repo);
        let prepared =
            prepare_into(&connection, &overlay, &guest).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(prepared.tree_digest, overlay.tree_digest(), "{name}");
        assert_eq!(prepared.files_sent, overlay.manifest.entries.len() as u64, "{name}");
        assert!(prepared.conflicts.is_empty(), "{name}");
        if *name == "a repository inside" {
            // Not carried, and git lists it as one untracked directory on the host.
            assert_eq!(overlay.nested_repositories.len(), 1);
            std::fs::remove_dir_all(repo.path("nested")).unwrap();
        }
        assert_same_for_git(name, &repo.root, &guest);

        let again = prepare_into(&connection, &overlay, &guest).await.unwrap();
        assert_eq!((again.files_sent, again.git), (0, GitOutcome::Unchanged), "{name}");
        assert_eq!(again.tree_digest, prepared.tree_digest, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_git_status_reads_no_file() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    // Stat data of the index are stale on the host: the guest's are not.
    let later = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    for path in ["README.md", "src/main.c", "run.sh"] {
        std::fs::File::options().write(true).open(repo.path(path)).unwrap().set_modified(later).unwrap();
    }
    assert!(!repo.git(&["diff-files", "--name-only"]).is_empty());
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    assert_eq!(git_in(&guest, &["diff-files", "--name-only"]), b"");
    assert_eq!(git_in(&guest, &["status", "--porcelain"]), b"");
    assert_eq!(std::fs::metadata(guest.join("README.md")).unwrap().modified().unwrap(), later);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_branch_starts_where_it_was_told_to() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.write("README.md", b"work in progress\n");
    let named = ObserveOptions { branch: Some("try/it".into()), ..everything() };
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &named).unwrap(), &guest).await.unwrap();
    assert_eq!(git_in(&guest, &["symbolic-ref", "HEAD"]), b"refs/heads/try/it\n");
    assert_eq!(git_in(&guest, &["status", "--porcelain"]), b" M README.md\n");

    let from = ObserveOptions { branch: Some("old".into()), from: Some("main~1".into()), ..everything() };
    let guest = repo.place.path().join("from");
    prepare_into(&connection, &observe(&repo.root, &from).unwrap(), &guest).await.unwrap();
    assert_eq!(git_in(&guest, &["diff-files", "--name-only"]), b"");
    assert_eq!(git_in(&guest, &["status", "--porcelain"]), b"");
    assert_eq!(std::fs::read(guest.join("README.md")).unwrap(), b"hello\n");
    assert_eq!(git_in(&guest, &["rev-parse", "old"]), repo.git(&["rev-parse", "main~1"]));
    git_in(&guest, &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_changed_is_sent_again() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();

    repo.write("README.md", b"third\n");
    repo.write("new/dir/file", b"new\n");
    std::fs::remove_dir_all(repo.path("src/deep")).unwrap();
    repo.commit("third");
    repo.write("untracked", b"u\n");
    let overlay = observe(&repo.root, &everything()).unwrap();
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_eq!((prepared.files_sent, prepared.files_removed), (3, 1));
    assert_eq!(prepared.git, GitOutcome::Installed);
    assert!(!guest.join("src/deep").exists(), "emptied directories go");
    assert_same_for_git("second", &repo.root, &guest);
    let packs = std::fs::read_dir(guest.join(".git/objects/pack")).unwrap().count();
    assert_eq!(packs, 4, "a second pack with its index");

    // A directory becomes a file and a file a directory.
    std::fs::remove_dir_all(repo.path("new")).unwrap();
    repo.write("new", b"a file now\n");
    repo.remove("untracked");
    repo.write("untracked/x", b"x\n");
    let overlay = observe(&repo.root, &everything()).unwrap();
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert!(prepared.conflicts.is_empty(), "{:?}", prepared.conflicts);
    assert_same_for_git("third", &repo.root, &guest);

    // Another branch, then back.
    repo.git(&["stash", "-q", "-u"]);
    repo.git(&["checkout", "-q", "-b", "other", "HEAD~1"]);
    let overlay = observe(&repo.root, &everything()).unwrap();
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_same_for_git("other", &repo.root, &guest);
    repo.git(&["checkout", "-q", "main"]);
    let overlay = observe(&repo.root, &everything()).unwrap();
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_same_for_git("back", &repo.root, &guest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_done_in_the_guest_is_never_overwritten() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();

    std::fs::write(guest.join("README.md"), "guest\n").unwrap();
    std::fs::write(guest.join("src/main.c"), "guest\n").unwrap();
    std::fs::remove_file(guest.join("run.sh")).unwrap();
    std::fs::write(guest.join("made"), "guest\n").unwrap();
    std::fs::write(guest.join("same"), "same\n").unwrap();
    std::fs::create_dir(guest.join("newdir")).unwrap();
    std::fs::write(guest.join("newdir/keep"), "guest\n").unwrap();
    std::fs::write(guest.join("src/only-guest"), "guest\n").unwrap();
    repo.write("README.md", b"host\n");
    repo.remove("src/main.c");
    repo.write("made", b"host\n");
    repo.write("same", b"same\n");
    repo.write("newdir", b"a file on the host\n");
    let overlay = observe(&repo.root, &everything()).unwrap();
    for _ in 0..2 {
        let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
        let conflicts: Vec<_> =
            prepared.conflicts.iter().map(|conflict| (conflict.path.to_string(), conflict.reason)).collect();
        assert_eq!(
            conflicts,
            [
                ("README.md".to_owned(), ConflictReason::ChangedInGuest),
                ("made".to_owned(), ConflictReason::CreatedInGuest),
                ("newdir".to_owned(), ConflictReason::Obstructed),
                ("run.sh".to_owned(), ConflictReason::DeletedInGuest),
                ("src/main.c".to_owned(), ConflictReason::ChangedInGuest),
            ]
        );
        assert_ne!(prepared.tree_digest, overlay.tree_digest());
        for kept in ["README.md", "src/main.c", "made", "newdir/keep", "src/only-guest"] {
            assert_eq!(std::fs::read(guest.join(kept)).unwrap(), b"guest\n", "{kept}");
        }
    }

    // Once the guest agrees, the conflicts are over.
    for (path, content) in [("README.md", "host\n"), ("made", "host\n"), ("run.sh", "#!/bin/sh\necho hi\n")] {
        std::fs::write(guest.join(path), content).unwrap();
    }
    std::os::unix::fs::PermissionsExt::set_mode(&mut guest.join("run.sh").metadata().unwrap().permissions(), 0o755);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(guest.join("run.sh"), mode).unwrap();
    std::fs::remove_dir_all(guest.join("newdir")).unwrap();
    std::fs::remove_file(guest.join("src/main.c")).unwrap();
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert!(prepared.conflicts.is_empty(), "{:?}", prepared.conflicts);
    assert_eq!(prepared.tree_digest, overlay.tree_digest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_made_in_the_guest_stay() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    std::fs::write(guest.join("in-guest"), "g\n").unwrap();
    git_in(&guest, &["add", "in-guest"]);
    git_in(&guest, &["commit", "-q", "-m", "made in the guest"]);
    let commit = git_in(&guest, &["rev-parse", "HEAD"]);
    repo.write("README.md", b"host moves on\n");
    repo.commit("host");
    let overlay = observe(&repo.root, &everything()).unwrap();
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_eq!(prepared.git, GitOutcome::KeptGuestHistory);
    assert_eq!(git_in(&guest, &["rev-parse", "HEAD"]), commit);
    assert_eq!(std::fs::read(guest.join("README.md")).unwrap(), b"host moves on\n");
    git_in(&guest, &["fsck"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guest_keeps_its_own_git_configuration() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.git(&["remote", "add", "origin", "https://user:secret@example.com/x.git"]);
    let guest = guest_root(&repo);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    assert_eq!(git_in(&guest, &["config", "remote.origin.url"]), b"https://example.com/x.git\n");
    assert_eq!(git_in(&guest, &["config", "user.name"]), b"Ada\n");
    git_in(&guest, &["config", "user.name", "Guest"]);
    repo.git(&["config", "user.email", "new@example.com"]);
    prepare_into(&connection, &observe(&repo.root, &everything()).unwrap(), &guest).await.unwrap();
    assert_eq!(git_in(&guest, &["config", "user.name"]), b"Guest\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_other_content_is_refused() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_root(&repo);
    std::fs::create_dir_all(&guest).unwrap();
    std::fs::write(guest.join("precious"), "p").unwrap();
    let overlay = observe(&repo.root, &everything()).unwrap();
    let error = prepare_into(&connection, &overlay, &guest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
    assert!(!error.hints().is_empty());
    assert_eq!(std::fs::read_dir(&guest).unwrap().count(), 1);
    let error = prepare_into(&connection, &overlay, Path::new("/proc/nowhere")).await.unwrap_err();
    assert!(matches!(error, PrepareError::Guest { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_after_the_observation_is_sent_as_it_is() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    repo.write("large", &vec![1; 2 << 20]);
    repo.commit("large");
    // What is as committed may come as an object, and so as it was observed.
    repo.write("README.md", b"changed before\n");
    repo.write("src/main.c", b"changed before\n");
    repo.write("large", &vec![3; 2 << 20]);
    let overlay = observe(&repo.root, &everything()).unwrap();
    repo.write("README.md", b"changed meanwhile\n");
    repo.write("large", &vec![2; 1 << 20]);
    repo.remove("src/main.c");
    repo.remove("link");
    repo.write("link", b"a file now\n");
    let guest = guest_root(&repo);
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    let now = observe(&repo.root, &everything()).unwrap();
    assert_eq!(prepared.tree_digest, now.tree_digest());
    assert_same_for_git("changed meanwhile", &repo.root, &guest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_object_is_named() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let id = repo.text(&["rev-parse", "HEAD:run.sh"]);
    std::fs::remove_file(repo.path(format!(".git/objects/{}/{}", &id[..2], &id[2..]))).unwrap();
    let overlay = observe(&repo.root, &everything()).unwrap();
    let error = prepare_into(&connection, &overlay, &guest_root(&repo)).await.unwrap_err();
    assert!(matches!(&error, PrepareError::Pack { source } if source.to_string().contains(&id)), "{error:?}");
    assert!(error.hints().iter().any(|hint| hint.contains("git fetch")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_not_there_says_so() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let error = Receiver::open_with(&connection, "/no/such/receiver").await.err().unwrap();
    assert!(error.to_string().contains("not found"), "{error}");
    let noisy = format!("echo hello; {}", command(&guest_root(&repo)));
    let error = Receiver::open_with(&connection, &noisy).await.err().unwrap();
    assert!(matches!(&error, PrepareError::Noise { text } if text.starts_with("hello")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dry_run_lists_is_byte_for_byte_what_arrives() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    for (name, build) in scenarios::ALL {
        let repo = build();
        // What is listed is this, entry for entry; a second observation lists the same.
        let overlay = observe(&repo.root, &everything()).unwrap();
        let again = observe(&repo.root, &everything()).unwrap();
        assert_eq!(overlay.manifest, again.manifest, "{name}");
        let guest = guest_root(&repo);
        prepare_into(&connection, &overlay, &guest).await.unwrap();
        let mut listed = 0;
        for entry in &overlay.manifest.entries {
            use std::os::unix::ffi::OsStrExt;
            let path = guest.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
            let metadata = path.symlink_metadata().unwrap();
            let content = match metadata.is_symlink() {
                true => std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec(),
                false => std::fs::read(&path).unwrap(),
            };
            assert_eq!((entry.size, entry.digest), (content.len() as u64, blake3::hash(&content)), "{name}: {path:?}");
            listed += 1;
        }
        let arrived = std::process::Command::new("find")
            .arg(&guest)
            .args(["-path", "*/.git", "-prune", "-o", "!", "-type", "d", "-print0"])
            .output()
            .unwrap();
        assert_eq!(crate::repo::split(&arrived.stdout).count(), listed, "{name}: nothing else arrives");
    }
}
