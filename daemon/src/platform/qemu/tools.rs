//! The programs this platform runs: finding them, asking QEMU what it can do, running the short ones.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use banger_proto::failure::Kind;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::error;
use crate::platform::PlatformError;

/// The VMM.
pub const QEMU: &str = "qemu-system-x86_64";
/// Makes the root disk's overlay.
pub const QEMU_IMG: &str = "qemu-img";
/// Makes the work disk's filesystem.
pub const MKE2FS: &str = "mke2fs";

/// What every VMM is started with if this build of QEMU can: after start-up it can neither execute
/// anything nor change who it is.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The oldest QEMU this is written against.
const OLDEST_QEMU: (u32, u32) = (7, 2);
/// Where administrators' tools live; users often lack these in PATH.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// A QEMU that was asked what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The executable.
    pub path: PathBuf,
    /// Whether it was built with seccomp.
    pub sandbox: Sandbox,
}

/// See [`SANDBOX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Use it.
    Available,
    /// Built without.
    Unavailable,
}

/// The program called `name`.
///
/// # Errors
/// [`Kind::HostNotReady`] with what to install.
pub fn find(name: &str) -> Result<PathBuf, PlatformError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_DIRECTORIES.iter().map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file())
        .ok_or_else(|| {
            error::plain(Kind::HostNotReady, format!("cannot find the program {name}")).hint(error::INSTALL_HINT)
        })
}

/// Finds QEMU and asks for its version and whether it has a sandbox: two short runs, once per daemon.
///
/// # Errors
/// If there is none, it does not run, or it is too old.
pub async fn probe_qemu() -> Result<Qemu, PlatformError> {
    let path = find(QEMU)?;
    let ask = async |arguments: &[&str]| {
        let output = command(&path).args(arguments).output().await;
        output.map_err(|source| error::on_path("cannot run", &path, source))
    };
    let with_sandbox = ask(&["-sandbox", SANDBOX, "-version"]).await?;
    let (sandbox, output) = if with_sandbox.status.success() {
        (Sandbox::Available, with_sandbox)
    } else {
        tracing::warn!("{} has no sandbox: {}", path.display(), last_lines(&with_sandbox.stderr));
        (Sandbox::Unavailable, ask(&["-version"]).await?)
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some(version) if version >= OLDEST_QEMU => Ok(Qemu { path, sandbox }),
        Some((major, minor)) => {
            let (oldest_major, oldest_minor) = OLDEST_QEMU;
            let attempt = format!(
                "cannot use {} {major}.{minor}, the oldest supported version is {oldest_major}.{oldest_minor}",
                path.display()
            );
            Err(error::plain(Kind::HostNotReady, attempt).hint(error::INSTALL_HINT))
        }
        None => {
            let attempt = format!("cannot read the version of {} from {:?}", path.display(), text.trim());
            Err(error::plain(Kind::HostNotReady, attempt).because(last_lines(&output.stderr)))
        }
    }
}

/// "QEMU emulator version 7.2.22 (Debian …)".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A child with a small, constant environment; it dies with the future that waits for it.
fn command(path: &Path) -> Command {
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
    fn versions_are_read_from_distribution_builds() {
        for (text, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", Some((7, 2))),
            ("QEMU emulator version 10.0.2", Some((10, 0))),
            ("QEMU emulator version x", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_tool_names_what_to_install() {
        let error = find("banger-no-such-tool").unwrap_err();
        assert_eq!(error.kind, Kind::HostNotReady);
        assert!(error.hints[0].contains("`sudo apt-get install"), "{:?}", error.hints);
    }

    #[tokio::test]
    async fn a_failing_tool_is_quoted_and_a_full_disk_recognised() {
        let shell = find("sh").unwrap();
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
        let error = run(&find("sleep").unwrap(), &arguments, "cannot wait", Path::new("/"), &cancel).await.unwrap_err();
        assert_eq!(error.kind, Kind::Cancelled);
    }
}
