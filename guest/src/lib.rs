//! What runs inside a VM: everything the host would otherwise have to do to a guest's filesystem.
//!
//! ```text
//! /init (pid 1) ── mounts, seed, link ──▶ exec the image's init
//!    └─ agent ── supervised, started before that init; its argv[0] begins with '@'
//!          ├─ control: frames on virtio-serial or vsock (milestones, ports, stats, power off)
//!          └─ ssh_server: exec, shell, pty, forwards, on the agent's own port
//! banger-guest sync    one end of a workspace transfer, started over SSH
//! banger-guest booted  told by systemd's last unit, tells the agent
//! ```
//!
//! It never asks the resolver or NSS for anything (it is linked statically), and never opens a
//! connection to the outside. `init`, `agent` are where to go next.

pub mod agent;
pub mod control;
pub mod init;
pub mod log;
mod machine;
pub mod passwd;
pub mod port22;
pub mod ports;
pub mod seed;
pub mod ssh_server;
pub mod stats;
mod sync_receiver;
mod syscalls;
pub mod tree;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Runs the role the arguments name.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let role = arguments.get(1).and_then(|argument| argument.to_str()).unwrap_or("");
    let rest = arguments.get(2..).unwrap_or_default();
    match role {
        "stay" => init::stay::run(),
        _ if rustix::process::getpid() == rustix::process::Pid::INIT => init::run(),
        "agent" => agent::supervise(),
        "booted" | "ending" => agent::milestones::tell(Path::new(agent::milestones::SOCKET), role),
        "sync" => sync_receiver::run(rest),
        "serve" => agent::serve(rest),
        "version" | "--version" => say(&format!("banger-guest {}\n", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS),
        _ => say("usage: banger-guest agent | booted | sync --root PATH [--as-root] | version\n", ExitCode::from(2)),
    }
}

fn say(text: &str, code: ExitCode) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
