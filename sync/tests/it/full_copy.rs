//! A full copy: the whole history and the submodules, judged by git on both sides.

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_sync::export::apply::Staging;
use banger_sync::export::work::{look, mark_exported};
use banger_sync::export::{Item, Wanted, export};
use banger_sync::overlay::{CopyMode, ObserveOptions, Overlay, OverlayError, observe};
use banger_sync::prepare::{GitOutcome, Prepared};
use banger_sync::ssh::Connection;
use banger_sync::verify::verify;
use banger_sync::watch::WatchError;

use crate::prepare::{assert_same_for_git, command, prepare_into};
use crate::repo::{Repo, git_command, git_in};
use crate::sshd::Sshd;

const LIB: &str = "libs/the lib";
const INNER: &str = "libs/the lib/deep/inner";

fn full() -> ObserveOptions {
    ObserveOptions { mode: CopyMode::FullCopy, ..ObserveOptions::default() }
}

fn overlay_of(repo: &Repo) -> Overlay {
    observe(&repo.root, &full()).unwrap()
}

fn text(dir: &Path, arguments: &[&str]) -> String {
    String::from_utf8(git_in(dir, arguments)).unwrap().trim_end().to_owned()
}

/// With what its submodules came from.
struct Family {
    repo: Repo,
    _sources: [Repo; 3],
}

impl Family {
    /// A submodule with one inside it, and one that is not checked out; branches and tags in all of them.
    fn new() -> Self {
        let allow = ["-c", "protocol.file.allow=always"];
        let add = |to: &Repo, from: &Repo, path: &str| {
            to.git(&[&allow[..], &["submodule", "--quiet", "add", from.root.to_str().unwrap(), path]].concat());
            to.commit("a submodule");
        };
        let (inner, lib, other, repo) = (Repo::new(), Repo::new(), Repo::new(), Repo::new());
        inner.write("only-inner.txt", b"inner\n");
        inner.commit("inner");
        add(&lib, &inner, "deep/inner");
        lib.git(&["tag", "-a", "v1", "-m", "first"]);
        add(&repo, &lib, LIB);
        add(&repo, &other, "other");
        repo.git(&[&allow[..], &["submodule", "--quiet", "update", "--init", "--recursive"]].concat());
        repo.git(&["submodule", "--quiet", "deinit", "-f", "other"]);
        repo.git(&["branch", "side", "HEAD~2"]);
        repo.git(&["tag", "light"]);
        repo.git(&["tag", "-a", "heavy", "-m", "annotated", "HEAD~1"]);
        repo.git(&["tag", "-a", "tag-of-tag", "-m", "again", "heavy"]);
        repo.git(&["tag", "of-a-blob", "HEAD:README.md"]);
        Self { repo, _sources: [inner, lib, other] }
    }

    fn guest(&self) -> PathBuf {
        self.repo.place.path().join("guest/it's here")
    }

    fn repositories(&self, root: &Path) -> [PathBuf; 3] {
        [root.to_owned(), root.join(LIB), root.join(INNER)]
    }

    async fn prepare(&self, connection: &Connection) -> Prepared {
        let overlay = overlay_of(&self.repo);
        let prepared = prepare_into(connection, &overlay, &self.guest()).await.unwrap();
        assert_eq!(prepared.tree_digest, overlay.tree_digest());
        assert!(prepared.conflicts.is_empty(), "{prepared:?}");
        let verified = verify(connection, &overlay, &command(&self.guest())).await.unwrap();
        assert_eq!((verified.host, verified.differences.len()), (verified.guest, 0));
        prepared
    }
}

/// Everything git knows of the history, which must be the same on both sides.
fn assert_same_history(host: &Path, guest: &Path) {
    for arguments in [
        &["for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", "refs/heads", "refs/tags"][..],
        &["rev-list", "--branches", "--tags", "HEAD"],
        &["rev-list", "--objects", "--no-object-names", "--branches", "--tags", "HEAD"],
        &["log", "--format=%H %P %an %s"],
        &["rev-parse", "HEAD", "--is-shallow-repository"],
    ] {
        let sorted = |dir| {
            let output = text(dir, arguments);
            let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(guest), sorted(host), "git {arguments:?} in {}", guest.display());
    }
    let check = git_command(guest).args(["fsck", "--full", "--strict", "--no-dangling"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert_eq!(text(guest, &["for-each-ref", "refs/remotes"]), "");
}

/// State, commit and path; what git says of its name depends on remote branches, which stay behind.
fn submodule_status(root: &Path) -> Vec<String> {
    let words = |line: &str| line.split(" (").next().unwrap_or_default().to_owned();
    String::from_utf8(git_in(root, &["submodule", "status", "--recursive"])).unwrap().lines().map(words).collect()
}

fn objects(root: &Path) -> u64 {
    let counted = text(root, &["count-objects", "-v"]);
    let number = |name: &str| {
        let line = counted.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    number("in-pack:") + number("count:")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_copy_has_the_whole_history_and_the_submodules() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let family = Family::new();
    family.repo.git(&["remote", "add", "origin", "https://ada:secret@example.com/a.git"]);
    family.repo.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    let guest = family.guest();
    let overlay = overlay_of(&family.repo);
    let modules: Vec<(String, bool)> =
        overlay.modules.iter().map(|module| (module.path.to_string(), module.is_populated())).collect();
    assert_eq!(modules, [(LIB.into(), true), (INNER.into(), true), ("other".into(), false)]);
    assert!(overlay.manifest.get(format!("{INNER}/only-inner.txt").as_bytes()).is_some());

    family.prepare(&connection).await;
    for (host, guest) in family.repositories(&family.repo.root).iter().zip(family.repositories(&guest)) {
        assert_eq!(text(&guest, &["status", "--porcelain"]), "", "{}", guest.display());
        assert_same_for_git("clean", host, &guest);
        assert_same_history(host, &guest);
    }
    assert_eq!(submodule_status(&guest), submodule_status(&family.repo.root));
    assert_eq!(submodule_status(&guest).iter().filter(|line| line.starts_with('-')).count(), 1);
    assert_eq!(std::fs::read_dir(guest.join("other")).unwrap().count(), 0, "there, and empty");
    for repository in family.repositories(&guest) {
        let git_dir = PathBuf::from(text(&repository, &["rev-parse", "--absolute-git-dir"]));
        assert!(git_dir.starts_with(guest.join(".git")) && !git_dir.join("hooks").exists(), "{}", git_dir.display());
        let config = std::fs::read_to_string(git_dir.join("config")).unwrap();
        assert!(!config.contains("secret"), "{config}");
    }

    let again = family.prepare(&connection).await;
    assert_eq!((again.files_sent, again.bytes_sent, again.git), (0, 0, GitOutcome::Unchanged), "nothing changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_in_submodules_travel_with_the_tree() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let family = Family::new();
    let guest = family.guest();
    family.prepare(&connection).await;
    let in_lib = |path: &str| family.repo.path(format!("{LIB}/{path}"));
    std::fs::write(in_lib("README.md"), b"edited\n").unwrap();
    std::fs::remove_file(in_lib("run.sh")).unwrap();
    std::fs::write(family.repo.path(format!("{INNER}/staged")), b"staged\n").unwrap();
    git_in(&family.repo.path(INNER), &["add", "staged"]);
    std::fs::write(in_lib("untracked"), b"untracked\n").unwrap();
    let prepared = family.prepare(&connection).await;
    assert_eq!((prepared.files_sent, prepared.files_removed), (2, 1));
    assert!(!guest.join(LIB).join("untracked").exists());
    for (host, guest) in family.repositories(&family.repo.root).iter().zip(family.repositories(&guest)) {
        for arguments in [&["status", "--porcelain", "-uno"][..], &["diff"], &["diff", "--cached"]] {
            assert_eq!(text(&guest, arguments), text(host, arguments), "git {arguments:?} in {}", guest.display());
        }
    }
    let everything = ObserveOptions { include_untracked: true, ..full() };
    let overlay = observe(&family.repo.root, &everything).unwrap();
    let prepared = prepare_into(&connection, &overlay, &guest).await.unwrap();
    assert_eq!((prepared.files_sent, prepared.tree_digest), (1, overlay.tree_digest()));
    assert_same_for_git("with untracked", &family.repo.path(LIB), &guest.join(LIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_full_copy_sends_new_objects_only() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let family = Family::new();
    let (host, guest) = (family.repo.root.clone(), family.guest());
    family.prepare(&connection).await;
    let (before, inner_before) = (objects(&guest), objects(&guest.join(INNER)));
    family.repo.write("src/main.c", b"int main(void) { return 1; }\n");
    family.repo.git(&["commit", "-q", "-a", "-m", "third"]);
    family.prepare(&connection).await;
    // The blob, two trees, the commit.
    assert_eq!(objects(&guest), before + 4);
    assert_eq!(objects(&guest.join(INNER)), inner_before);
    assert_same_history(&host, &guest);

    // Only names: a branch that goes back, one that goes away, a new tag, another HEAD.
    git_in(&guest, &["branch", "the-guests-own", "HEAD~1"]);
    family.repo.git(&["branch", "-f", "side", "main~2"]);
    family.repo.git(&["tag", "-d", "light"]);
    family.repo.git(&["tag", "new", "main~1"]);
    family.repo.git(&["checkout", "-q", "-b", "dev"]);
    let named = family.prepare(&connection).await;
    assert_eq!((named.files_sent, named.git), (0, GitOutcome::Installed));
    assert_eq!(objects(&guest), before + 4);
    assert_eq!(text(&guest, &["symbolic-ref", "HEAD"]), "refs/heads/dev");
    git_in(&guest, &["branch", "-D", "the-guests-own"]);
    assert_same_history(&host, &guest);

    // The branch it was on moves and goes while it is not on it.
    family.repo.git(&["branch", "-f", "main", "dev~1"]);
    family.prepare(&connection).await;
    assert_same_history(&host, &guest);
    git_in(&guest, &["pack-refs", "--all"]);
    family.repo.git(&["branch", "-D", "main"]);
    family.prepare(&connection).await;
    assert_same_history(&host, &guest);

    // A submodule goes on, and the repository with it.
    let lib = family.repo.path(LIB);
    std::fs::write(lib.join("README.md"), b"on it goes\n").unwrap();
    git_in(&lib, &["commit", "-q", "-a", "-m", "more"]);
    family.prepare(&connection).await;
    assert_same_history(&lib, &guest.join(LIB));
    assert_eq!(text(&guest, &["status", "--porcelain"]), format!(" M \"{LIB}\""));
    family.repo.commit("follow");
    family.prepare(&connection).await;
    assert_eq!(text(&guest, &["status", "--porcelain"]), "");
    assert_eq!(submodule_status(&guest), submodule_status(&host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_may_change_from_one_time_to_the_next() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let repo = Repo::new();
    for number in 0..4 {
        repo.write("README.md", format!("{number}\n").as_bytes());
        repo.commit("more");
    }
    let guest = repo.place.path().join("guest");
    let shallow = |expected: &str| {
        assert_eq!(text(&guest, &["rev-parse", "--is-shallow-repository"]), expected);
        let check = git_command(&guest).args(["fsck", "--full", "--strict", "--no-dangling"]).output().unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    };
    for _ in 0..2 {
        prepare_into(&connection, &observe(&repo.root, &ObserveOptions::default()).unwrap(), &guest).await.unwrap();
        shallow("true");
        prepare_into(&connection, &overlay_of(&repo), &guest).await.unwrap();
        shallow("false");
        assert_same_history(&repo.root, &guest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shallow_host_stays_shallow() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let source = Repo::new();
    for number in 0..4 {
        source.write("README.md", format!("{number}\n").as_bytes());
        source.commit("more");
    }
    let url = format!("file://{}", source.root.display());
    git_in(source.place.path(), &["clone", "-q", "--depth", "2", &url, "clone"]);
    let host = source.place.path().join("clone");
    let guest = source.place.path().join("guest");
    prepare_into(&connection, &observe(&host, &full()).unwrap(), &guest).await.unwrap();
    assert_same_history(&host, &guest);
    assert_eq!(text(&guest, &["rev-list", "--count", "HEAD"]), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_in_a_submodule_is_kept_seen_and_exported() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let family = Family::new();
    let guest = family.guest();
    family.prepare(&connection).await;
    let command = command(&guest);
    let seen = look(&connection, &command).await.unwrap();
    assert!(!seen.moved && seen.changed == 0 && seen.untracked == 0, "{seen:?}");

    std::fs::write(guest.join(LIB).join("committed"), b"committed\n").unwrap();
    git_in(&guest.join(LIB), &["add", "committed"]);
    git_in(&guest.join(LIB), &["commit", "-q", "-m", "in the guest"]);
    std::fs::write(guest.join(INNER).join("README.md"), b"edited in the guest\n").unwrap();
    std::fs::write(guest.join(INNER).join("new file"), [0, 1, 255]).unwrap();
    std::fs::write(guest.join(INNER).join("ignored.o"), b"ignored").unwrap();
    std::fs::write(guest.join("README.md"), b"outside\n").unwrap();
    let seen = look(&connection, &command).await.unwrap();
    assert!(seen.moved && (seen.changed, seen.untracked, seen.exported) == (2, 2, false), "{seen:?}");

    let state = |root: &Path| {
        family.repositories(root).map(|dir| (text(&dir, &["for-each-ref"]), text(&dir, &["status", "--porcelain"])))
    };
    let before = state(&guest);
    let base = gix::ObjectId::from_hex(family.repo.text(&["rev-parse", "HEAD"]).as_bytes()).ok();
    let wanted = Wanted { base, patch: true, changes: true, pack: false };
    let (mut patch, mut staging, mut changed) =
        (Vec::new(), Staging::new(&family.repo.root).unwrap(), Vec::<String>::new());
    let mut take = |item: Item<'_>| {
        if let Item::Patch(bytes) = &item {
            patch.extend_from_slice(bytes);
        }
        if let Item::Change(change) = &item {
            changed.push(change.path.to_string());
        }
        staging.take(item)
    };
    let summary = export(&connection, &command, wanted, &mut take).await.unwrap();
    assert_eq!(state(&guest), before, "the guest stays as it is");
    changed.sort();
    let inside = |path: &str| format!("{INNER}/{path}");
    let mut expected =
        vec!["README.md".to_owned(), format!("{LIB}/committed"), inside("README.md"), inside("new file")];
    expected.sort();
    assert_eq!(changed, expected);
    mark_exported(&connection, &command, &summary.fingerprint).await.unwrap();
    assert!(look(&connection, &command).await.unwrap().exported);

    // As a patch onto a copy, and onto the working tree itself.
    let copy = family.repo.place.path().join("copy");
    let file = family.repo.place.path().join("work.patch");
    std::fs::write(&file, &patch).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(&family.repo.root).arg(&copy).status().unwrap();
    assert!(copied.success());
    git_in(&copy, &["apply", file.to_str().unwrap()]);
    staging.apply(&family.repo.root).unwrap();
    for path in &expected {
        let there = std::fs::read(guest.join(path)).unwrap();
        assert_eq!(std::fs::read(copy.join(path)).unwrap(), there, "{path}");
        assert_eq!(std::fs::read(family.repo.path(path)).unwrap(), there, "{path}");
    }

    // What the guest committed stays its own; everything else goes on.
    std::fs::write(family.repo.path(format!("{LIB}/src/main.c")), b"int x;\n").unwrap();
    let after = prepare_into(&connection, &overlay_of(&family.repo), &guest).await.unwrap();
    assert_eq!(after.git, GitOutcome::KeptGuestHistory);
    assert_eq!(text(&guest.join(LIB), &["log", "-1", "--format=%s"]), "in the guest");
    assert_eq!(std::fs::read(guest.join(LIB).join("src/main.c")).unwrap(), b"int x;\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submodule_that_goes_takes_its_directory_with_it() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let family = Family::new();
    let guest = family.guest();
    family.prepare(&connection).await;
    family.repo.git(&["checkout", "-q", "--recurse-submodules", "side"]);
    assert!(!family.repo.path(LIB).exists());
    family.prepare(&connection).await;
    assert!(!guest.join("libs").exists() && !guest.join("other").exists());
    assert_eq!(text(&guest, &["status", "--porcelain"]), "");
    // And comes back.
    family.repo.git(&["checkout", "-q", "--recurse-submodules", "main"]);
    family.prepare(&connection).await;
    for (host, guest) in family.repositories(&family.repo.root).iter().zip(family.repositories(&guest)) {
        assert_same_for_git("back", host, &guest);
        assert_same_history(host, &guest);
    }
}

#[test]
fn what_a_full_copy_cannot_carry_is_refused_with_a_way_out() {
    let family = Family::new();
    let error = observe(&family.repo.root, &ObserveOptions::default()).unwrap_err();
    assert!(matches!(error, OverlayError::Submodule { .. }));
    assert!(error.hints()[0].contains("`--mode full_copy`"), "{:?}", error.hints());

    let from = ObserveOptions { branch: Some("b".into()), from: Some("main".into()), ..full() };
    let error = observe(&family.repo.root, &from).unwrap_err();
    assert!(matches!(error, OverlayError::SubmoduleOfCommit { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Refused);
    let without = ObserveOptions { from: Some("side".into()), ..from };
    assert!(observe(&family.repo.root, &without).is_ok(), "a commit without submodules");

    let elsewhere = family.repo.place.path().to_str().unwrap();
    git_in(&family.repo.path(LIB), &["config", "core.worktree", elsewhere]);
    let error = observe(&family.repo.root, &full()).unwrap_err();
    assert!(matches!(error, OverlayError::SubmoduleElsewhere { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(WatchError::FullCopy.kind(), Kind::Usage);
}
