//! A session of ours that keeps a tree in step, as a program of its own: `banger-sync-sender follow`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::sshd::Sshd;
use crate::programs::target_directory;

/// Ends with [`Session::stop`].
pub struct Session {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    /// Starts it; the first [`Session::flush`] waits until everything is there.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(sshd: &Sshd, source: &Path, target: &Path) -> Self {
        let program = |name: &str| target_directory().join("release").join(name);
        let mut child = Command::new(program("banger-sync-sender"))
            .arg("follow")
            .args(sshd.for_sender().split(' '))
            .arg(program("banger-sync-receiver"))
            .args([source, target])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("banger-sync-sender runs");
        let ask = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, ask, answers }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until both sides are known to be equal.
    ///
    /// # Panics
    /// If they are not, or it is gone.
    pub fn flush(&mut self) {
        self.ask.write_all(b"flush\n").expect("it lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it lives");
        assert!(line.trim().ends_with(" 0"), "no answer without conflicts: {line:?}");
    }

    /// Ends it.
    ///
    /// # Panics
    /// If it is gone.
    pub fn stop(mut self) {
        drop(self.ask);
        self.child.wait().expect("our child");
    }
}
