//! Who answers on port 22 of an image without an SSH server of its own: the agent at once, and, where the guest may
//! reach the outside, the distribution's OpenSSH as soon as it is installed.
//!
//! ```text
//! agent serves 22 ──(--nat)──▶ package manager installs sshd ──▶ agent lets go of 22 ──▶ sshd serves 22
//!                                   │ fails                            │ does not answer
//!                                   └──────────▶ told; the agent goes on serving ◀┘
//! ```
//! It happens at the first boot; later ones find sshd there. Sessions that are open stay open. The agent's own port is
//! never given away.

pub mod packages;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use banger_proto::guest::v1::Seed;
use banger_proto::guest_contract::IMAGE_SSH_PORT;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::packages::Manager;
use crate::control::power_off::{FirstProcess, first_process};
use crate::log;
use crate::seed::ssh;
use crate::ssh_server::{DEFAULT_PATH, SshServer};
use crate::syscalls::{self, Terminal};
use crate::tree::{Links, Tree};

/// A slow mirror, and a machine without hardware virtualisation.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);
/// A system that does not say that it is booted is used all the same.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(250);
const RESPAWN_DELAY: Duration = Duration::from_secs(1);
const SERVERS: [&str; 2] = ["/usr/sbin/sshd", "/usr/bin/sshd"];
/// As distributions call the unit.
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];
/// What OpenSSH says first; the agent says something else.
const GREETING: &[u8] = b"SSH-2.0-OpenSSH";
/// Said again on the command line: an image without sshd_config.d has no other place for it.
const OPTIONS: [&str; 5] = [
    "HostKey=/etc/ssh/ssh_host_ed25519_key",
    "PermitRootLogin=prohibit-password",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "PubkeyAuthentication=yes",
];

/// Why port 22 stays the agent's.
#[derive(Debug, thiserror::Error)]
enum HandOverError {
    /// Nobody to ask for it.
    #[error("the image has no package manager that could install an SSH server")]
    NoManager,
    /// It did not work.
    #[error("{program} cannot install an SSH server: {reason}")]
    Install { program: &'static str, reason: String },
    /// It was installed, but not where one looks.
    #[error("{program} installed no sshd")]
    NoServer { program: &'static str },
    /// Its files.
    #[error("cannot configure the SSH server")]
    Configure { source: io::Error },
    /// It could not be started.
    #[error("cannot start the SSH server")]
    Start { source: io::Error },
    /// It runs, or should.
    #[error("the SSH server does not answer on port 22")]
    Silent,
}

/// Serves port 22 for ever, by whom there is. `agent` is the agent's server.
pub async fn run(agent: &SshServer, seed: &Seed) {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, IMAGE_SSH_PORT));
    let serve = async || match agent.beside(address).await {
        Ok(server) => Some(tokio::spawn(server.run())),
        Err(error) => {
            log::note(&crate::init::chain(&error));
            None
        }
    };
    let mut serving = serve().await;
    if !seed.nat {
        return;
    }
    if let Err(error) = hand_over(seed, &mut serving).await {
        log::failure(&format!("port 22: {}", crate::init::chain(&error)));
        if serving.is_none() {
            serve().await;
        }
    }
}

async fn hand_over(seed: &Seed, serving: &mut Option<JoinHandle<()>>) -> Result<(), HandOverError> {
    until_booted().await;
    let server = match server() {
        Some(server) => server,
        None => install(seed).await?,
    };
    Tree::open(Path::new("/"), Links::InRoot)
        .and_then(|root| {
            // Debian's needs it and makes it only in its own unit.
            root.ensure_directory("run/sshd", 0o755)?;
            ssh::write_server(&root, &seed.ssh_host_key)
        })
        .map_err(|source| HandOverError::Configure { source })?;
    if let Some(serving) = serving.take() {
        serving.abort();
        // Only then is its socket closed.
        let _ = serving.await;
    }
    let started = start(&server).await.map_err(|source| HandOverError::Start { source })?;
    if !answers().await {
        if let Some(mut child) = started {
            let _ = child.kill().await;
        }
        return Err(HandOverError::Silent);
    }
    log::landmark("port 22 is served by the image's sshd");
    if let Some(child) = started {
        keep(child, &server).await;
    }
    Ok(())
}

/// Packages of a system that is still starting would be started before what they need.
async fn until_booted() {
    let booted = async {
        while matches!(first_process(), FirstProcess::Starting)
            || (is_systemd() && !crate::init::handover::read().booted)
        {
            sleep(POLL).await;
        }
    };
    let _ = timeout(BOOT_LIMIT, booted).await;
}

fn is_systemd() -> bool {
    first_process() == FirstProcess::Systemd
}

fn server() -> Option<PathBuf> {
    SERVERS.iter().map(PathBuf::from).find(|path| path.is_file())
}

async fn install(seed: &Seed) -> Result<PathBuf, HandOverError> {
    let os_release =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let exists = |program: &str| DEFAULT_PATH.split(':').any(|directory| Path::new(directory).join(program).is_file());
    let manager = packages::choose(&os_release.unwrap_or_default(), exists).ok_or(HandOverError::NoManager)?;
    log::landmark(&format!("installing an SSH server with {}", manager.program));
    let failed = |reason: String| HandOverError::Install { program: manager.program, reason };
    for call in manager.calls {
        let output = timeout(INSTALL_LIMIT, run_manager(manager, call, seed)).await;
        let output = output.map_err(|_| failed(format!("it took more than {} s", INSTALL_LIMIT.as_secs())))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(format!("{}: {}", output.status, last_line(&output))));
        }
    }
    server().ok_or(HandOverError::NoServer { program: manager.program })
}

async fn run_manager(manager: Manager, call: &[&str], seed: &Seed) -> io::Result<Output> {
    let mut command = Command::new(manager.program);
    command.args(call).stdin(Stdio::null()).current_dir("/").kill_on_drop(true).env_clear();
    command.env("PATH", DEFAULT_PATH).env("HOME", "/root").env("LC_ALL", "C.UTF-8");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Proxies and mirrors may be set there.
    command.envs(seed.environment.iter().filter_map(|line| line.split_once('=')).filter(|(name, _)| *name != "PATH"));
    // Neither spared when memory runs out nor ahead of others, as the agent is.
    syscalls::in_new_session(command.as_std_mut(), Terminal::Absent, None);
    command.output().await
}

fn last_line(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let line = said.iter().find_map(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    line.unwrap_or("it said nothing").trim().to_owned()
}

/// A process of ours to look after, unless systemd does.
async fn start(server: &Path) -> io::Result<Option<Child>> {
    if !is_systemd() {
        return spawn(server).map(Some);
    }
    for unit in UNITS {
        // Whether it is told to start at the next boot is decided by its package, too; twice does no harm.
        for verb in ["enable", "restart"] {
            let status = Command::new("systemctl").args(["--quiet", verb, unit]).stdin(Stdio::null()).output().await?;
            if verb == "restart" && status.status.success() {
                return Ok(None);
            }
        }
    }
    Err(io::Error::other(format!("systemd starts none of {}", UNITS.join(", "))))
}

fn spawn(server: &Path) -> io::Result<Child> {
    let mut command = Command::new(server);
    command.args(["-D", "-e"]).args(OPTIONS.iter().flat_map(|option| ["-o", option]));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").kill_on_drop(true);
    // What its sessions inherit is not to be the agent's.
    syscalls::in_new_session(command.as_std_mut(), Terminal::Absent, None);
    command.spawn()
}

/// sshd of an image without an init has nobody else to start it again.
async fn keep(mut child: Child, server: &Path) {
    loop {
        let ended = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        log::failure(&format!("port 22: sshd ended ({ended}), starting another"));
        sleep(RESPAWN_DELAY).await;
        child = loop {
            match spawn(server) {
                Ok(child) => break child,
                Err(error) => log::failure(&format!("port 22: cannot start sshd: {error}")),
            }
            sleep(RESPAWN_DELAY).await;
        };
    }
}

async fn answers() -> bool {
    let greeted = async {
        while !greets().await {
            sleep(POLL).await;
        }
    };
    timeout(ANSWER_LIMIT, greeted).await.is_ok()
}

async fn greets() -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, IMAGE_SSH_PORT)).await else { return false };
    let mut greeting = vec![0; GREETING.len()];
    matches!(timeout(ANSWER_LIMIT, stream.read_exact(&mut greeting)).await, Ok(Ok(_))) && greeting == GREETING
}
