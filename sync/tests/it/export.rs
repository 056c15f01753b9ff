//! The guest's work on its way back, judged by git on both sides.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_sync::export::apply::Staging;
use banger_sync::export::branch::Incoming;
use banger_sync::export::work::{look, mark_exported};
use banger_sync::export::{ExportError, Item, Summary, Wanted, export};
use banger_sync::overlay::{ObserveOptions, observe};
use banger_sync::ssh::Connection;

use crate::prepare::{command, prepare_into};
use crate::repo::{Repo, git_command, git_in};
use crate::sshd::Sshd;

/// A guest with a commit, an edit, a deletion, a mode, a link, binary and odd names, and an ignored file.
async fn guest_with_work(connection: &Connection, repo: &Repo) -> PathBuf {
    repo.write("binary", &[0, 1, 2, 255, 0]);
    repo.commit("binary");
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    prepare_into(connection, &overlay, &guest).await.unwrap();
    std::fs::write(guest.join("committed.txt"), b"committed\n").unwrap();
    git_in(&guest, &["add", "-A"]);
    git_in(&guest, &["commit", "-q", "-m", "in the guest"]);
    std::fs::write(guest.join("README.md"), b"edited\r\nno newline at the end").unwrap();
    std::fs::write(guest.join("binary"), [9, 0, 255, 10, 13]).unwrap();
    std::fs::remove_file(guest.join("run.sh")).unwrap();
    std::fs::write(guest.join("a new \"file\"\n with é"), b"new\n").unwrap();
    std::fs::create_dir(guest.join("sub")).unwrap();
    std::os::unix::fs::symlink("../README.md", guest.join("sub/link")).unwrap();
    std::fs::write(guest.join("ignored.o"), b"ignored").unwrap();
    guest
}

fn base(repo: &Repo) -> Option<gix::ObjectId> {
    Some(gix::ObjectId::from_hex(repo.text(&["rev-parse", "HEAD"]).as_bytes()).unwrap())
}

/// Everything under a root but `.git`.
fn tree(root: &Path) -> BTreeMap<PathBuf, (bool, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() == ".git" {
                continue;
            }
            let relative = path.strip_prefix(root).unwrap().to_owned();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_symlink() {
                use std::os::unix::ffi::OsStrExt;
                found.insert(relative, (true, std::fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()));
            } else if metadata.is_dir() {
                pending.push(path);
            } else {
                found.insert(relative, (false, std::fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// The guest's own git, index and references must not move.
fn state_of_git(guest: &Path) -> Vec<Vec<u8>> {
    let mut state = vec![std::fs::read(guest.join(".git/index")).unwrap()];
    for arguments in
        [&["for-each-ref"][..], &["rev-parse", "HEAD"], &["count-objects", "-v"], &["status", "--porcelain"]]
    {
        state.push(git_in(guest, arguments));
    }
    state
}

async fn patch_of(connection: &Connection, guest: &Path, wanted: Wanted) -> (Summary, Vec<u8>) {
    let mut patch = Vec::new();
    let summary = export(connection, &command(guest), wanted, &mut |item| {
        if let Item::Patch(bytes) = item {
            patch.extend_from_slice(bytes);
        }
        Ok::<(), io::Error>(())
    })
    .await
    .unwrap();
    (summary, patch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_patch_makes_the_guests_tree_and_the_guest_stays_as_it_is() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let before = (state_of_git(&guest), tree(&guest));
    let wanted = Wanted { base: base(&repo), patch: true, ..Wanted::default() };
    let (summary, patch) = patch_of(&connection, &guest, wanted).await;
    assert_eq!((summary.commits, summary.branch.as_deref()), (1, Some("refs/heads/main")));
    assert_eq!((state_of_git(&guest), tree(&guest)), before);
    // The receiver clears up after its last word.
    let nothing_left = || {
        let left = std::fs::read_dir(guest.join(".git/banger")).unwrap().map(|entry| entry.unwrap().file_name());
        left.into_iter().all(|name| !name.to_string_lossy().starts_with("export-"))
    };
    crate::watch::eventually("nothing of the export is left", nothing_left, String::new).await;

    std::fs::write(repo.place.path().join("work.patch"), &patch).unwrap();
    repo.git(&["apply", "--binary", "../work.patch"]);
    let mut expected = tree(&guest);
    expected.remove(Path::new("ignored.o"));
    assert_eq!(tree(&repo.root), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_become_a_bundle_that_git_fetches() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let wanted = Wanted { base: base(&repo), pack: true, ..Wanted::default() };
    let mut pack = Vec::new();
    let summary = export(&connection, &command(&guest), wanted, &mut |item| {
        if let Item::Pack(bytes) = item {
            pack.extend_from_slice(bytes);
        }
        Ok::<(), io::Error>(())
    })
    .await
    .unwrap();
    let header = banger_sync::export::bundle::header(&summary, base(&repo)).unwrap();
    let bundle = repo.place.path().join("work.bundle");
    std::fs::write(&bundle, [header.as_bytes(), &pack].concat()).unwrap();
    repo.git(&["bundle", "verify", "-q", bundle.to_str().unwrap()]);
    repo.git(&["fetch", "-q", bundle.to_str().unwrap(), "HEAD"]);
    let guest_head = String::from_utf8(crate::repo::git_in(&guest, &["rev-parse", "HEAD"])).unwrap();
    assert_eq!(repo.text(&["rev-parse", "FETCH_HEAD"]), guest_head.trim());
    repo.git(&["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_without_git_says_so() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let without = format!("PATH=/nowhere exec {}", command(&guest));
    let wanted = Wanted { base: base(&repo), patch: true, ..Wanted::default() };
    let refused = export(&connection, &without, wanted, &mut |_| Ok::<(), io::Error>(())).await.unwrap_err();
    let said = banger_proto::failure::Failure::from_error(&refused);
    assert!(said.chain.last().unwrap().ends_with("there is no program `git` in the guest"), "{said:?}");
    assert!(said.hints.iter().any(|hint| hint.contains("Install git")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_configured_in_the_guest_runs_but_the_guests_filters() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let mark = repo.place.path().join("ran");
    let script = repo.place.path().join("trap.sh");
    std::fs::write(&script, format!("#!/bin/sh\necho \"$0 $@\" >> {}\nexit 1\n", mark.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let trap = script.to_str().unwrap();
    for key in ["core.fsmonitor", "diff.external", "core.pager", "diff.x.textconv", "core.sshCommand", "core.editor"] {
        git_in(&guest, &["config", key, trap]);
    }
    std::fs::create_dir_all(guest.join(".git/hooks")).unwrap();
    for hook in ["pre-commit", "post-index-change", "reference-transaction", "pre-auto-gc"] {
        std::fs::copy(&script, guest.join(".git/hooks").join(hook)).unwrap();
    }
    std::fs::write(guest.join(".gitattributes"), "* diff=x\n").unwrap();
    let wanted = Wanted { base: base(&repo), patch: true, changes: true, pack: true };
    patch_of(&connection, &guest, wanted).await;
    assert!(!mark.exists(), "{}", std::fs::read_to_string(&mark).unwrap_or_default());
}

async fn stage(connection: &Connection, repo: &Repo, guest: &Path) -> Staging {
    let mut staging = Staging::new(&repo.root).unwrap();
    let wanted = Wanted { base: base(repo), changes: true, ..Wanted::default() };
    export(connection, &command(guest), wanted, &mut |item| staging.take(item)).await.unwrap();
    staging
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_go_onto_a_clean_tree_only() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let clean = tree(&repo.root);

    repo.write("mine", b"not tracked\n");
    let refused = stage(&connection, &repo, &guest).await.apply(&repo.root).unwrap_err();
    assert!(matches!(refused, ExportError::NotClean { .. }), "{refused}");
    repo.remove("mine");
    repo.write("README.md", b"mine\n");
    let refused = stage(&connection, &repo, &guest).await.apply(&repo.root).unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    repo.git(&["checkout", "-q", "README.md"]);
    // An ignored file of the host's in the place of a new one.
    std::fs::write(repo.path(".git/info/exclude"), "committed.txt\n").unwrap();
    repo.write("committed.txt", b"precious\n");
    let refused = stage(&connection, &repo, &guest).await.apply(&repo.root).unwrap_err();
    assert!(matches!(refused, ExportError::Moving { .. }), "{refused}");
    repo.remove("committed.txt");
    assert_eq!(tree(&repo.root), clean, "what is refused changes nothing");
    // One in the place of a directory, which is found only when everything else is written already.
    std::fs::create_dir(guest.join("zoo")).unwrap();
    std::fs::write(guest.join("zoo/new"), b"new\n").unwrap();
    std::fs::write(repo.path(".git/info/exclude"), "zoo\n").unwrap();
    repo.write("zoo", b"precious\n");
    let with_zoo = tree(&repo.root);
    let refused = stage(&connection, &repo, &guest).await.apply(&repo.root).unwrap_err();
    assert!(matches!(refused, ExportError::Write { .. }), "{refused}");
    assert_eq!(tree(&repo.root), with_zoo, "what fails in the middle is taken back");
    repo.remove("zoo");
    // A file that becomes a directory, and the reverse.
    std::fs::remove_dir_all(guest.join("src")).unwrap();
    std::fs::write(guest.join("src"), b"a file now\n").unwrap();
    std::fs::remove_file(guest.join("README.md")).unwrap();
    std::fs::create_dir(guest.join("README.md")).unwrap();
    std::fs::write(guest.join("README.md/below"), b"a directory now\n").unwrap();

    stage(&connection, &repo, &guest).await.apply(&repo.root).unwrap();
    let mut expected = tree(&guest);
    expected.remove(Path::new("ignored.o"));
    assert_eq!(tree(&repo.root), expected);
}

async fn bring(
    connection: &Connection,
    repo: &Repo,
    guest: &Path,
    name: &str,
) -> Result<banger_sync::export::branch::Branched, ExportError> {
    let mut incoming = Incoming::new().unwrap();
    let wanted = Wanted { base: base(repo), pack: true, ..Wanted::default() };
    let summary = export(connection, &command(guest), wanted, &mut |item| incoming.take(&item)).await.unwrap();
    incoming.make_branch(&repo.root, name, summary.head.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_commits_become_a_branch_that_only_moves_forward() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    let before = tree(&repo.root);
    let made = bring(&connection, &repo, &guest, "from-guest").await.unwrap();
    let tip = String::from_utf8(git_in(&guest, &["rev-parse", "HEAD"])).unwrap();
    assert_eq!(made.commit.to_string(), tip.trim());
    assert_eq!(repo.text(&["log", "--format=%s", "-2", "from-guest"]), "in the guest\nbinary");
    repo.git(&["fsck", "--strict"]);
    assert_eq!((tree(&repo.root), repo.text(&["status", "--porcelain"])), (before, String::new()));

    git_in(&guest, &["commit", "-q", "--allow-empty", "-m", "forward"]);
    let moved = bring(&connection, &repo, &guest, "from-guest").await.unwrap();
    assert_eq!(moved.before, Some(made.commit));
    git_in(&guest, &["commit", "-q", "--amend", "--allow-empty", "-m", "rewritten"]);
    let refused = bring(&connection, &repo, &guest, "from-guest").await.unwrap_err();
    assert!(matches!(refused, ExportError::NotForward { .. }), "{refused}");
    let refused = bring(&connection, &repo, &guest, "main").await.unwrap_err();
    assert!(matches!(refused, ExportError::CheckedOut { .. }), "{refused}");
    assert_eq!(repo.text(&["rev-parse", "from-guest"]), moved.commit.to_string());
    for name in ["-x", "a..b", "HEAD", "x.lock"] {
        assert!(matches!(bring(&connection, &repo, &guest, name).await, Err(ExportError::InvalidBranch { .. })));
    }
    let left: Vec<_> = std::fs::read_dir(repo.path(".git/objects")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("banger-")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_with_a_dangerous_tree_never_gets_into_the_repository() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = guest_with_work(&connection, &repo).await;
    for name in [&b".git"[..], b"..", b".GIT", b"a/b", b"git~1"] {
        let blob = String::from_utf8(git_in(&guest, &["hash-object", "-w", "README.md"])).unwrap();
        let id: Vec<u8> = gix::ObjectId::from_hex(blob.trim().as_bytes()).unwrap().as_slice().to_vec();
        let raw = [&b"100644 "[..], name, b"\0", &id].concat();
        let raw_path = repo.place.path().join("raw-tree");
        std::fs::write(&raw_path, raw).unwrap();
        let made = git_command(&guest)
            .args(["hash-object", "-t", "tree", "-w", "--literally", raw_path.to_str().unwrap()])
            .output()
            .unwrap();
        let tree_id = String::from_utf8(made.stdout).unwrap();
        let commit = git_in(&guest, &["commit-tree", "-p", "HEAD", "-m", "evil", tree_id.trim()]);
        let commit = String::from_utf8(commit).unwrap();
        git_in(&guest, &["update-ref", "HEAD", commit.trim()]);
        let refused = bring(&connection, &repo, &guest, "evil").await.unwrap_err();
        assert!(matches!(refused, ExportError::Objects { .. }), "{:?}: {refused}", name.escape_ascii().to_string());
        assert!(
            git_command(&repo.root).args(["cat-file", "-e", commit.trim()]).output().unwrap().status.code() != Some(0)
        );
        git_in(&guest, &["update-ref", "HEAD", "HEAD~1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_seen_until_exactly_it_was_exported() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    let guest = repo.place.path().join("guest");
    let overlay = observe(&repo.root, &ObserveOptions::default()).unwrap();
    prepare_into(&connection, &overlay, &guest).await.unwrap();
    std::fs::write(guest.join("built.o"), b"ignored").unwrap();
    assert!(look(&connection, &command(&guest)).await.unwrap().is_safe());

    std::fs::write(guest.join("README.md"), b"edited").unwrap();
    std::fs::write(guest.join("new"), b"new").unwrap();
    let work = look(&connection, &command(&guest)).await.unwrap();
    assert_eq!((work.is_safe(), work.changed, work.untracked, work.moved), (false, 1, 1, false));
    assert_eq!(work.sample, ["README.md", "new"]);
    let wanted = Wanted { base: base(&repo), patch: true, ..Wanted::default() };
    let (summary, _) = patch_of(&connection, &guest, wanted).await;
    assert!(mark_exported(&connection, &command(&guest), &summary.fingerprint).await.unwrap().is_safe());
    assert!(look(&connection, &command(&guest)).await.unwrap().is_safe());

    std::fs::write(guest.join("new"), b"newer").unwrap();
    assert!(!look(&connection, &command(&guest)).await.unwrap().is_safe());
    assert!(!mark_exported(&connection, &command(&guest), &summary.fingerprint).await.unwrap().is_safe());
    std::fs::remove_file(guest.join("new")).unwrap();
    std::fs::write(guest.join("README.md"), b"hello again\n").unwrap();
    assert!(look(&connection, &command(&guest)).await.unwrap().is_safe(), "put back as it was");
    git_in(&guest, &["commit", "-q", "--allow-empty", "-m", "kept"]);
    assert!(look(&connection, &command(&guest)).await.unwrap().moved);
}
