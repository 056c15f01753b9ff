//! The host as the installation sees it: a root directory (in tests another one than `/`), and programs to ask.
//! Every program is called by its absolute path with an empty environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where things are installed.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// A program said something, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not there, not executable.
    #[error("cannot run {program}")]
    Start {
        /// Which.
        program: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("`{command}` ended with {status}{}", said(output))]
    Failed {
        /// With its arguments.
        command: String,
        /// How.
        status: std::process::ExitStatus,
        /// What it printed.
        output: String,
    },
}

fn said(output: &str) -> String {
    let output = output.trim();
    if output.is_empty() { String::new() } else { format!(": {}", output.replace('\n', " / ")) }
}

impl Host {
    /// This machine.
    pub fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// Another root directory, for tests.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where an absolute path of the host lies.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The first place that has this system program.
    pub fn system_program(&self, name: &str) -> Option<PathBuf> {
        let directories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| self.at(path).is_file())
    }

    /// Runs a system program to its end and gives what it printed on standard output.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&self, name: &str, arguments: &[&str]) -> Result<String, AskError> {
        let program = self.system_program(name).unwrap_or_else(|| PathBuf::from("/usr/bin").join(name));
        let mut command = Command::new(self.at(&program));
        command.args(arguments);
        run(&mut command, &format!("{name} {}", arguments.join(" ")))
    }
}

/// Runs it without environment and input.
///
/// # Errors
/// [`AskError`].
pub fn run(command: &mut Command, words: &str) -> Result<String, AskError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = command
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| AskError::Start { program, source })?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(text);
    }
    let output = format!("{}{text}", String::from_utf8_lossy(&stderr));
    Err(AskError::Failed { command: words.trim_end().to_owned(), status, output })
}
