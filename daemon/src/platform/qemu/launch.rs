//! Starts a VMM and waits until its monitor answers.
//!
//! Until [`Starting::finish`] the process is ours to end: any failure, and a caller that stops waiting,
//! kills it. After that it belongs to nobody here; only a task stays behind to reap it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::guest_contract::{AGENT_SSH_PORT, IMAGE_SSH_PORT};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Accel;
use super::arguments::{self, Files};
use super::qmp::{self, QmpError};
use super::tools::Qemu;
use super::usernet::{self, Forward};
use crate::platform::{PlatformError, ProcessIdentity, Running, VmPlan, error, process, programs, syscalls};

/// QEMU needs a few hundred milliseconds; a loaded machine gets the benefit of the doubt.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// A VMM that was found running has its monitor open, unless it was found in the middle of its start.
const INSPECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long SIGKILL may take; longer only if the process hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to reach the monitor of a VMM that starts.
const MONITOR_INTERVAL: Duration = Duration::from_millis(3);

/// What starting needs besides the plan.
pub struct Launcher<'a> {
    /// The program.
    pub qemu: &'a Qemu,
    /// How it executes.
    pub accel: Accel,
    /// This boot of the host.
    pub host_boot_id: &'a str,
}

impl Launcher<'_> {
    /// Starts the VMM; its initrd and directories are there.
    ///
    /// # Errors
    /// A busy port, a cancelled operation, or an end with QEMU's last words. No process is left.
    pub async fn launch(&self, plan: &VmPlan, cancel: &CancellationToken) -> Result<Running, PlatformError> {
        let files = Files::of(plan);
        let arguments = arguments::render(plan, self.accel, self.qemu.sandbox)
            .map_err(|source| error::classified(format!("cannot start {}", plan.name), source))?;
        ensure_free(plan)?;
        keep_previous(&files)?;
        let mut starting = self.spawn(plan, &files, &arguments)?;
        let ready = starting.ready(plan, &files, cancel).await;
        match ready {
            Ok(running) => {
                starting.finish();
                Ok(running)
            }
            Err(error) => {
                starting.abort(self.host_boot_id).await;
                Err(error)
            }
        }
    }

    fn spawn(&self, plan: &VmPlan, files: &Files, arguments: &[String]) -> Result<Starting, PlatformError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| error::on_path("cannot write", &path, source)
        };
        let log = File::options().write(true).create(true).truncate(true).mode(0o600).open(&files.log);
        let log = log.map_err(io(&files.log))?;
        let mut command = std::process::Command::new(&self.qemu.path);
        command
            .args(arguments)
            .env_clear()
            .envs(programs::environment())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(io(&files.log))?)
            .stderr(log);
        syscalls::detach(&mut command);
        let mut child = tokio::process::Command::from(command)
            .spawn()
            .map_err(|source| error::on_path("cannot run", &self.qemu.path, source))?;
        // Nobody has reaped it yet, so the pid is its own even if it is dead already.
        let process = child.id().and_then(|pid| process::identify(pid, self.host_boot_id));
        let pidfd = match &process {
            Some(process) => process::open(process, self.host_boot_id).unwrap_or_default(),
            None => None,
        };
        let (ended, end) = oneshot::channel();
        let name = plan.name.clone();
        tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                tracing::info!(vm = %name, %status, "the VMM ended");
                // Nobody listens once the start is over.
                let _ = ended.send(status);
            }
        });
        Ok(Starting { process, pidfd, end })
    }
}

/// A VMM between its first instruction and its first answer.
struct Starting {
    process: Option<ProcessIdentity>,
    pidfd: Option<OwnedFd>,
    end: oneshot::Receiver<ExitStatus>,
}

impl Starting {
    async fn ready(
        &mut self,
        plan: &VmPlan,
        files: &Files,
        cancel: &CancellationToken,
    ) -> Result<Running, PlatformError> {
        let Some(process) = self.process.clone() else {
            return Err(ended_early(plan, files, (&mut self.end).await.ok()));
        };
        let asked = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(error::plain(Kind::Cancelled, format!("starting {} was cancelled", plan.name)));
            }
            status = &mut self.end => return Err(ended_early(plan, files, status.ok())),
            asked = ask_forwards(&files.monitor_socket, START_PATIENCE, || true) => asked,
        };
        match asked {
            Ok(forwards) => running(plan, process, &forwards),
            // The monitor breaks off when the VMM ends; the log then says more than the socket.
            Err(broken) => match tokio::time::timeout(Duration::from_millis(500), &mut self.end).await {
                Ok(status) => Err(ended_early(plan, files, status.ok())),
                Err(_) => Err(error::plain(Kind::Failed, format!("cannot start {}", plan.name)).because(broken)),
            },
        }
    }

    fn finish(mut self) {
        self.pidfd = None;
    }

    async fn abort(mut self, host_boot_id: &str) {
        let (Some(pidfd), Some(process)) = (self.pidfd.take(), &self.process) else { return };
        if let Err(error) = end(&pidfd, process, host_boot_id).await {
            tracing::warn!(pid = process.pid, error = %error.attempt, "a VMM that failed to start is left");
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd
            && let Err(error) = process::kill(pidfd)
        {
            tracing::warn!(%error, "a VMM nobody waits for is left");
        }
    }
}

/// Ends a process and waits for it.
async fn end(pidfd: &OwnedFd, process: &ProcessIdentity, host_boot_id: &str) -> Result<(), PlatformError> {
    let pid = process.pid;
    process::kill(pidfd)
        .map_err(|source| error::plain(Kind::Failed, format!("cannot kill the VMM, pid {pid}")).because(source))?;
    tokio::time::timeout(KILL_PATIENCE, process::wait_gone(process, host_boot_id)).await.map_err(|_| {
        let attempt = format!("the VMM, pid {pid}, did not end within {} s of SIGKILL", KILL_PATIENCE.as_secs());
        error::plain(Kind::Failed, attempt).hint(format!("See what it waits for with `cat /proc/{pid}/stack`."))
    })
}

/// Ends a process if it still is the one that is meant.
///
/// # Errors
/// If it cannot be killed or does not end.
pub async fn end_process(process: &ProcessIdentity, host_boot_id: &str) -> Result<(), PlatformError> {
    let opened = process::open(process, host_boot_id);
    match opened {
        Ok(Some(pidfd)) => end(&pidfd, process, host_boot_id).await,
        Ok(None) => Ok(()),
        Err(source) => {
            Err(error::plain(Kind::Failed, format!("cannot open a pidfd of the VMM, pid {}", process.pid))
                .because(source))
        }
    }
}

/// The facts about a VMM that was found running; None if it ended meanwhile.
///
/// # Errors
/// If its monitor does not answer although it lives.
pub async fn adopt(
    plan: &VmPlan,
    process: ProcessIdentity,
    host_boot_id: &str,
) -> Result<Option<Running>, PlatformError> {
    let alive = || process::is_alive(&process, host_boot_id);
    match ask_forwards(&Files::of(plan).monitor_socket, INSPECT_PATIENCE, alive).await {
        Ok(forwards) => running(plan, process, &forwards).map(Some),
        Err(_) if !alive() => Ok(None),
        Err(source) => Err(error::plain(Kind::Failed, format!("cannot ask the VMM of {} for its ports", plan.name))
            .because(source)
            .hint(format!("Start over with `banger vm stop --force {}`.", plan.name))),
    }
}

/// Asks until somebody listens, at most `patience` long and while `alive`.
async fn ask_forwards(monitor: &Path, patience: Duration, alive: impl Fn() -> bool) -> Result<Vec<Forward>, QmpError> {
    let deadline = Instant::now() + patience;
    loop {
        match qmp::ask(monitor, "info usernet").await {
            Ok(text) => return Ok(usernet::parse(&text)),
            Err(error) if error.nobody_listens() && Instant::now() < deadline && alive() => {
                tokio::time::sleep(MONITOR_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn running(plan: &VmPlan, process: ProcessIdentity, forwards: &[Forward]) -> Result<Running, PlatformError> {
    let address = |guest_port| {
        usernet::chosen_port(forwards, guest_port, &plan.published_ports)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .ok_or_else(|| {
                let attempt = format!("QEMU does not forward a port to port {guest_port} of {}", plan.name);
                error::plain(Kind::Failed, attempt)
            })
    };
    Ok(Running {
        process,
        agent_address: address(AGENT_SSH_PORT)?,
        ssh_address: plan.image_has_sshd.then(|| address(IMAGE_SSH_PORT)).transpose()?,
    })
}

/// Binds each published port for a moment, to name the busy one before anything is started.
fn ensure_free(plan: &VmPlan) -> Result<(), PlatformError> {
    for (port, _) in &plan.published_ports {
        if let Err(source) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) {
            return Err(unusable_port(*port, source.kind()).because(source));
        }
    }
    Ok(())
}

fn unusable_port(port: u16, why: std::io::ErrorKind) -> PlatformError {
    if why == std::io::ErrorKind::PermissionDenied {
        return error::plain(Kind::HostNotReady, format!("cannot publish port {port} of 127.0.0.1"))
            .hint(format!("Choose a port from 1024 up, e.g. `--publish {}:PORT`.", 8000 + u32::from(port)));
    }
    error::plain(Kind::Conflict, format!("cannot publish port {port} of 127.0.0.1, it is in use"))
        .hint(format!("See who uses it with `ss -ltnp 'sport = :{port}'`, or publish another port."))
}

/// The log of a failed start may be the only trace of it, so one earlier console is kept.
fn keep_previous(files: &Files) -> Result<(), PlatformError> {
    match std::fs::rename(&files.console, &files.previous_console) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(error::on_path("cannot rename", &files.console, source))
        }
        _ => Ok(()),
    }
}

fn ended_early(plan: &VmPlan, files: &Files, status: Option<ExitStatus>) -> PlatformError {
    let log = std::fs::read(&files.log).unwrap_or_default();
    // Somebody took the port between our look and QEMU's.
    if let Some(port) = refused_forward(&String::from_utf8_lossy(&log)) {
        return unusable_port(port, std::io::ErrorKind::AddrInUse);
    }
    let said = programs::last_lines(&log);
    let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
    let cause = if said.is_empty() { format!("it said nothing ({status})") } else { format!("{said} ({status})") };
    error::plain(Kind::Failed, format!("the VMM of {} ended while it started", plan.name))
        .because(cause)
        .hint(format!("Read the guest's last words with `banger vm logs {}`.", plan.name))
}

/// "Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'" → 8080.
fn refused_forward(log: &str) -> Option<u16> {
    let rule = log.split_once("Could not set up host forwarding rule 'tcp:127.0.0.1:")?.1;
    rule.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_qemu_could_not_take_is_read_from_its_log() {
        let log = "qemu-system-x86_64: -netdev user,id=net,hostfwd=tcp:127.0.0.1:0-:4022: \
                   Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'\n";
        assert_eq!(refused_forward(log), Some(8080));
        assert_eq!(refused_forward("qemu-system-x86_64: Could not open '/x'"), None);
    }

    #[test]
    fn privileged_and_busy_ports_have_different_ways_out() {
        let privileged = unusable_port(80, std::io::ErrorKind::PermissionDenied);
        assert_eq!(privileged.kind, Kind::HostNotReady);
        assert!(privileged.hints[0].contains("8080"));
        let busy = unusable_port(8080, std::io::ErrorKind::AddrInUse);
        assert_eq!(busy.kind, Kind::Conflict);
        assert!(busy.attempt.contains("8080") && busy.hints[0].contains("`ss "));
    }
}
