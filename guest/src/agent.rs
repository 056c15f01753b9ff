//! The agent: the control channel and the SSH server, in a process that outlives the image's init.
//!
//! ```text
//! pid 1 ── supervise (argv[0] begins with '@') ── agent ─┬─ control thread (frames)
//!                                                        └─ main thread (tokio): SSH, booted socket
//! ```
//!
//! It learns everything from files pid 1 left under /run/banger, never from its arguments, so a
//! respawned agent is as good as the first.

pub mod ending;
pub mod milestones;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use banger_proto::guest::v1::Seed;
use banger_proto::guest_contract::AGENT_SSH_PORT;
use rustix::process::{Resource, Rlimit, WaitOptions};

use self::ending::Ending;
use self::milestones::Milestones;
use crate::init::handover::{self, End};
use crate::ssh_server::{Settings, SshServer};
use crate::syscalls::{self, Forked};
use crate::{control, log, port22, seed};

/// systemd's last killing spree spares processes of root whose argv[0] begins with this.
pub const SPARED: &str = "@banger-guest";

/// Niceness of the agent. What runs in its sessions has none.
const AHEAD: i32 = -10;

const RESPAWN_DELAY: Duration = Duration::from_millis(500);

/// Keeps an agent running: forks it, waits for it, and forks again.
pub fn supervise() -> ExitCode {
    // Not in the session of pid 1: a terminal's signals are not for us.
    let _ = rustix::process::setsid();
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    // Whoever talks to us does not wait behind all that an image starts at its boot. The second is for kernels that
    // share out processors between sessions first.
    let _ = rustix::process::setpriority_process(None, AHEAD);
    let _ = std::fs::write("/proc/self/autogroup", AHEAD.to_string());
    // As systemd does for what it starts: sessions may raise their limit this far.
    let limit = Rlimit { current: Some(1024), maximum: Some(524_288) };
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    loop {
        match syscalls::fork_single_threaded() {
            Ok(Forked::Child) => return run(),
            Ok(Forked::Parent(pid)) => {
                let status = wait_for(pid);
                log::failure(&format!("the agent ended ({status}), starting another"));
            }
            Err(error) => log::failure(&format!("cannot start the agent: {error}")),
        }
        std::thread::sleep(RESPAWN_DELAY);
    }
}

fn wait_for(pid: rustix::process::Pid) -> ExitStatus {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return ExitStatus::from_raw(status.as_raw()),
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(_) => return ExitStatus::from_raw(0),
        }
    }
}

/// The agent itself.
fn run() -> ExitCode {
    let handed = handover::read();
    let milestones = Arc::new(Milestones::new(&handed.outcome));
    control::spawn(milestones.clone());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log::failure(&format!("cannot start the agent's runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let ssh = match &handed.seed {
            Some(seed) => start_ssh(seed, &milestones).await,
            None => None,
        };
        // In a bare initramfs the server runs, but there is nothing to reach.
        let is_reachable = ssh.is_some() && handed.outcome.end == End::System;
        if is_reachable {
            milestones.reachable();
        }
        end_head_start();
        if is_reachable {
            log::landmark("reachable");
        }
        milestones.reached_end_of_init();
        if handed.booted {
            milestones.booted();
        }
        tokio::spawn(milestones::watch_for_booted(milestones.clone()));
        tokio::spawn(milestones::watch_for_end(milestones.clone()));
        match (ssh, &handed.seed) {
            (Some(ssh), Some(seed)) if !seed.image_has_sshd && handed.outcome.end == End::System => {
                let port22 = async {
                    port22::run(&ssh, seed).await;
                    std::future::pending::<()>().await;
                };
                tokio::join!(ssh.serve(), port22);
            }
            (Some(ssh), _) => ssh.run().await,
            (None, _) => std::future::pending().await,
        }
    });
    ExitCode::SUCCESS
}

/// pid 1 waits for a word ([`switch::start_agent`](crate::init::switch::start_agent)). A second agent of this boot has
/// nobody to tell it to; and nobody reads what a program of ours might print later.
fn end_head_start() {
    let _ = rustix::io::write(rustix::stdio::stdout(), b"\n");
    if let Ok(nowhere) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nowhere);
    }
}

async fn start_ssh(seed: &Seed, milestones: &Milestones) -> Option<SshServer> {
    let port = u16::try_from(seed.agent_ssh_port).ok().filter(|port| *port != 0).unwrap_or(AGENT_SSH_PORT);
    match SshServer::bind((Ipv4Addr::UNSPECIFIED, port).into(), settings(seed), milestones.end().clone()).await {
        Ok(server) => Some(server),
        Err(error) => {
            let reason = crate::init::chain(&error);
            log::failure(&format!("ssh: {reason}"));
            milestones.failed("ssh", &reason);
            None
        }
    }
}

fn settings(seed: &Seed) -> Settings {
    let address = seed.network.as_ref().and_then(|network| network.address.parse::<IpAddr>().ok());
    Settings {
        host_key: seed.ssh_host_key.clone(),
        authorized_keys: seed.authorized_keys.clone(),
        environment: seed.environment.clone(),
        user: seed.user.clone(),
        working_directory: seed.working_directory.clone(),
        address,
    }
}

/// The SSH server alone, outside a VM: `serve SEED-FILE ADDRESS`. For tests; prints the bound address.
pub fn serve(arguments: &[OsString]) -> ExitCode {
    let (Some(seed), Some(address)) = (arguments.first(), arguments.get(1)) else { return ExitCode::from(2) };
    let seed = std::fs::read(Path::new(seed)).ok().and_then(|bytes| seed::parse(&bytes).ok());
    let address = address.to_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let (Some(seed), Some(address)) = (seed, address) else { return ExitCode::from(2) };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    runtime.block_on(async {
        match SshServer::bind(address, settings(&seed), Arc::new(Ending::default())).await {
            Ok(server) => {
                let _ = crate::say(&format!("{}\n", server.address()), ExitCode::SUCCESS);
                server.run().await;
                ExitCode::SUCCESS
            }
            Err(error) => crate::say(&format!("{}\n", crate::init::chain(&error)), ExitCode::FAILURE),
        }
    })
}
