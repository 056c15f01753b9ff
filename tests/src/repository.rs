//! Git repositories of every awkward kind, made with the host's git.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::run::{Outcome, Run, SHORT};

/// A repository in an environment's home, owned by its user.
#[derive(Debug)]
pub struct Repository<'e> {
    env: &'e Env,
    path: PathBuf,
}

impl<'e> Repository<'e> {
    /// `git init` in `home/<name>`; nothing committed.
    pub fn init(env: &'e Env, name: &str) -> Self {
        let path = env.home().join(name);
        env.ensure_directory(&path);
        let repository = Self { env, path };
        repository.git(["init", "-q", "-b", "main"]);
        repository
    }

    /// One committed file, `hello.txt`, and a Makefile whose `test` prints it.
    pub fn small(env: &'e Env, name: &str) -> Self {
        let repository = Self::init(env, name);
        repository.write("hello.txt", b"hello from the host\n");
        repository.write("Makefile", b"test:\n\tcat hello.txt\n");
        repository.commit("first");
        repository
    }

    /// A repository that something else made at `path`.
    pub fn at(env: &'e Env, path: PathBuf) -> Self {
        Self { env, path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A git command in it, that must succeed.
    #[track_caller]
    pub fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.command("git").args(args).finish().ok()
    }

    /// Any command in it. Dates are fixed, so that ids are the same in every run.
    pub fn command(&self, program: &str) -> Run {
        let run = self.env.command(program).directory(&self.path).limit(SHORT);
        let run = run.env("GIT_AUTHOR_DATE", "2024-05-06T07:08:09Z").env("GIT_COMMITTER_DATE", "2024-05-06T07:08:09Z");
        // Submodules from a directory are refused by default; here they are ours.
        run.env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "protocol.file.allow")
            .env("GIT_CONFIG_VALUE_0", "always")
    }

    /// Writes a file, directories included.
    pub fn write(&self, path: impl AsRef<OsStr>, content: &[u8]) {
        self.env.write(self.path.join(path.as_ref()), content);
    }

    /// Writes an executable file.
    pub fn write_program(&self, path: impl AsRef<OsStr>, content: &[u8]) {
        self.write(&path, content);
        self.set_mode(path, 0o755);
    }

    /// Changes a file's permissions.
    pub fn set_mode(&self, path: impl AsRef<OsStr>, mode: u32) {
        std::fs::set_permissions(self.path.join(path.as_ref()), PermissionsExt::from_mode(mode)).expect("it exists");
    }

    /// Makes a symbolic link.
    pub fn link(&self, target: &str, path: &str) {
        let path = self.path.join(path);
        self.env.ensure_directory(path.parent().expect("below the base"));
        std::os::unix::fs::symlink(target, &path).expect("our own directory");
        self.env.account().own(&path);
    }

    /// Deletes a file.
    pub fn remove(&self, path: impl AsRef<OsStr>) {
        std::fs::remove_file(self.path.join(path.as_ref())).expect("it exists");
    }

    /// Commits everything that is not ignored.
    pub fn commit(&self, message: &str) {
        self.git(["add", "-A"]);
        self.git(["commit", "-q", "--allow-empty", "-m", message]);
    }
}

/// One kind of repository that must arrive in the guest as it is.
pub struct Case {
    /// Directory name.
    pub name: &'static str,
    /// Makes it.
    pub build: for<'e> fn(&'e Env) -> Repository<'e>,
    /// The directory inside it to hand to banger; empty for its root.
    pub inside: &'static str,
}

/// All kinds that are handled.
pub const CASES: &[Case] = &[
    Case { name: "clean", build: |env| Repository::small(env, "clean"), inside: "" },
    Case { name: "edited", build: edited, inside: "" },
    Case { name: "staged", build: staged, inside: "" },
    Case { name: "kinds", build: kinds, inside: "" },
    Case { name: "names", build: names, inside: "" },
    Case { name: "unborn", build: unborn, inside: "" },
    Case { name: "detached", build: detached, inside: "" },
    Case { name: "worktree", build: linked_worktree, inside: "" },
    Case { name: "attributes", build: attributes, inside: "" },
    Case { name: "ignored", build: ignored, inside: "" },
    Case { name: "history", build: history, inside: "" },
    Case { name: "binary", build: binary, inside: "" },
    Case { name: "subdirectory", build: subdirectory, inside: "inner" },
];

/// Modified, deleted, renamed, changed mode, untracked: all uncommitted.
fn edited(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "edited");
    for name in ["modified.txt", "deleted.txt", "renamed.txt", "mode.sh", "emptied.txt"] {
        repository.write(name, format!("{name}\nsecond line\n").as_bytes());
    }
    repository.commit("second");
    repository.write("modified.txt", b"changed\nsecond line\n");
    repository.remove("deleted.txt");
    repository.git(["mv", "renamed.txt", "new name.txt"]);
    repository.set_mode("mode.sh", 0o755);
    repository.write("emptied.txt", b"");
    repository.write("untracked.txt", b"untracked\n");
    repository.write("new/deep/untracked.txt", b"untracked too\n");
    repository
}

/// The index differs from both HEAD and the working tree.
fn staged(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "staged");
    repository.write("both.txt", b"committed\n");
    repository.write("gone.txt", b"committed\n");
    repository.commit("second");
    repository.write("added.txt", b"only in the index and here\n");
    repository.write("both.txt", b"staged\n");
    repository.git(["add", "added.txt", "both.txt"]);
    repository.write("both.txt", b"staged, then edited\n");
    // Staged for deletion and still there.
    repository.git(["rm", "-q", "--cached", "gone.txt"]);
    // Staged, then deleted here: only the index has it.
    repository.write("index-only.txt", b"nowhere else\n");
    repository.git(["add", "index-only.txt"]);
    repository.remove("index-only.txt");
    repository
}

/// Links, executables, files that became links and the other way round, empty files.
fn kinds(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "kinds");
    repository.write_program("bin/tool", b"#!/bin/sh\necho tool\n");
    repository.write("empty", b"");
    repository.write("becomes-link", b"a file\n");
    repository.write("becomes-directory", b"a file\n");
    repository.write("directory-becomes-file/inside", b"inside\n");
    repository.link("hello.txt", "link");
    repository.link("../outside/of it", "dangling");
    repository.link("bin", "link-to-directory");
    repository.link("hello.txt", "link-becomes-file");
    repository.commit("second");
    repository.remove("becomes-link");
    repository.link("empty", "becomes-link");
    repository.remove("link-becomes-file");
    repository.write("link-becomes-file", b"now a file\n");
    repository.remove("becomes-directory");
    repository.write("becomes-directory/inside", b"inside\n");
    repository.remove("directory-becomes-file/inside");
    std::fs::remove_dir(repository.path().join("directory-becomes-file")).expect("empty");
    repository.write("directory-becomes-file", b"now a file\n");
    repository.remove("link");
    repository.link("bin/tool", "link");
    repository
}

/// Spaces, newlines, quotes, a leading dash, bytes that are not UTF-8, long names, deep paths.
fn names(env: &Env) -> Repository<'_> {
    let repository = Repository::init(env, "names");
    let long = "n".repeat(255);
    let deep = (0..40).map(|level| format!("level-{level}")).collect::<Vec<_>>().join("/");
    let odd: [&[u8]; 12] = [
        b"a space",
        b" leading",
        b"new\nline",
        b"tab\tand\\backslash",
        b"'single' \"double\"",
        b"$(touch evil) `touch evil`; touch evil",
        b"-rf",
        b"\xff\xfe not utf-8",
        "ünïcödé \u{1f980}".as_bytes(),
        b"glob*?[a-z]",
        long.as_bytes(),
        b"...",
    ];
    for name in odd {
        repository.write(OsStr::from_bytes(name), name);
        let inside: OsString = OsString::from_vec([b"in/".as_slice(), name].concat());
        repository.write(inside, b"inside\n");
    }
    repository.write(format!("{deep}/leaf"), b"deep\n");
    repository.commit("odd names");
    repository.write(OsStr::from_bytes(b"new\nline"), b"edited\n");
    repository.write(OsStr::from_bytes(b"\xff\xfe not utf-8"), b"edited\n");
    repository.write(OsStr::from_bytes(b"untracked \xe9\n"), b"untracked\n");
    repository
}

/// No commit yet; one file staged, one not.
fn unborn(env: &Env) -> Repository<'_> {
    let repository = Repository::init(env, "unborn");
    repository.write("staged.txt", b"staged\n");
    repository.git(["add", "staged.txt"]);
    repository.write("untracked.txt", b"untracked\n");
    repository
}

/// HEAD is a commit, not a branch.
fn detached(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "detached");
    repository.write("second.txt", b"second\n");
    repository.commit("second");
    repository.git(["checkout", "-q", "--detach", "HEAD~1"]);
    repository.write("hello.txt", b"edited while detached\n");
    repository
}

/// A second working tree of a repository, on its own branch.
fn linked_worktree(env: &Env) -> Repository<'_> {
    let main = Repository::small(env, "worktree-main");
    let linked = env.home().join("worktree");
    main.git([OsStr::new("worktree"), "add".as_ref(), "-q".as_ref(), "-b".as_ref(), "side".as_ref(), linked.as_ref()]);
    let repository = Repository::at(env, linked);
    repository.write("side.txt", b"on the side\n");
    repository.commit("side");
    repository.write("hello.txt", b"edited on the side\n");
    repository
}

/// Line endings differ between the repository and the working tree.
fn attributes(env: &Env) -> Repository<'_> {
    let repository = Repository::init(env, "attributes");
    repository.write(".gitattributes", b"*.crlf text eol=crlf\n*.lf text eol=lf\n*.bin -text\n");
    repository.write("windows.crlf", b"one\r\ntwo\r\n");
    repository.write("unix.lf", b"one\ntwo\n");
    repository.write("raw.bin", b"one\r\ntwo\n\0");
    repository.commit("line endings");
    repository.write("windows.crlf", b"one\r\nchanged\r\n");
    repository.write("new.crlf", b"new\r\n");
    repository
}

/// Ignored files never travel; a tracked file that matches does.
fn ignored(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "ignored");
    repository.write(".gitignore", b"*.log\nbuild/\n!kept.log\n");
    repository.write("kept.log", b"kept\n");
    repository.write("forced.log", b"tracked although ignored\n");
    repository.git(["add", "-f", "forced.log"]);
    repository.commit("ignore");
    repository.write("noise.log", b"secret\n");
    repository.write("build/output", b"secret\n");
    repository.write("nested/.gitignore", b"local\n");
    repository.write("nested/local", b"secret\n");
    repository.write("forced.log", b"edited\n");
    repository
}

/// Merges and tags behind HEAD; the guest gets only what it needs.
fn history(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "history");
    repository.git(["checkout", "-q", "-b", "topic"]);
    repository.write("topic.txt", b"topic\n");
    repository.commit("topic");
    repository.git(["checkout", "-q", "main"]);
    repository.write("main.txt", b"main\n");
    repository.commit("main");
    repository.git(["merge", "-q", "--no-ff", "-m", "Merge: umlauts äöü\n\nand a body", "topic"]);
    repository.git(["tag", "-a", "v1", "-m", "one"]);
    repository.git(["remote", "add", "origin", "https://git.example.invalid/team/history.git"]);
    repository
}

/// Files large enough to need more than one frame, and edits to binary content.
fn binary(env: &Env) -> Repository<'_> {
    let repository = Repository::init(env, "binary");
    // Not compressible, the same in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(768 * 1024)
    .flatten()
    .collect();
    repository.write("large.bin", &noise);
    repository.write("edited.bin", &noise[..100_000]);
    repository.write("zeros.bin", &vec![0; 3 << 20]);
    repository.commit("binary");
    repository.write("edited.bin", &noise[1..100_000]);
    repository
}

/// banger is given a directory inside the repository.
fn subdirectory(env: &Env) -> Repository<'_> {
    let repository = Repository::small(env, "subdirectory");
    repository.write("inner/file.txt", b"inner\n");
    repository.commit("inner");
    repository.write("inner/file.txt", b"edited\n");
    repository
}
