//! `banger-guest sync --root PATH`: the guest's end of a workspace transfer, on stdin and stdout.
//!
//! The receiver tells the host over the stream what went wrong; stderr repeats it for people who
//! run this by hand.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs the receiver.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let Some(root) = parse_root(arguments) else {
        return complain("usage: banger-guest sync --root PATH");
    };
    match receive(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("banger-guest sync: {}", crate::init::chain(&error))),
    }
}

fn receive(root: &Path) -> Result<(), banger_sync::receiver::ReceiverError> {
    banger_sync::receiver::run(root, io::stdin().lock(), io::stdout().lock())
}

fn parse_root(arguments: &[OsString]) -> Option<PathBuf> {
    match arguments {
        [flag, path] if flag == "--root" && !path.is_empty() => Some(path.into()),
        _ => None,
    }
}

fn complain(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_root_is_asked_for() {
        let parse = |words: &[&str]| parse_root(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(parse(&["--root", "/root/repo"]), Some("/root/repo".into()));
        for wrong in [&[][..], &["--root"], &["--root", ""], &["/root/repo"], &["--root", "a", "b"]] {
            assert_eq!(parse(wrong), None);
        }
    }
}
