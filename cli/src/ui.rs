//! The only place that prints. Data goes to stdout; status, progress, warnings and errors go to stderr.
//!
//! - `--json`: data is JSON, stderr carries only JSON objects (`{"warning":…}`, `{"error":…}`).
//! - `--quiet`: status and progress are left out; warnings and errors stay.
//! - Progress bars appear only where stderr is a terminal; elsewhere each stage is one plain line.
//!
//! Text arriving here from outside (names, messages of the daemon) is escaped here, so that no caller has to
//! remember it; the exceptions are [`Ui::data`] (already rendered) and the byte streams of a session.

pub mod progress;
pub mod style;
mod unbuffered;

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use banger_proto::failure::Failure;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::error::{CliError, FailureView, render};
use style::{Paint, escape};
use unbuffered::Unbuffered;

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// And status and progress.
    Normal,
    /// And details.
    Verbose,
}

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorWhen {
    /// On terminals, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What data looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables and sentences.
    Text,
    /// `--json`.
    Json,
}

/// What the global flags ask for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `--json`.
    pub format: Format,
    /// `-q`, `-v`.
    pub verbosity: Verbosity,
    /// `--color`.
    pub color: ColorWhen,
}

/// Where a byte stream of a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Data,
    /// Standard error.
    Notes,
}

/// The two output channels.
pub struct Ui {
    settings: Settings,
    data_paint: Paint,
    notes_paint: Paint,
    data_is_terminal: bool,
    notes_is_terminal: bool,
    data: Mutex<Box<dyn Write + Send>>,
    notes: Mutex<Box<dyn Write + Send>>,
    bar: Mutex<Option<ProgressBar>>,
}

impl Ui {
    /// On the process's own stdout and stderr.
    pub fn standard(settings: Settings) -> Self {
        let paint = |terminal: bool| {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            match settings.color {
                ColorWhen::Always => Paint::coloured(),
                ColorWhen::Auto if terminal && !no_color => Paint::coloured(),
                ColorWhen::Auto | ColorWhen::Never => Paint::plain(),
            }
        };
        let (data_is_terminal, notes_is_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            settings,
            data_paint: paint(data_is_terminal),
            notes_paint: paint(notes_is_terminal),
            data_is_terminal,
            notes_is_terminal,
            data: Mutex::new(Box::new(Unbuffered::stdout())),
            notes: Mutex::new(Box::new(Unbuffered::stderr())),
            bar: Mutex::new(None),
        }
    }

    /// `--json` was given.
    pub fn is_json(&self) -> bool {
        self.settings.format == Format::Json
    }

    /// Stdout is a terminal.
    pub fn data_is_terminal(&self) -> bool {
        self.data_is_terminal
    }

    /// Stderr is a terminal.
    pub fn notes_is_terminal(&self) -> bool {
        self.notes_is_terminal
    }

    /// Colours of stdout.
    pub fn data_paint(&self) -> Paint {
        self.data_paint
    }

    /// Colours of stderr.
    pub fn notes_paint(&self) -> Paint {
        self.notes_paint
    }

    /// Writes rendered data.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if nobody reads any more.
    pub fn data(&self, text: &str) -> Result<(), CliError> {
        self.bytes(Channel::Data, text.as_bytes()).map_err(output_error)
    }

    /// Writes one indented JSON document.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn json(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).expect("views have string keys only");
        self.data(&format!("{text}\n"))
    }

    /// Writes one JSON document on one line: an event of a stream.
    ///
    /// # Errors
    /// As [`Ui::data`].
    pub fn event(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(value).expect("views have string keys only");
        self.data(&format!("{text}\n"))
    }

    /// Writes bytes exactly as they are.
    ///
    /// # Errors
    /// Whatever the descriptor says.
    pub fn bytes(&self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        match channel {
            Channel::Data => self.suspended(|| lock(&self.data).write_all(bytes)),
            Channel::Notes => self.suspended(|| lock(&self.notes).write_all(bytes)),
        }
    }

    /// A line of status.
    pub fn status(&self, text: &str) {
        if self.settings.verbosity >= Verbosity::Normal && !self.is_json() {
            self.note(&escape(text));
        }
    }

    /// A line of status that matters less than the others.
    pub fn dim_status(&self, text: &str) {
        if self.settings.verbosity >= Verbosity::Normal && !self.is_json() {
            self.note(&self.notes_paint.dim(&escape(text)));
        }
    }

    /// A line for `--verbose`.
    pub fn detail(&self, text: &str) {
        if self.settings.verbosity >= Verbosity::Verbose && !self.is_json() {
            self.note(&self.notes_paint.dim(&escape(text)));
        }
    }

    /// Something the user should know.
    pub fn warn(&self, text: &str) {
        if self.is_json() {
            self.note(&serde_json::json!({ "warning": text }).to_string());
        } else {
            self.note(&format!("{} {}", self.notes_paint.warning("warning:"), escape(text)));
        }
    }

    /// The error a command ends with.
    pub fn error(&self, failure: &Failure) {
        if self.is_json() {
            self.note(&serde_json::json!({ "error": FailureView::from(failure) }).to_string());
        } else {
            self.note(render(failure, self.notes_paint).trim_end());
        }
    }

    /// Asks a yes-or-no question on the terminal. No answer is no.
    pub fn confirm(&self, question: &str) -> bool {
        let prompt = format!("{} [y/N] ", escape(question));
        let _ = self.bytes(Channel::Notes, prompt.as_bytes());
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer).is_err() {
            return false;
        }
        matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    fn shows_progress(&self) -> bool {
        self.settings.verbosity >= Verbosity::Normal && !self.is_json()
    }

    fn note(&self, text: &str) {
        // A closed stderr must not stop the work.
        let _ = self.bytes(Channel::Notes, format!("{text}\n").as_bytes());
    }

    /// Runs `write` with the progress bar out of the way.
    fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        let bar = lock(&self.bar).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn output_error(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CliError::OutputClosed;
    }
    CliError::new(banger_proto::failure::Kind::Failed, "cannot write to standard output")
        .map(|failure| failure.caused_by(error.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
