//! banger-guest: one static binary, told apart by pid and first argument.
//!
//! As pid 1 it is the init of the initramfs; the other roles are the agent, the receiver of
//! workspace transfers, and the messenger of systemd's last unit. See the library's header.

use std::process::ExitCode;

fn main() -> ExitCode {
    banger_guest::run(std::env::args_os().collect())
}
