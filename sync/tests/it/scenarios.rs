//! States a working tree can be in; overlay and prepare are both checked against every one of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::repo::Repo;

pub type Scenario = (&'static str, fn() -> Repo);

pub const ALL: &[Scenario] = &[
    ("clean", Repo::new),
    ("no commit and no index", Repo::empty),
    ("no commit, something staged", || {
        let repo = Repo::empty();
        repo.write("a", b"a\n");
        repo.write("b", b"b\n");
        repo.git(&["add", "a"]);
        repo
    }),
    ("modified, deleted, staged, staged then modified", || {
        let repo = Repo::new();
        repo.write("README.md", b"changed\n");
        repo.remove("src/deep/er/file.txt");
        repo.write("staged.txt", b"staged\n");
        repo.write("both.txt", b"one\n");
        repo.git(&["add", "staged.txt", "both.txt"]);
        repo.write("both.txt", b"two\n");
        repo.write("untracked.txt", b"u\n");
        repo.write("ignored.o", b"o\n");
        repo.write("build/out", b"o\n");
        repo
    }),
    ("same size within the same second", || {
        let repo = Repo::new();
        repo.write("README.md", b"hello ag41n\n");
        repo
    }),
    ("same size and the old time put back", || {
        let repo = Repo::new();
        let metadata = repo.path("README.md").metadata().unwrap();
        let old = metadata.modified().unwrap();
        repo.write("README.md", b"HELLO AGAIN\n");
        std::fs::File::options().write(true).open(repo.path("README.md")).unwrap().set_modified(old).unwrap();
        repo
    }),
    ("touched only", || {
        let repo = Repo::new();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
        for path in ["README.md", "src/main.c"] {
            std::fs::File::options().write(true).open(repo.path(path)).unwrap().set_modified(later).unwrap();
        }
        repo
    }),
    ("renamed", || {
        let repo = Repo::new();
        repo.git(&["mv", "src/main.c", "src/renamed.c"]);
        repo
    }),
    ("mode changed both ways", || {
        let repo = Repo::new();
        repo.chmod("run.sh", 0o644);
        repo.chmod("README.md", 0o755);
        repo
    }),
    ("links changed, dangling, to a directory", || {
        let repo = Repo::new();
        repo.remove("link");
        symlink("nowhere/at/all", repo.path("link")).unwrap();
        symlink("src", repo.path("to-dir")).unwrap();
        repo.git(&["add", "to-dir"]);
        symlink("/etc/hostname", repo.path("absolute")).unwrap();
        repo
    }),
    ("file became a directory and a directory a file", || {
        let repo = Repo::new();
        repo.remove("README.md");
        repo.write("README.md/inside", b"now a directory\n");
        std::fs::remove_dir_all(repo.path("src/deep")).unwrap();
        repo.write("src/deep", b"now a file\n");
        repo
    }),
    ("a directory replaced by a link to a copy", || {
        let repo = Repo::new();
        std::fs::rename(repo.path("src"), repo.place.path().join("elsewhere")).unwrap();
        symlink("../elsewhere", repo.path("src")).unwrap();
        repo
    }),
    ("unusual names", || {
        let repo = Repo::new();
        for name in [&b"with space"[..], b"new\nline", b"tab\t", b"\xff\xfe-bytes", b"-n", b"'quote\"", b"caf\xc3\xa9"]
        {
            repo.write(OsStr::from_bytes(name), name);
        }
        repo.commit("names");
        repo.write(OsStr::from_bytes(b"\xff\xfe-bytes"), b"changed");
        repo.write(OsStr::from_bytes(b"untracked \xf0\n"), b"u");
        repo
    }),
    ("intent to add", || {
        let repo = Repo::new();
        repo.write("later.txt", b"later\n");
        repo.git(&["add", "-N", "later.txt"]);
        repo
    }),
    ("tracked although ignored", || {
        let repo = Repo::new();
        repo.write("kept.o", b"kept\n");
        repo.write("build/kept", b"kept\n");
        repo.git(&["add", "-f", "kept.o", "build/kept"]);
        repo.write("build/other", b"other\n");
        repo
    }),
    ("many files tracked although ignored, and new ones beside them", || {
        let repo = Repo::new();
        for number in 0..300 {
            repo.write(format!("whole/{number}"), b"tracked\n");
            repo.write(format!("part/sub/{number}"), b"tracked\n");
        }
        repo.write(".gitignore", b"/whole\n/part/*\n!/part/sub\n");
        repo.git(&["add", "-f", "."]);
        repo.commit("many");
        // No rule in an excluded directory brings anything back.
        repo.write("whole/.gitignore", b"!*\n");
        repo.write("whole/new", b"new\n");
        repo.write("whole/more/new", b"new\n");
        repo.write("part/new", b"new\n");
        repo.write("part/sub/new", b"new\n");
        repo.write("part/sub/more/new", b"new\n");
        repo
    }),
    ("assume unchanged and skip worktree", || {
        let repo = Repo::new();
        repo.git(&["update-index", "--assume-unchanged", "README.md"]);
        repo.git(&["update-index", "--skip-worktree", "src/main.c", "run.sh"]);
        repo.write("README.md", b"hidden change\n");
        repo.write("src/main.c", b"hidden too\n");
        repo.remove("run.sh");
        repo
    }),
    ("sparse checkout with new files outside of it", || {
        let repo = Repo::new();
        repo.write("other/one.txt", b"1\n");
        repo.write("other/sub/two.txt", b"2\n");
        repo.commit("other");
        repo.git(&["sparse-checkout", "set", "--no-cone", "/*", "!/other/"]);
        repo.write("other/new.txt", b"new\n");
        repo.write("other/sub/new.txt", b"new\n");
        repo
    }),
    ("sparse index", || {
        let repo = Repo::new();
        repo.write("in/a.txt", b"a\n");
        repo.write("out/sub/b.txt", b"b\n");
        repo.write("out/c.txt", b"c\n");
        repo.commit("dirs");
        repo.git(&["sparse-checkout", "init", "--cone", "--sparse-index"]);
        repo.git(&["sparse-checkout", "set", "in"]);
        repo.write("in/a.txt", b"changed\n");
        repo
    }),
    ("index version 4", || {
        let repo = Repo::new();
        repo.git(&["update-index", "--index-version", "4"]);
        repo.write("README.md", b"v4\n");
        repo
    }),
    ("split index", || {
        let repo = Repo::new();
        repo.git(&["update-index", "--split-index"]);
        repo.write("split.txt", b"split\n");
        repo.git(&["add", "split.txt"]);
        repo.write("README.md", b"split\n");
        repo
    }),
    ("merge conflict", || {
        let repo = Repo::new();
        repo.git(&["checkout", "-q", "-b", "side"]);
        repo.write("README.md", b"side\n");
        repo.commit("side");
        repo.git(&["checkout", "-q", "main"]);
        repo.write("README.md", b"main\n");
        repo.remove("run.sh");
        repo.commit("main");
        repo.git(&["checkout", "-q", "side"]);
        repo.write("run.sh", b"changed\n");
        repo.commit("side again");
        repo.git(&["checkout", "-q", "main"]);
        let merged = crate::repo::git_command(&repo.root).args(["merge", "-q", "side"]).output().unwrap();
        assert!(!merged.status.success());
        repo
    }),
    ("detached", || {
        let repo = Repo::new();
        repo.git(&["checkout", "-q", "--detach", "HEAD"]);
        repo.write("README.md", b"detached\n");
        repo
    }),
    ("detached at the first commit", || {
        let repo = Repo::new();
        repo.git(&["checkout", "-q", "HEAD~1"]);
        repo
    }),
    ("branch with slashes", || {
        let repo = Repo::new();
        repo.git(&["checkout", "-q", "-b", "feature/deep/one"]);
        repo
    }),
    ("linked working tree", || {
        let mut repo = Repo::new();
        repo.git(&["worktree", "add", "-q", "-b", "linked", "../linked"]);
        repo.root = repo.place.path().join("linked");
        repo.write("README.md", b"linked\n");
        repo.write("new", b"new\n");
        repo
    }),
    ("line endings by attributes", || {
        let repo = Repo::new();
        repo.write(".gitattributes", b"*.txt text eol=crlf\n*.id ident\n");
        repo.write("dos.txt", b"one\r\ntwo\r\n");
        repo.write("unix.txt", b"one\ntwo\n");
        repo.write("a.id", b"$Id$\n");
        repo.commit("endings");
        repo.git(&["checkout", "-q", "--force", "HEAD"]);
        repo.write("dos.txt", b"one\r\nchanged\r\n");
        repo
    }),
    ("line endings by configuration", || {
        let repo = Repo::new();
        repo.git(&["config", "core.autocrlf", "true"]);
        repo.write("auto", b"one\r\ntwo\r\n");
        repo.commit("auto");
        repo.write("info-only.x", b"x\r\n");
        std::fs::write(repo.path(".git/info/attributes"), "*.x -text\n").unwrap();
        repo.git(&["add", "info-only.x"]);
        repo
    }),
    ("excludes outside of the tree", || {
        let repo = Repo::new();
        std::fs::create_dir_all(repo.path(".git/info")).unwrap();
        std::fs::write(repo.path(".git/info/exclude"), "private-*\n").unwrap();
        std::fs::write(repo.path(".git/my-global"), "*.tmp").unwrap();
        repo.git(&["config", "core.excludesFile", repo.path(".git/my-global").to_str().unwrap()]);
        repo.write("private-a", b"p\n");
        repo.write("b.tmp", b"t\n");
        repo.write("seen", b"s\n");
        repo
    }),
    ("nested ignore files", || {
        let repo = Repo::new();
        repo.write("sub/.gitignore", b"*\n!keep\n!.gitignore\n");
        repo.write("sub/keep", b"k\n");
        repo.write("sub/drop", b"d\n");
        repo.write("sub/deeper/keep", b"k\n");
        repo.write("src/new.o", b"o\n");
        repo.write("src/new.c", b"c\n");
        repo
    }),
    ("a repository inside", || {
        let repo = Repo::new();
        std::fs::create_dir(repo.path("nested")).unwrap();
        crate::repo::git_in(&repo.path("nested"), &["init", "-q"]);
        repo.write("nested/file", b"n\n");
        repo.write("not-nested/.git/x", b"not a repository\n");
        repo.write("not-nested/file", b"f\n");
        repo
    }),
    ("packed, with deltas", || {
        let repo = Repo::new();
        let mut text: Vec<u8> = (0..20_000).flat_map(|n: u32| format!("line {n}\n").into_bytes()).collect();
        for round in 0..5 {
            text.extend_from_slice(format!("round {round}\n").as_bytes());
            repo.write("big.txt", &text);
            repo.write(format!("copy-{round}.txt"), &text);
            repo.commit("round");
        }
        repo.git(&["gc", "-q", "--aggressive"]);
        repo.git(&["pack-refs", "--all"]);
        repo.write("loose.txt", b"loose\n");
        repo.commit("loose");
        repo
    }),
    ("objects in an alternate", || {
        let mut repo = Repo::new();
        git_clone_shared(&repo);
        repo.root = repo.place.path().join("shared");
        repo.write("README.md", b"shared\n");
        repo
    }),
    ("a shallow clone", || {
        let mut repo = Repo::new();
        let url = format!("file://{}", repo.root.display());
        crate::repo::git_in(repo.place.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
        repo.root = repo.place.path().join("shallow");
        repo.write("README.md", b"shallow\n");
        repo
    }),
    ("staged tree of a commit that was undone", || {
        let repo = Repo::new();
        repo.write("src/undone.c", b"undone\n");
        repo.commit("undone");
        repo.git(&["reset", "-q", "--soft", "HEAD~1"]);
        repo
    }),
    ("empty and large files", || {
        let repo = Repo::new();
        repo.write("empty", b"");
        repo.write("large", &vec![7; 3 << 20]);
        repo.write("exactly-a-chunk", &vec![1; 256 << 10]);
        repo.write("a-chunk-and-one", &vec![1; (256 << 10) + 1]);
        repo.commit("sizes");
        repo.write("large", &vec![8; 3 << 20]);
        repo
    }),
];

fn git_clone_shared(repo: &Repo) {
    let source = repo.root.to_str().unwrap();
    crate::repo::git_in(repo.place.path(), &["clone", "-q", "--shared", source, "shared"]);
}
