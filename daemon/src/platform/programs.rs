//! The short programs a platform runs: finding them, running them to their end, quoting them when they fail.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use banger_proto::failure::Kind;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{PlatformError, error};

/// Where administrators' tools live; users often lack these in PATH.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// A program of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its file name.
    pub name: &'static str,
    /// What to install where it is missing, by Debian's name.
    pub package: &'static str,
}

impl Program {
    /// How to get it.
    pub fn install_hint(self) -> String {
        format!("Install it, on Debian and Ubuntu with `sudo apt-get install {}`.", self.package)
    }
}

/// The program meant by `program`.
///
/// # Errors
/// [`Kind::HostNotReady`] with what to install.
pub fn find(program: Program) -> Result<PathBuf, PlatformError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_DIRECTORIES.iter().map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program.name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
        .ok_or_else(|| {
            error::plain(Kind::HostNotReady, format!("cannot find the program {}", program.name))
                .hint(program.install_hint())
        })
}

/// Arguments of a program.
pub fn options<const N: usize>(list: [&str; N]) -> Vec<OsString> {
    list.into_iter().map(OsString::from).collect()
}

/// A child with a small, constant environment; it dies with the future that waits for it.
pub fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().envs(environment()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The environment of everything started here: nothing of the user's session, messages in English.
pub fn environment() -> [(&'static str, OsString); 2] {
    [("PATH", std::env::var_os("PATH").unwrap_or_default()), ("LC_ALL", "C".into())]
}

/// What a failed run of a tool wrote.
#[derive(Debug, thiserror::Error)]
#[error("{program} said: {said}")]
pub struct ToolError {
    /// Its name.
    program: String,
    /// The end of its standard error.
    pub said: String,
}

/// Runs a tool that works on `target` to its end, or kills it when the operation is cancelled.
///
/// # Errors
/// With `attempt` as the message and the tool's last words as the cause.
pub async fn run(
    path: &Path,
    arguments: &[OsString],
    attempt: &str,
    target: &Path,
    cancel: &CancellationToken,
) -> Result<(), PlatformError> {
    let mut tool = command(path);
    tool.args(arguments);
    let output = tokio::select! {
        output = tool.output() => output.map_err(|source| error::on_path("cannot run", path, source))?,
        () = cancel.cancelled() => return Err(error::plain(Kind::Cancelled, format!("{attempt}: cancelled"))),
    };
    if output.status.success() {
        return Ok(());
    }
    let program = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let said = match last_lines(&output.stderr) {
        said if said.is_empty() => output.status.to_string(),
        said => said,
    };
    let failed = if said.contains("No space left on device") || said.contains("Disk quota exceeded") {
        error::full(attempt, target)
    } else {
        error::plain(Kind::Failed, attempt)
    };
    Err(failed.because(ToolError { program, said }))
}

/// The end of what a program wrote, on one line.
pub fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_names_what_to_install() {
        let error = find(Program { name: "banger-no-such-tool", package: "x" }).unwrap_err();
        assert_eq!(error.kind, Kind::HostNotReady);
        assert!(error.hints[0].contains("`sudo apt-get install x`"), "{:?}", error.hints);
    }

    #[tokio::test]
    async fn a_failing_tool_is_quoted_and_a_full_disk_recognised() {
        let shell = find(Program { name: "sh", package: "dash" }).unwrap();
        let run = async |script: &str| {
            let arguments = ["-c".into(), script.into()];
            run(&shell, &arguments, "cannot make it", Path::new("/proc/x"), &CancellationToken::new())
                .await
                .unwrap_err()
        };
        let failed = run("echo one; echo two >&2; exit 3").await;
        assert_eq!((failed.kind, failed.source.unwrap().to_string()), (Kind::Failed, "sh said: two".into()));
        let full = run("echo 'x: No space left on device' >&2; exit 1").await;
        assert_eq!(full.kind, Kind::HostNotReady);
        assert!(full.attempt.contains("the filesystem at /proc is full"), "{}", full.attempt);
        assert!(run("exit 3").await.source.unwrap().to_string().contains("exit status: 3"));
    }

    #[tokio::test]
    async fn cancelling_ends_the_tool() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let arguments = ["60".into()];
        let error = run(
            &find(Program { name: "sleep", package: "coreutils" }).unwrap(),
            &arguments,
            "cannot wait",
            Path::new("/"),
            &cancel,
        )
        .await
        .unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled);
    }
}
