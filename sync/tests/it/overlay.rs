//! The overlay against git as the oracle.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use banger_proto::failure::{Classified, Kind};
use banger_sync::entry::{EntryKind, Reason};
use banger_sync::overlay::{ObserveOptions, Overlay, OverlayError, observe};

use crate::repo::{Repo, git_in};
use crate::scenarios;

fn with_untracked() -> ObserveOptions {
    ObserveOptions { include_untracked: true, ..ObserveOptions::default() }
}

fn on_branch(branch: &str, from: Option<&str>) -> ObserveOptions {
    ObserveOptions { branch: Some(branch.into()), from: from.map(Into::into), ..ObserveOptions::default() }
}

fn paths(overlay: &Overlay) -> BTreeSet<Vec<u8>> {
    overlay.manifest.entries.iter().map(|entry| entry.path.as_bytes().to_vec()).collect()
}

fn show(paths: &BTreeSet<Vec<u8>>) -> Vec<String> {
    paths.iter().map(|path| path.escape_ascii().to_string()).collect()
}

/// Every entry is what is on disk.
fn assert_content(repo: &Repo, overlay: &Overlay) {
    for entry in &overlay.manifest.entries {
        let path = repo.path(OsStr::from_bytes(entry.path.as_bytes()));
        let metadata = path.symlink_metadata().unwrap();
        let (kind, bytes) = if metadata.is_symlink() {
            (EntryKind::Symlink, std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
        } else if metadata.permissions().mode() & 0o100 != 0 {
            (EntryKind::Executable, std::fs::read(&path).unwrap())
        } else {
            (EntryKind::File, std::fs::read(&path).unwrap())
        };
        assert_eq!((entry.kind, entry.size), (kind, bytes.len() as u64), "{}", entry.path);
        assert_eq!(entry.digest, blake3::hash(&bytes), "{}", entry.path);
    }
}

#[test]
fn the_overlay_has_exactly_the_files_git_lists() {
    for (name, build) in scenarios::ALL {
        let repo = build();
        let (tracked, untracked) = repo.expected_paths();
        let overlay =
            observe(&repo.root, &ObserveOptions::default()).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(show(&paths(&overlay)), show(&tracked), "{name}: tracked");
        assert_eq!(overlay.skipped_untracked, untracked.len() as u64, "{name}: skipped");
        assert_content(&repo, &overlay);
        let all = observe(&repo.root, &with_untracked()).unwrap();
        assert_eq!(show(&paths(&all)), show(&tracked.union(&untracked).cloned().collect()), "{name}: all");
        assert_eq!(all.skipped_untracked, 0, "{name}");
        assert_content(&repo, &all);
        assert_eq!(all.tree_digest(), observe(&repo.root, &with_untracked()).unwrap().tree_digest(), "{name}");
    }
}

#[test]
fn the_reasons_say_what_git_status_says() {
    let repo = Repo::new();
    repo.write("README.md", b"changed\n");
    repo.write("added", b"a\n");
    repo.git(&["add", "added"]);
    repo.write("untracked", b"u\n");
    repo.remove("src/main.c");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
    std::fs::File::options().write(true).open(repo.path("run.sh")).unwrap().set_modified(later).unwrap();
    let overlay = observe(&repo.root, &with_untracked()).unwrap();
    let reason = |path: &str| overlay.manifest.get(path.as_bytes()).unwrap().reason;
    assert_eq!(reason("README.md"), Reason::Modified);
    assert_eq!(reason("added"), Reason::Added);
    assert_eq!(reason("untracked"), Reason::Untracked);
    assert_eq!(reason("run.sh"), Reason::Tracked);
    assert_eq!(reason("link"), Reason::Tracked);
    assert_eq!(overlay.deleted.iter().map(ToString::to_string).collect::<Vec<_>>(), ["src/main.c"]);
}

#[test]
fn a_subdirectory_means_its_whole_repository() {
    let repo = Repo::new();
    let whole = observe(&repo.root, &ObserveOptions::default()).unwrap();
    let inner = observe(&repo.path("src/deep"), &ObserveOptions::default()).unwrap();
    assert_eq!(inner.root, whole.root);
    assert_eq!(inner.tree_digest(), whole.tree_digest());
    assert_eq!(whole.branch.as_deref(), Some("main"));
    assert_eq!(whole.head_commit.as_deref(), Some(repo.text(&["rev-parse", "HEAD"]).as_str()));
}

#[test]
fn what_cannot_be_carried_is_refused_with_a_way_out() {
    let refusal = |repo: &Repo| observe(&repo.root, &ObserveOptions::default()).unwrap_err();

    let repo = Repo::new();
    let other = Repo::new();
    let url = other.root.to_str().unwrap();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", url, "sub/mod"]);
    let error = refusal(&repo);
    assert!(matches!(&error, OverlayError::Submodule { path } if path.as_bytes() == b"sub/mod"), "{error:?}");
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.hints()[0].contains("`--mode full_copy`"));
    assert!(error.hints()[1].contains("`banger vm run ./sub/mod`"));
    assert!(observe(&repo.path("sub/mod"), &ObserveOptions::default()).is_ok(), "the hint works");

    let place = tempfile::tempdir().unwrap();
    git_in(place.path(), &["init", "-q", "--bare", "bare.git"]);
    let error = observe(&place.path().join("bare.git"), &ObserveOptions::default()).unwrap_err();
    assert!(matches!(error, OverlayError::Bare { .. }), "{error:?}");
    let error = observe(place.path(), &ObserveOptions::default()).unwrap_err();
    assert!(matches!(error, OverlayError::NotARepository { .. }), "{error:?}");
    assert!(error.hints()[0].contains("`git init"));
    let error = observe(&place.path().join("missing"), &ObserveOptions::default()).unwrap_err();
    assert!(matches!(error, OverlayError::Missing { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::NotFound);

    for (argument, word) in [("--object-format=sha256", "sha256"), ("--ref-format=reftable", "reftable")] {
        git_in(place.path(), &["init", "-q", argument, word]);
        let error = observe(&place.path().join(word), &ObserveOptions::default()).unwrap_err();
        assert!(matches!(&error, OverlayError::UnsupportedFormat { format, .. } if format.contains(word)), "{error:?}");
        assert_eq!(error.kind(), Kind::Refused);
    }

    let repo = Repo::new();
    repo.remove("README.md");
    let made = std::process::Command::new("mkfifo").arg(repo.path("README.md")).status().unwrap();
    assert!(made.success());
    let error = refusal(&repo);
    assert!(matches!(&error, OverlayError::SpecialFile { path, .. } if path.as_bytes() == b"README.md"), "{error:?}");
}

#[test]
fn an_untracked_pipe_is_no_part_of_the_tree() {
    let repo = Repo::new();
    assert!(std::process::Command::new("mkfifo").arg(repo.path("pipe")).status().unwrap().success());
    let overlay = observe(&repo.root, &with_untracked()).unwrap();
    assert!(overlay.manifest.get(b"pipe").is_none());
}

#[test]
fn an_unreadable_file_is_named() {
    let repo = Repo::new();
    repo.chmod("README.md", 0o000);
    if std::fs::File::open(repo.path("README.md")).is_ok() {
        eprintln!("skipped: this user reads files of any mode");
        return;
    }
    let error = observe(&repo.root, &ObserveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("README.md"), "{error}");
    assert!(error.hints()[0].contains("chmod"));
}

#[test]
fn nothing_of_the_repository_is_executed() {
    let repo = Repo::new();
    let marker = repo.place.path().join("executed");
    let program = repo.place.path().join("program.sh");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$0 $@\" >> {}\ncat\n", marker.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = program.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.textconv",
        "diff.evil.command",
        "diff.external",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "credential.helper",
        "merge.evil.driver",
        "gpg.program",
        "core.alternateRefsCommand",
        "core.gitProxy",
    ] {
        repo.git(&["config", key, run]);
    }
    std::fs::create_dir_all(repo.path(".git/hooks")).unwrap();
    for hook in ["post-checkout", "post-index-change", "pre-commit", "fsmonitor-watchman", "reference-transaction"] {
        std::fs::copy(&program, repo.path(format!(".git/hooks/{hook}"))).unwrap();
    }
    repo.write(".gitattributes", b"*.md filter=evil diff=evil merge=evil\n");
    repo.write("README.md", b"changed so that a comparison is needed\n");
    let _ = std::fs::remove_file(&marker);
    let overlay = observe(&repo.root, &with_untracked()).unwrap();
    assert_eq!(overlay.manifest.get(b"README.md").unwrap().reason, Reason::Modified);
    assert!(!marker.exists(), "{}", std::fs::read_to_string(&marker).unwrap());
    assert!(observe(&repo.root, &on_branch("x", Some("HEAD~1"))).is_ok(), "no attribute there");
    assert!(!marker.exists());
}

#[test]
fn a_commit_whose_files_need_a_filter_is_refused() {
    let repo = Repo::new();
    repo.write(".gitattributes", b"*.bin filter=lfs\n");
    repo.write("a.bin", b"pointer\n");
    repo.commit("lfs");
    assert!(observe(&repo.root, &on_branch("x", Some("HEAD"))).is_ok(), "a filter that is not configured is none");
    repo.git(&["config", "filter.lfs.smudge", "false"]);
    let error = observe(&repo.root, &on_branch("x", Some("HEAD"))).unwrap_err();
    assert!(
        matches!(&error, OverlayError::NeedsFilter { path, driver } if path.as_bytes() == b"a.bin" && driver == "lfs"),
        "{error:?}"
    );
}

#[test]
fn a_branch_from_a_commit_is_what_a_checkout_of_it_would_be() {
    let repo = Repo::new();
    repo.write(".gitattributes", b"*.txt text eol=crlf\n*.id ident\n");
    repo.write("dos.txt", b"one\ntwo\n");
    repo.write("a.id", b"$Id$\n");
    repo.commit("endings");
    repo.write("dos.txt", b"dirty\n");
    let overlay = observe(&repo.root, &on_branch("try", Some("main"))).unwrap();
    repo.git(&["worktree", "add", "-q", "--detach", "../checkout", "main"]);
    let checkout = observe(&repo.place.path().join("checkout"), &ObserveOptions::default()).unwrap();
    assert_eq!(paths(&overlay), paths(&checkout));
    for (ours, theirs) in overlay.manifest.entries.iter().zip(&checkout.manifest.entries) {
        assert_eq!((ours.content(), ours.size), (theirs.content(), theirs.size), "{}", ours.path);
    }
    assert_eq!(overlay.tree_digest(), checkout.tree_digest());
    assert_eq!(overlay.branch.as_deref(), Some("try"));
    assert_eq!(overlay.head_commit, checkout.head_commit);
    let first = observe(&repo.root, &on_branch("try", Some("main~2"))).unwrap();
    assert_eq!(first.head_commit.unwrap(), repo.text(&["rev-parse", "main~2"]));
    assert!(first.manifest.get(b"dos.txt").is_none());
}

#[test]
fn branch_options_are_checked() {
    let repo = Repo::new();
    let error = |options| observe(&repo.root, &options).unwrap_err();
    for bad in ["", "a..b", "-x", "a b", "a.lock", "HEAD", "/a", "a/", "a~1"] {
        let error = error(on_branch(bad, None));
        assert!(matches!(error, OverlayError::InvalidBranch { .. }), "{bad:?}: {error:?}");
    }
    assert!(matches!(error(on_branch("x", Some("no-such"))), OverlayError::UnknownRevision { .. }));
    let without = ObserveOptions { from: Some("HEAD".into()), ..ObserveOptions::default() };
    assert!(matches!(error(without), OverlayError::FromWithoutBranch));
    let overlay = observe(&repo.root, &on_branch("feature/x", None)).unwrap();
    assert_eq!(overlay.branch.as_deref(), Some("feature/x"));
}

#[test]
fn a_file_that_never_holds_still_is_named_or_read_whole() {
    let repo = Repo::new();
    repo.write("busy.log", b"start\n");
    repo.commit("busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut length = 0_usize;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                length = (length + 1) % 4000;
                std::fs::write(repo.path("busy.log"), vec![b'x'; length]).unwrap();
            }
        });
        let outcome = observe(&repo.root, &ObserveOptions::default());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        match outcome {
            Ok(overlay) => {
                let entry = overlay.manifest.get(b"busy.log").unwrap();
                let size = usize::try_from(entry.size).unwrap();
                let whole = [blake3::hash(&vec![b'x'; size]), blake3::hash(b"start\n")];
                assert!(whole.contains(&entry.digest), "{size} bytes of two versions");
            }
            Err(error) => assert!(matches!(error, OverlayError::Changing { .. }), "{error:?}"),
        }
    });
}
