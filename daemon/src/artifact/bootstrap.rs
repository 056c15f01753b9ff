//! Runs mmdebstrap: the distribution's own packages, signatures checked by apt, no privilege needed.
//!
//! No mirror is named here: mmdebstrap picks the suite's default ones, with updates and security. The whole
//! process tree ends when the operation is cancelled or dropped, and its scratch space goes with it. What
//! the stream of the finished root becomes is the caller's business. [`diagnose`] turns apt's last words
//! into an error with a way out.

mod diagnose;
mod process;
mod progress;
mod scratch;
pub mod service;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::ProgressUnit;

use crate::reporter::Reporter;
use diagnose::Cause;
use progress::{Progress, Step};
use scratch::Scratch;

/// How mmdebstrap gets the powers it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Unpack only; needs nothing, works for every user.
    Chrootless,
    /// A whole root: as root directly, as anybody else in a user namespace with subordinate ids.
    Root,
}

/// What to bootstrap.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// What it is for, in messages: "the image debian-bookworm".
    pub subject: String,
    /// Suite of the distribution.
    pub suite: String,
    /// mmdebstrap's variant.
    pub variant: &'static str,
    /// See [`Mode`].
    pub mode: Mode,
    /// Packages beyond the variant.
    pub packages: Vec<String>,
    /// Further arguments: dpkg and apt options, hooks.
    pub options: Vec<OsString>,
    /// Seen by the hooks.
    pub environment: Vec<(&'static str, OsString)>,
    /// Whether the root comes out as a tar stream.
    pub output: Output,
}

/// What mmdebstrap writes to its standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The root as tar.
    Tar,
    /// Nothing; the hooks have taken what matters.
    Nothing,
}

/// The program, found once and replaceable in tests.
#[derive(Debug, Clone)]
pub struct Mmdebstrap {
    program: PathBuf,
    scratch_parent: PathBuf,
}

impl Default for Mmdebstrap {
    fn default() -> Self {
        Self { program: PathBuf::from("mmdebstrap"), scratch_parent: PathBuf::from("/var/tmp") }
    }
}

/// Why a bootstrap failed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Not installed.
    #[error("cannot start {program}: it is not installed", program = program.display())]
    Missing {
        /// What was looked for.
        program: PathBuf,
    },
    /// No place to work in, or the process could not be started.
    #[error("cannot start mmdebstrap for {subject}")]
    Start {
        /// For what.
        subject: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("mmdebstrap could not make {subject}: {cause}; its last words:\n{tail}")]
    Failed {
        /// For what.
        subject: String,
        /// What it means.
        cause: Cause,
        /// The end of its messages.
        tail: String,
    },
    /// The user stopped it.
    #[error("making {subject} was cancelled")]
    Cancelled {
        /// For what.
        subject: String,
    },
}

impl Classified for BootstrapError {
    fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } => Kind::HostNotReady,
            Self::Start { .. } => Kind::Failed,
            Self::Failed { cause, .. } => cause.kind(),
            Self::Cancelled { .. } => Kind::Cancelled,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => vec!["Run `sudo apt-get install mmdebstrap uidmap`.".to_owned()],
            Self::Failed { cause, .. } => cause.hints(),
            Self::Start { .. } | Self::Cancelled { .. } => Vec::new(),
        }
    }
}

/// Either side of a bootstrap can fail: mmdebstrap, or whatever reads its output.
#[derive(Debug)]
pub enum RunError<E> {
    /// mmdebstrap.
    Bootstrap(BootstrapError),
    /// The reader.
    Consumer(E),
}

impl Mmdebstrap {
    /// By the build service: a service's own sandbox has no room for what a whole root takes.
    pub fn by_service() -> Self {
        let program = PathBuf::from(banger_proto::install::PROGRAM_DIRECTORY).join("banger-build");
        Self { program, ..Self::default() }
    }

    /// Another program and scratch directory, for tests.
    pub fn new(program: PathBuf, scratch_parent: PathBuf) -> Self {
        Self { program, scratch_parent }
    }

    /// Bootstraps `recipe`; `consume` reads the output on a blocking thread, and its result comes back only
    /// if mmdebstrap succeeded too.
    ///
    /// # Errors
    /// [`RunError`]. The consumer's error wins unless mmdebstrap explains why the stream was cut.
    pub async fn run<T: Send + 'static, E: Send + 'static>(
        &self,
        recipe: &Recipe,
        reporter: &Reporter,
        consume: impl FnOnce(File) -> Result<T, E> + Send + 'static,
    ) -> Result<T, RunError<E>> {
        let subject = || recipe.subject.clone();
        let start = |source| RunError::Bootstrap(BootstrapError::Start { subject: subject(), source });
        let scratch = Scratch::create(&self.scratch_parent, &self.program).map_err(start)?;
        let mut command = tokio::process::Command::new(&self.program);
        command.args(arguments(recipe, rustix::process::geteuid().is_root()));
        command.envs(recipe.environment.iter().map(|(key, value)| (*key, value.as_os_str())));
        command.env("TMPDIR", scratch.work()).env("PATH", search_path());
        command.current_dir("/").stdin(Stdio::null());
        let mut progress = Progress::default();
        let outcome = process::run(command, reporter.cancellation(), consume, |line| match progress.observe(line) {
            Some(Step::Stage { name, message }) => reporter.stage(name, format!("{message} for {}", recipe.subject)),
            Some(Step::Progress { done, total, message }) => {
                reporter.progress(done, total, ProgressUnit::Steps, message);
            }
            None => tracing::debug!(subject = %recipe.subject, "mmdebstrap: {line}"),
        })
        .await;
        drop(scratch);
        match outcome {
            Ok(process::Outcome { success: true, result, .. }) => result.map_err(RunError::Consumer),
            Ok(process::Outcome { consumer_failed_first: true, result: Err(error), .. }) => {
                Err(RunError::Consumer(error))
            }
            Ok(process::Outcome { tail, .. }) => {
                let cause = diagnose::diagnose(&tail);
                Err(RunError::Bootstrap(BootstrapError::Failed { subject: subject(), cause, tail: tail.join("\n") }))
            }
            Err(process::ProcessError::Cancelled) => {
                Err(RunError::Bootstrap(BootstrapError::Cancelled { subject: subject() }))
            }
            Err(process::ProcessError::Start(source)) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(RunError::Bootstrap(BootstrapError::Missing { program: self.program.clone() }))
            }
            Err(process::ProcessError::Start(source)) => Err(start(source)),
        }
    }
}

fn arguments(recipe: &Recipe, is_root: bool) -> Vec<OsString> {
    let mode = match recipe.mode {
        Mode::Chrootless => "chrootless",
        Mode::Root if is_root => "root",
        Mode::Root => "unshare",
    };
    let mut arguments: Vec<OsString> =
        vec!["--verbose".into(), format!("--mode={mode}").into(), format!("--variant={}", recipe.variant).into()];
    if !recipe.packages.is_empty() {
        arguments.push(format!("--include={}", recipe.packages.join(",")).into());
    }
    arguments.extend(recipe.options.iter().cloned());
    arguments.push(recipe.suite.clone().into());
    arguments.push(match recipe.output {
        Output::Tar => "-".into(),
        Output::Nothing => "/dev/null".into(),
    });
    arguments
}

/// A service or an ordinary user may lack the sbin directories that apt and dpkg need.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    for directory in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !std::env::split_paths(&path).any(|known| known == Path::new(directory)) {
            if !path.is_empty() {
                path.push(":");
            }
            path.push(directory);
        }
    }
    path
}
