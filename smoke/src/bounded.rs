//! Programs that end: by themselves, at a limit, or with this program.
//!
//! `timeout` ends the whole process group at the limit; the parent-death signal of `setpriv` reaches it when this
//! program is killed, so that no build and no machine outlives a run. Each gets a session of its own, by which the leak
//! check tells the processes of one command from those of another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};

/// What `timeout` returns at the limit, and after it had to kill.
const AT_THE_LIMIT: [i32; 2] = [124, 137];
/// How much of a log is worth showing.
const END_LINES: usize = 25;

/// `program`, ended at `limit` at the latest.
pub fn command(program: impl AsRef<OsStr>, limit: Duration) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--wait", "setpriv", "--pdeathsig", "TERM"]);
    command.args(["timeout", "--kill-after=10", &limit.as_secs().to_string()]);
    command.arg(program).stdin(Stdio::null());
    command
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status; 128 and more for a signal.
    With(i32),
    /// Not by itself.
    AtTheLimit,
}

/// Runs it with its output in `log` (appended).
pub fn run(command: &mut Command, log: &Path) -> Result<Ended> {
    let output = File::options().create(true).append(true).open(log).map_err(Error::file("write", log))?;
    let errors = output.try_clone().map_err(Error::file("write", log))?;
    match command.stdout(output).stderr(errors).status() {
        Ok(status) => Ok(ended(status)),
        Err(source) => Err(Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }),
    }
}

/// Runs it with its output in `log`; anything but success is an error that shows the end of the log.
pub fn succeed(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    match run(command, log)? {
        Ended::With(0) => Ok(()),
        Ended::With(status) => Err(Error::Failed { what: what.to_owned(), status, end: end(log) }),
        Ended::AtTheLimit => Err(Error::TookTooLong { what: what.to_owned(), limit: limit_of(command), end: end(log) }),
    }
}

/// The last lines of a log, as far as it can be read.
pub fn end(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(END_LINES)..].join("\n")
}

fn ended(status: ExitStatus) -> Ended {
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        code if AT_THE_LIMIT.contains(&code) => Ended::AtTheLimit,
        code => Ended::With(code),
    }
}

fn limit_of(command: &Command) -> Duration {
    let seconds = command.get_args().nth(6).and_then(OsStr::to_str).and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: u64) -> (Ended, String) {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = command("sh", Duration::from_secs(limit));
        let ended = run(command.args(["-c", script]), log.path()).unwrap();
        (ended, end(log.path()))
    }

    #[test]
    fn an_exit_status_and_both_streams_come_back() {
        assert_eq!(shell("echo out; echo err >&2; exit 3", 10), (Ended::With(3), "out\nerr".to_owned()));
    }

    #[test]
    fn a_program_is_ended_at_its_limit_with_its_children() {
        assert_eq!(shell("sleep 600 & sleep 600", 1).0, Ended::AtTheLimit);
    }

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let (_, end) = shell("seq 100", 10);
        assert_eq!(end.lines().next(), Some("76"));
        assert_eq!(end.lines().count(), END_LINES);
    }
}
