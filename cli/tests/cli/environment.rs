//! A hermetic home, and the program run in it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take before the test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Directories of one test; nothing of the user's is seen.
pub struct Environment {
    scratch: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Outcome {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn events(&self) -> Vec<serde_json::Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.text().lines().map(parse).collect()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }
}

impl Environment {
    pub fn new() -> Self {
        let environment = Self { scratch: tempfile::tempdir().expect("a temporary directory") };
        for name in ["run", "state", "config", "cache"] {
            std::fs::create_dir(environment.path().join(name)).expect("a new directory");
        }
        environment
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub fn runtime(&self) -> PathBuf {
        self.path().join("run/banger")
    }

    pub fn socket(&self) -> PathBuf {
        self.runtime().join("bangerd.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state/banger")
    }

    /// `banger` with these words.
    pub fn banger(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banger"));
        command.args(words);
        self.confine(&mut command);
        command
    }

    pub fn confine(&self, command: &mut Command) {
        command.env_clear().current_dir(self.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("TERM", "xterm");
        // Whatever is installed on this machine.
        command.env("BANGER_MODE", "rootless");
        command.env("BANGERD_BINARY", "/nonexistent/bangerd");
        for (variable, name) in [("RUNTIME_DIR", "run"), ("STATE_HOME", "state"), ("CONFIG_HOME", "config")] {
            command.env(format!("XDG_{variable}"), self.path().join(name));
        }
    }

    /// Runs it to the end, without input.
    pub fn run(&self, words: &[&str]) -> Outcome {
        finish(self.start(words))
    }

    /// Starts it, without input.
    pub fn start(&self, words: &[&str]) -> Child {
        spawn(self.banger(words).stdin(Stdio::null()))
    }
}

/// Starts it with both outputs piped.
pub fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("banger starts")
}

/// Reads both outputs to their ends and waits, not longer than [`LIMIT`].
pub fn finish(mut child: Child) -> Outcome {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.map(|mut pipe| pipe.read_to_end(&mut bytes));
        bytes
    });
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.map(|mut pipe| pipe.read_to_string(&mut text));
        text
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("banger did not end; stderr: {}", errors.join().expect("the reader ends"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Outcome { status, stdout: reader.join().expect("the reader ends"), stderr: errors.join().expect("the reader ends") }
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("our child");
}
