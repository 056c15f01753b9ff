//! The guest's own git, told to change nothing: another index, another place for new objects, no configuration but
//! the repository's, no hook, monitor, external diff or text conversion.
//!
//! Filters the guest's repository configures may run; they are the guest's programs in the guest.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Options before every subcommand.
const NEUTRAL: &[&str] = &[
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.untrackedCache=false",
    "-c",
    "core.commitGraph=false",
    "-c",
    "safe.directory=*",
    "-c",
    "advice.addEmbeddedRepo=false",
    "--no-replace-objects",
    "--no-pager",
];
/// How much of its complaints is repeated.
const WORDS: u64 = 2000;

/// How git is called in one root.
pub struct Git {
    root: PathBuf,
    git_dir: PathBuf,
    scratch: Option<PathBuf>,
}

impl Git {
    /// Only for reading commands: with the repository's own index.
    pub fn in_place(root: &Path, git_dir: &Path) -> Self {
        Self { root: root.to_owned(), git_dir: git_dir.to_owned(), scratch: None }
    }

    /// With an index and objects of its own in `scratch`, which must exist.
    pub fn beside(root: &Path, git_dir: &Path, scratch: &Path) -> Self {
        Self { root: root.to_owned(), git_dir: git_dir.to_owned(), scratch: Some(scratch.to_owned()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        command.env_clear().env("PATH", path).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_ATTR_NOSYSTEM", "1");
        command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_DIR", &self.git_dir).env("GIT_WORK_TREE", &self.root);
        if let Some(scratch) = &self.scratch {
            command.env("GIT_INDEX_FILE", scratch.join("index")).env("GIT_OBJECT_DIRECTORY", scratch.join("objects"));
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", OsStr::from_bytes(&quoted(&self.git_dir.join("objects"))));
        }
        command.current_dir(&self.root).args(NEUTRAL).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// No git, or its failure with what it said.
    pub fn output(&self, arguments: &[&str]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream(arguments, b"", |part| {
            bytes.extend_from_slice(part);
            Ok::<(), io::Error>(())
        })?;
        Ok(bytes)
    }

    /// Runs it with `input`, handing over what it writes as it comes.
    ///
    /// # Errors
    /// As [`Git::output`], or the taker's.
    pub fn stream<E: From<io::Error>>(
        &self,
        arguments: &[&str],
        input: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut command = self.command(arguments);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => io::Error::new(source.kind(), "there is no program `git` in the guest"),
            _ => source,
        })?;
        let complaints = child.stderr.take().map(|stderr| {
            std::thread::spawn(move || {
                let mut words = Vec::new();
                let mut stderr = stderr;
                let _ = stderr.by_ref().take(WORDS).read_to_end(&mut words);
                let _ = io::copy(&mut stderr, &mut io::sink());
                words
            })
        });
        let outcome = converse(&mut child, input, &mut take);
        if outcome.is_err() {
            let _ = child.kill();
        }
        let status = child.wait()?;
        let words = complaints.and_then(|reading| reading.join().ok()).unwrap_or_default();
        outcome?;
        if status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&words);
        Err(io::Error::other(format!("git {} failed ({status}): {}", arguments[0], words.trim())).into())
    }
}

fn converse<E: From<io::Error>>(
    child: &mut Child,
    input: &[u8],
    take: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    std::thread::scope(|scope| {
        // At the same time, or both could wait for the other to read. Its exit status says what it did not take.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let Some(mut stdout) = stdout else { return Ok(()) };
        let mut buffer = vec![0; crate::frames::CHUNK];
        loop {
            match stdout.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => take(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
}

/// As git wants a path with separators or quotes in a list of paths.
fn quoted(path: &Path) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}
