//! The hermetic environment of one test: its own home, state, runtime directory and copy of the programs.
//!
//! Nothing of the caller's environment but `PATH` gets in. Dropped, every process that belongs to it is ended
//! and its directory removed; [`Env::assert_nothing_left`] says what a well-behaved product left before that.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::account::{Account, Who};
use crate::artifacts;
use crate::processes::{Process, mentioning};
use crate::programs::{NAMES, release_directory};
use crate::run::{Run, SHORT};
use crate::slots::{self, Held};
use crate::wait::{poll, until};

/// One test's world.
#[derive(Debug)]
pub struct Env {
    base: TempDir,
    account: Account,
    // Held until everything is gone.
    _turn: Option<Held>,
}

impl Env {
    /// An environment in which nothing was ever pulled; `None` where there is no such user.
    pub fn empty(who: Who) -> Option<Self> {
        Account::find(who).map(Self::of)
    }

    /// An environment with kernel and image, allowed to run one machine at a time beside other tests.
    pub fn ready(who: Who) -> Option<Self> {
        let account = Account::find(who)?;
        artifacts::ensure(&account);
        let mut env = Self::of(account);
        artifacts::provide(&env);
        env._turn = Some(slots::one_machine());
        Some(env)
    }

    /// As [`Env::ready`], with no other test's machine running.
    pub fn ready_alone(who: Who) -> Option<Self> {
        let account = Account::find(who)?;
        artifacts::ensure(&account);
        let mut env = Self::of(account);
        artifacts::provide(&env);
        env._turn = Some(slots::all_machines());
        Some(env)
    }

    /// An empty environment of this account.
    pub fn of(account: Account) -> Self {
        // Directly in /tmp: socket paths must fit 108 bytes.
        let base = tempfile::Builder::new().prefix("bgr-").tempdir_in("/tmp").expect("/tmp is writable");
        account.own(base.path());
        let env = Self { base, account, _turn: None };
        for name in ["bin", "home", "run", "state", "cache", "config", "tmp"] {
            env.ensure_directory(&env.path().join(name));
        }
        let release = release_directory();
        for name in NAMES {
            // A link, so that a rebuild meanwhile changes nothing here; a copy on another file system.
            let (source, target) = (release.join(name), env.program(name));
            if std::fs::hard_link(&source, &target).is_err() {
                std::fs::copy(&source, &target).expect("the programs can be copied");
            }
        }
        env.write("home/.gitconfig", b"[user]\n\tname = Tess Ter\n\temail = tess@example.invalid\n");
        env
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        self.base.path()
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// banger's state directory.
    pub fn state(&self) -> PathBuf {
        self.path().join("state/banger")
    }

    /// banger's runtime directory.
    pub fn runtime(&self) -> PathBuf {
        self.path().join("run/banger")
    }

    /// Who runs things here.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.path().join("bin").join(name)
    }

    /// A directory of the user's, made with those above it that lie in this environment.
    pub fn ensure_directory(&self, path: &Path) {
        for step in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if step.starts_with(self.path()) && !step.exists() {
                std::fs::create_dir(step).expect("our own directory");
                std::fs::set_permissions(step, PermissionsExt::from_mode(0o700)).expect("our own directory");
                self.account.own(step);
            }
        }
    }

    /// A file of the user's.
    pub fn write(&self, path: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.path().join(path);
        self.ensure_directory(path.parent().expect("below the base"));
        std::fs::write(&path, content).expect("our own directory");
        self.account.own(&path);
        path
    }

    /// All that a command sees of the world.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let below = |name: &str| self.path().join(name).into_os_string();
        vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into())),
            ("HOME", below("home")),
            ("USER", self.account.name.clone().into()),
            ("LOGNAME", self.account.name.clone().into()),
            ("SHELL", "/bin/sh".into()),
            ("LANG", "C.UTF-8".into()),
            // Whatever is installed on this machine.
            ("BANGER_MODE", "rootless".into()),
            ("TZ", "UTC".into()),
            ("TMPDIR", below("tmp")),
            ("XDG_RUNTIME_DIR", below("run")),
            ("XDG_STATE_HOME", below("state")),
            ("XDG_CACHE_HOME", below("cache")),
            ("XDG_CONFIG_HOME", below("config")),
            ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ]
    }

    /// `banger` with these arguments.
    pub fn banger<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        self.command(self.program("banger")).args(args)
    }

    /// Any program in this environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Run {
        let run = Run::new(program, &self.account).directory(&self.home());
        self.variables().into_iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<Process> {
        mentioning(self.path())
    }

    /// Its daemon, if one runs.
    pub fn daemon(&self) -> Option<Process> {
        self.processes().into_iter().find(|process| process.program() == "bangerd")
    }

    /// Its virtual machine monitors.
    pub fn machines(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.program().starts_with("qemu-system")).collect()
    }

    /// Ends the daemon as a crash would, and waits until it is gone.
    ///
    /// # Panics
    /// If none runs.
    pub fn kill_daemon(&self) {
        let daemon = self.daemon().expect("a daemon runs");
        daemon.signal(Signal::KILL);
        until("the killed daemon is gone", SHORT, || self.daemon().is_none_or(|found| found.pid != daemon.pid));
    }

    /// The VMs the product says there are.
    pub fn vms(&self) -> Vec<serde_json::Value> {
        let listing = self.banger(["vm", "list", "--json"]).limit(SHORT).finish().ok().json();
        let vms = listing.get("vms").unwrap_or(&listing);
        vms.as_array().unwrap_or_else(|| panic!("no list of VMs in {listing}")).clone()
    }

    /// What is left of VMs: processes other than the daemon, sockets, directories, scratch files.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self
            .processes()
            .into_iter()
            .filter(|process| process.program() != "bangerd")
            .map(|process| format!("process {} {:?}", process.pid, process.argv))
            .collect();
        let daemon_socket = self.runtime().join("bangerd.sock");
        for path in walk(&self.path().join("run")) {
            let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
            if is_socket && path != daemon_socket {
                left.push(format!("socket {}", path.display()));
            }
        }
        for directory in [self.state().join("vms"), self.runtime().join("vm"), self.path().join("tmp")] {
            left.extend(children(&directory).iter().map(|path| format!("file {}", path.display())));
        }
        left
    }

    /// No VM is known, and nothing of one is left on the machine.
    ///
    /// # Panics
    /// With all that is left.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let vms = self.vms();
        assert!(vms.is_empty(), "VMs are left: {vms:?}");
        // A process that was just killed may need a moment to be gone.
        let clean = poll(Duration::from_secs(10), || self.leftovers().is_empty().then_some(()));
        assert!(clean.is_some(), "left behind:\n  {}", self.leftovers().join("\n  "));
    }

    /// Nothing was started at all: the command refused before it asked a daemon.
    ///
    /// # Panics
    /// With what runs.
    #[track_caller]
    pub fn assert_nothing_started(&self) {
        assert!(self.daemon().is_none(), "a daemon was started: {:?}", self.daemon());
        assert!(self.leftovers().is_empty(), "left behind:\n  {}", self.leftovers().join("\n  "));
    }

    /// The daemon's own log, for a failing test to print.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.state().join("bangerd.log")).unwrap_or_default()
    }

    /// What each VM wrote to its console, for a failing test to print: a guest that died says there how.
    fn consoles(&self) -> Vec<(String, String)> {
        let console =
            |vm: &PathBuf| Some(String::from_utf8_lossy(&std::fs::read(vm.join("console.log")).ok()?).into_owned());
        let vms = children(&self.state().join("vms"));
        vms.iter().filter_map(|vm| Some((vm.file_name()?.display().to_string(), console(vm)?))).collect()
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("the daemon's log ends with:\n{}", tail(&self.daemon_log(), 60));
                for (name, console) in self.consoles() {
                    eprintln!("the console of {name} ends with:\n{}", tail(&console, 80));
                }
            }
        }
        let _ = poll(Duration::from_secs(10), || {
            let processes = self.processes();
            processes.iter().for_each(|process| process.signal(Signal::KILL));
            processes.is_empty().then_some(())
        });
    }
}

/// The last `lines` of a text.
fn tail(text: &str, lines: usize) -> String {
    let mut last: Vec<&str> = text.lines().rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = children(directory);
    let below: Vec<PathBuf> = found
        .iter()
        .filter(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir()))
        .flat_map(|path| walk(path))
        .collect();
    found.extend(below);
    found
}
