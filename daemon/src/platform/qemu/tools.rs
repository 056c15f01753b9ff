//! QEMU's programs, and what this QEMU can do.

use std::path::PathBuf;

use banger_proto::failure::Kind;

use crate::platform::programs::{Program, command, find, last_lines};
use crate::platform::{PlatformError, error};

/// The VMM.
pub const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };
/// Makes the root disk's overlay.
pub const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };

/// What every VMM is started with if this build of QEMU can: after start-up it can neither execute
/// anything nor change who it is.
pub const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The oldest QEMU this is written against.
const OLDEST_QEMU: (u32, u32) = (7, 2);

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
            Err(error::plain(Kind::HostNotReady, attempt).hint(QEMU.install_hint()))
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
}
