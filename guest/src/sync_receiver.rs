//! `banger-guest sync --root PATH`: the guest's end of a workspace transfer, on stdin and stdout.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the receiver.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let _ = arguments;
    ExitCode::from(2)
}
