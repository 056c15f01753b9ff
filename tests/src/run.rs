//! One command, bounded in time, with everything it said.
//!
//! A command that overruns its limit is killed with its process group and the test fails with its output.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::account::Account;
use crate::wait::poll;

/// Limit of a command that boots nothing.
pub const SHORT: Duration = Duration::from_secs(30);
/// Limit of a command that boots a machine, without hardware virtualisation and beside other tests.
pub const BOOT: Duration = Duration::from_secs(300);

/// A command to be run.
#[derive(Debug)]
pub struct Run {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
}

impl Run {
    /// `program` as `account`, in an environment that is empty but for what [`Run::env`] adds.
    pub fn new(program: impl AsRef<OsStr>, account: &Account) -> Self {
        let mut command = Command::new(program);
        command.env_clear().process_group(0);
        account.apply(&mut command);
        Self { command, input: Vec::new(), limit: BOOT }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Gives it these bytes on stdin; without, stdin is empty.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Kills it after `limit`.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started or overruns its limit.
    pub fn finish(self) -> Outcome {
        self.start().finish()
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut self) -> Running {
        let described = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let described = format!("{} {described}", self.command.get_program().to_string_lossy());
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {described}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input;
        std::thread::spawn(move || {
            // A command that does not read its input closes it; that is its right.
            let _ = stdin.write_all(&input);
        });
        let stdout = Collector::start(child.stdout.take().expect("piped"));
        let stderr = Collector::start(child.stderr.take().expect("piped"));
        Running { child, described, stdout, stderr, limit: self.limit, began: Instant::now() }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    described: String,
    stdout: Collector,
    stderr: Collector,
    limit: Duration,
    began: Instant,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it (not its group) a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.process(), signal);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until stdout or stderr contains `text`, or the command ends. False if it ended without.
    ///
    /// # Panics
    /// If neither happens within the limit.
    pub fn reaches(&mut self, text: &str) -> bool {
        let answer = poll(self.limit, || {
            let ended = self.child.try_wait().expect("our child").is_some();
            let seen = self.stderr().contains(text) || self.stdout().contains(text);
            (seen || ended).then_some(seen)
        });
        answer.unwrap_or_else(|| panic!("{} never said {text:?}\n{}", self.described, self.stderr()))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it overruns its limit.
    pub fn finish(mut self) -> Outcome {
        let status = poll(self.limit, || self.child.try_wait().expect("our child"));
        let Some(status) = status else {
            let _ = kill_process_group(self.process(), Signal::KILL);
            let _ = self.child.wait();
            panic!(
                "{} did not end within {:?}\nstdout: {}\nstderr: {}",
                self.described,
                self.limit,
                self.stdout(),
                self.stderr()
            );
        };
        let elapsed = self.began.elapsed();
        Outcome {
            described: self.described,
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            elapsed,
        }
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// What became of a command.
#[derive(Clone)]
pub struct Outcome {
    described: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub elapsed: Duration,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\nended with {} after {:?}\nstdout: {}\nstderr: {}",
            self.described,
            self.status,
            self.elapsed,
            shortened(&self.stdout),
            shortened(&self.stderr)
        )
    }
}

impl Outcome {
    /// Exit code; 128 + n for signal n, as shells say it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Insists on this exit code.
    ///
    /// # Panics
    /// With everything the command said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }

    /// Insists on success.
    ///
    /// # Panics
    /// With everything the command said.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect(0)
    }

    /// Insists on one clear refusal: this exit code, one `error:` line, a `hint:`, nothing on stdout, and each of
    /// `mentions` (case does not matter) on stderr.
    ///
    /// # Panics
    /// With everything the command said.
    #[track_caller]
    pub fn refused(self, code: i32, mentions: &[&str]) -> Self {
        let outcome = self.expect(code);
        let errors = outcome.errors();
        assert_eq!(errors.lines().filter(|line| line.starts_with("error:")).count(), 1, "{outcome:?}");
        assert!(errors.lines().any(|line| line.trim_start().starts_with("hint:")), "no hint: {outcome:?}");
        assert!(outcome.stdout.is_empty(), "stdout is for data: {outcome:?}");
        for mention in mentions {
            assert!(errors.to_lowercase().contains(&mention.to_lowercase()), "no {mention:?} in: {outcome:?}");
        }
        outcome
    }

    /// Stdout as JSON.
    ///
    /// # Panics
    /// If it is not one JSON document.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

fn shortened(bytes: &[u8]) -> String {
    const MOST: usize = 8000;
    if bytes.len() <= MOST {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    format!("… ({} bytes) …{}", bytes.len(), String::from_utf8_lossy(&bytes[bytes.len() - MOST..]))
}

/// Reads a stream to its end in a thread, so that no pipe fills up.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collector {
    fn start(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                sink.lock().expect("no reader panics").extend_from_slice(&buffer[..length]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    /// Everything. A child of the command that kept the stream open would hold it open for ever: not waited for.
    fn finish(self) -> Vec<u8> {
        let closed = poll(SHORT, || self.reader.is_finished().then_some(())).is_some();
        let bytes = std::mem::take(&mut *self.bytes.lock().expect("no reader panics"));
        assert!(closed, "a process left behind keeps the output open; so far: {}", shortened(&bytes));
        bytes
    }
}
