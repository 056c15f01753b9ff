//! Who runs the programs: root or an ordinary user. Each end-to-end claim holds for both.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// The user made for tests when they run as root.
const TEST_USER: &str = "banger-test";

/// Which kind of user a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// uid 0, as in a container.
    Root,
    /// Anybody else.
    Ordinary,
}

/// A user commands run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Login name.
    pub name: String,
}

impl Account {
    /// The account of that kind; `None`, with the reason on stderr, where this machine cannot offer one.
    pub fn find(who: Who) -> Option<Self> {
        let ours = rustix::process::getuid();
        match who {
            Who::Root if ours.is_root() => Some(Self { uid: 0, gid: 0, name: "root".into() }),
            Who::Root => skipped("this needs root, and the tests run as an ordinary user"),
            Who::Ordinary if ours.is_root() => Some(ensure_test_user()),
            Who::Ordinary => Some(Self {
                uid: ours.as_raw(),
                gid: rustix::process::getgid().as_raw(),
                name: capture("id", &["-un"]),
            }),
        }
    }

    /// The account the tests themselves run as.
    pub fn current() -> Self {
        let who = if rustix::process::getuid().is_root() { Who::Root } else { Who::Ordinary };
        Self::find(who).expect("we are somebody")
    }

    /// Makes `command` run as this user.
    pub fn apply(&self, command: &mut Command) {
        if rustix::process::getuid().as_raw() != self.uid {
            // Drops the supplementary groups too, as root.
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Gives `path` to this user.
    pub fn own(&self, path: &Path) {
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
                .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
        }
    }
}

/// Says on stderr why a test proves nothing here.
pub fn skipped<T>(reason: &str) -> Option<T> {
    #[allow(clippy::print_stderr)]
    {
        eprintln!("skipped: {reason}");
    }
    None
}

/// Two tests may come here at once: only one makes the user.
fn ensure_test_user() -> Account {
    let _lock = crate::slots::exclusive("account");
    if !succeeds("id", &["-u", TEST_USER]) {
        run("useradd", &["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", TEST_USER]);
    }
    // The unprivileged image build maps a range of ids; useradd does not always give one.
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let ranges = std::fs::read_to_string(file).unwrap_or_default();
        if !ranges.lines().any(|line| line.starts_with(&format!("{TEST_USER}:"))) {
            run("usermod", &[option, "700000-765535", TEST_USER]);
        }
    }
    let number = |flag| capture("id", &[flag, TEST_USER]).parse().expect("id prints a number");
    Account { uid: number("-u"), gid: number("-g"), name: TEST_USER.into() }
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn capture(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
