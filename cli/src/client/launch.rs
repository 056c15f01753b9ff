//! Starts bangerd and waits for the one line it says when it listens, or why it does not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_proto::failure::{Classified, Failure, Kind};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use super::detached::spawn_daemon;
use crate::error::CliError;
use crate::paths::Paths;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOG_LINES_SHOWN: usize = 5;
/// Of the end of the log that is read to show its last lines.
const LOG_BYTES_READ: u64 = 8 << 10;

/// How a start ended well.
#[derive(Debug, PartialEq, Eq)]
pub enum Launched {
    /// Ours listens.
    Ready,
    /// Another one holds the lock: it listens, or will in a moment.
    AnotherRuns,
}

/// Why bangerd could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Nowhere to be found.
    #[error("cannot find the daemon bangerd, looked at {}", looked_at.join(", "))]
    NoBinary {
        /// Every place that was tried.
        looked_at: Vec<String>,
    },
    /// No place for its output.
    #[error("cannot open the daemon's log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No pipe to hear from it.
    #[error("cannot make a pipe to the daemon")]
    Pipe {
        /// The cause.
        source: io::Error,
    },
    /// The system refuses to run it.
    #[error("cannot start {}", binary.display())]
    Spawn {
        /// The daemon.
        binary: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ended, or took too long, without a word.
    #[error("bangerd {what}; the end of its log {} is: {tail}", log.display())]
    Silent {
        /// "ended before it was ready" …
        what: &'static str,
        /// The log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
}

impl Classified for LaunchError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoBinary { .. } | Self::Log { .. } | Self::Pipe { .. } | Self::Spawn { .. } => Kind::HostNotReady,
            Self::Silent { .. } => Kind::Unreachable,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoBinary { .. } => {
                vec!["Install `bangerd` beside `banger`, or name it with `BANGERD_BINARY=/path/to/bangerd`.".into()]
            }
            Self::Silent { log, .. } => vec![format!("See the whole log with `less {}`.", log.display())],
            Self::Log { path, .. } => vec![format!("Check `ls -l {}`.", path.display())],
            Self::Pipe { .. } => Vec::new(),
            Self::Spawn { binary, .. } => vec![format!("Try it by hand with `{} --version`.", binary.display())],
        }
    }
}

/// The one line.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ReadyLine {
    Failed { failure: FailureLine },
    Ready { ready: bool },
}

#[derive(Debug, Deserialize)]
struct FailureLine {
    kind: String,
    chain: Vec<String>,
    #[serde(default)]
    hints: Vec<String>,
}

/// Starts bangerd and waits until it listens.
///
/// # Errors
/// [`LaunchError`], or the failure bangerd reports.
pub async fn launch(paths: &Paths) -> Result<Launched, CliError> {
    let binary = find_daemon()?;
    let log_path = paths.daemon_log();
    let log = open_log(&log_path).map_err(|source| LaunchError::Log { path: log_path.clone(), source })?;
    let (receiver, ready) = ready_pipe().map_err(|source| LaunchError::Pipe { source })?;
    let spawned = spawn_daemon(&binary, log, ready);
    let _child = spawned.map_err(|source| LaunchError::Spawn { binary: binary.clone(), source })?;
    let mut line = String::new();
    let mut reader = BufReader::new(receiver);
    let silent = |what| LaunchError::Silent { what, log: log_path.clone(), tail: tail(&log_path) };
    match tokio::time::timeout(READY_TIMEOUT, reader.read_line(&mut line)).await {
        Err(_) => Err(silent("does not say that it is ready").into()),
        Ok(Err(_) | Ok(0)) => Err(silent("ended before it was ready").into()),
        Ok(Ok(_)) => match serde_json::from_str(&line) {
            Ok(ReadyLine::Ready { ready: true }) => Ok(Launched::Ready),
            Ok(ReadyLine::Failed { failure }) => judge(failure),
            Ok(ReadyLine::Ready { ready: false }) | Err(_) => {
                Err(silent("says something else than that it is ready").into())
            }
        },
    }
}

fn judge(line: FailureLine) -> Result<Launched, CliError> {
    let kind = kind_named(&line.kind);
    if kind == Kind::Conflict {
        return Ok(Launched::AnotherRuns);
    }
    let mut failure = Failure::new(kind, "bangerd cannot start");
    failure.chain.extend(line.chain);
    failure.hints = line.hints;
    Err(CliError::Failed(Box::new(failure)))
}

fn kind_named(name: &str) -> Kind {
    let all = [
        Kind::Failed,
        Kind::Usage,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Refused,
        Kind::Unreachable,
        Kind::HostNotReady,
        Kind::Cancelled,
    ];
    all.into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::Internal)
}

/// Where bangerd may be. A named one is the only candidate: a typing mistake must not fall back silently.
fn candidates(named: Option<PathBuf>, executable: Option<&Path>, path: Option<std::ffi::OsString>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named];
    }
    let beside = executable.and_then(Path::parent).map(|directory| directory.join("bangerd"));
    let on_path = path.iter().flat_map(std::env::split_paths).filter(|directory| directory.is_absolute());
    beside.into_iter().chain(on_path.map(|directory| directory.join("bangerd"))).collect()
}

/// The daemon's binary.
///
/// # Errors
/// [`LaunchError::NoBinary`].
pub fn find_daemon() -> Result<PathBuf, LaunchError> {
    let named = std::env::var_os("BANGERD_BINARY").map(PathBuf::from);
    find(&candidates(named, std::env::current_exe().ok().as_deref(), std::env::var_os("PATH")))
}

fn find(candidates: &[PathBuf]) -> Result<PathBuf, LaunchError> {
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| LaunchError::NoBinary {
        looked_at: candidates.iter().map(|path| path.display().to_string()).collect(),
    })
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// A pipe whose writing end a child inherits and whose reading end it does not.
fn ready_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    fcntl_setfd(&read, FdFlags::CLOEXEC)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_READ)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_READ).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if last.is_empty() { "(empty)".into() } else { last.join(" / ") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_named_daemon_never_falls_back() {
        let executable = Path::new("/opt/bin/banger");
        assert_eq!(candidates(Some("/x".into()), Some(executable), Some("/usr/bin".into())), [Path::new("/x")]);
        assert_eq!(
            candidates(None, Some(executable), Some("/usr/bin:relative:/bin".into())),
            [Path::new("/opt/bin/bangerd"), Path::new("/usr/bin/bangerd"), Path::new("/bin/bangerd")]
        );
        assert!(find(&[PathBuf::from("/nowhere/bangerd")]).unwrap_err().to_string().contains("/nowhere/bangerd"));
    }

    #[test]
    fn the_ready_line_has_two_forms() {
        let parse = |text: &str| serde_json::from_str::<ReadyLine>(text);
        assert!(matches!(parse(r#"{"ready":true,"pid":3}"#), Ok(ReadyLine::Ready { ready: true })));
        let failed = r#"{"failure":{"kind":"host_not_ready","chain":["no QEMU","not found"],"hints":["Run `x`."]}}"#;
        let Ok(ReadyLine::Failed { failure }) = parse(failed) else { panic!("not a failure") };
        let CliError::Failed(failure) = judge(failure).unwrap_err() else { panic!("not a failure") };
        assert_eq!(failure.kind, Kind::HostNotReady);
        assert_eq!(failure.chain, ["bangerd cannot start", "no QEMU", "not found"]);
        assert_eq!(failure.hints, ["Run `x`."]);
        let conflict = FailureLine { kind: "conflict".into(), chain: vec!["held".into()], hints: Vec::new() };
        assert_eq!(judge(conflict).unwrap(), Launched::AnotherRuns);
    }

    #[test]
    fn the_tail_shows_the_last_lines_only() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log");
        std::fs::write(&log, (0..100).map(|n| format!("line {n}\n\n")).collect::<String>()).unwrap();
        assert_eq!(tail(&log), "line 95 / line 96 / line 97 / line 98 / line 99");
        assert_eq!(tail(&scratch.path().join("missing")), "(empty)");
    }
}
