//! The receiver as a program of its own: `banger-sync-receiver --root PATH`, frames on its standard streams.
//!
//! For the tests of this crate, which run it behind a real SSH server. Guests run `banger-guest sync`.

use std::path::PathBuf;
use std::process::ExitCode;

use banger_sync::receiver;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(flag), Some(root), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    if flag != "--root" {
        return ExitCode::from(2);
    }
    match receiver::run_on_standard_streams(&PathBuf::from(root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
