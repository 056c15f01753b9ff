//! Ending the machine, which one VMM calls power-off and the other reboot: politely by the init that runs it, by force if that takes too long.
//!
//! Filesystems are synced before anything else happens, so even the forced end loses nothing that
//! was written before the request.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::system::reboot;

use crate::agent::ending::{Ending, SESSIONS_END_WITHIN};
use crate::machine::Machine;
use crate::{log, syscalls};

/// How long an init may take. The host has a limit of its own and kills the machine after it.
const INIT_LIMIT: Duration = Duration::from_secs(30);
/// How long processes may take to end where banger-guest is the init.
const PROCESS_LIMIT: Duration = Duration::from_secs(3);

/// What the kernel calls /init of the initramfs once that is no longer anybody's root.
const INITRAMFS_PROGRAM: [&str; 3] = ["/init", "/init (deleted)", "(unreachable)/init"];
/// Made when systemd has begun to listen; before, it has started nothing and hears nothing.
const SYSTEMD_SERVES: &str = "/run/systemd/private";

/// Which program is pid 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstProcess {
    /// systemd.
    Systemd,
    /// banger-guest, as the image has no init.
    Ourselves,
    /// busybox, OpenRC, sysvinit or something else.
    Other,
    /// Still the initramfs' banger-guest, about to become one of the others.
    Starting,
}

/// Looks at /proc/1.
pub fn first_process() -> FirstProcess {
    let name = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let line = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let program = std::fs::read_link("/proc/1/exe").unwrap_or_default();
    if name.trim() == "systemd" || program.ends_with("systemd") {
        FirstProcess::Systemd
    } else if line.split(|byte| *byte == 0).nth(1) == Some(b"stay".as_slice()) {
        FirstProcess::Ourselves
    } else if INITRAMFS_PROGRAM.iter().any(|path| program == Path::new(path)) {
        FirstProcess::Starting
    } else {
        FirstProcess::Other
    }
}

/// How this agent ends the machine.
#[derive(Debug, Clone)]
pub struct PowerOff {
    perform: fn(&Ending),
}

impl PowerOff {
    /// The real thing.
    pub fn of_this_machine() -> Self {
        Self { perform: end_machine }
    }

    /// Something else instead, for a test.
    pub fn instead(perform: fn(&Ending)) -> Self {
        Self { perform }
    }

    /// Begins, on another thread: the control channel goes on answering meanwhile. Sessions end first.
    pub fn start(&self, end: &Arc<Ending>) {
        let perform = self.perform;
        let theirs = end.clone();
        if std::thread::Builder::new().name("power-off".into()).spawn(move || perform(&theirs)).is_err() {
            perform(end);
        }
    }
}

fn end_machine(end: &Ending) {
    end.begin();
    end.wait_for_sessions(SESSIONS_END_WITHIN);
    let machine = Machine::observe();
    let deadline = Instant::now() + INIT_LIMIT;
    let mut pause = Duration::from_millis(200);
    let mut asked_other = false;
    // Normally the machine is off before this ends. It asks again because an init that is only starting
    // ignores signals.
    while Instant::now() < deadline {
        match first_process() {
            FirstProcess::Systemd if !Path::new(SYSTEMD_SERVES).exists() => break,
            FirstProcess::Ourselves => break,
            FirstProcess::Systemd => note(syscalls::kill(1, systemd_signal(machine))),
            FirstProcess::Other if !asked_other => {
                note(ask_other_init(machine));
                asked_other = true;
            }
            FirstProcess::Other | FirstProcess::Starting => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    end_processes();
    force(machine);
}

fn systemd_signal(machine: Machine) -> i32 {
    match machine {
        Machine::Qemu => syscalls::systemd_power_off_signal(),
        Machine::Firecracker => syscalls::systemd_reboot_signal(),
    }
}

fn note(asked: std::io::Result<()>) {
    if let Err(error) = asked {
        log::failure(&format!("cannot ask the init to end the machine: {error}"));
    }
}

/// busybox' init powers off at SIGUSR2 and reboots at SIGTERM; sysvinit reads a pipe, which its own tools know to write.
fn ask_other_init(machine: Machine) -> std::io::Result<()> {
    let is_busybox = std::fs::read_link("/proc/1/exe").is_ok_and(|exe| exe.ends_with("busybox"));
    let (program, signal) = match machine {
        Machine::Qemu => ("poweroff", libc::SIGUSR2),
        Machine::Firecracker => ("reboot", libc::SIGTERM),
    };
    let places = ["/sbin", "/usr/sbin", "/bin"].map(|directory| Path::new(directory).join(program));
    match places.into_iter().find(|tool| tool.exists()) {
        Some(tool) if !is_busybox => std::process::Command::new(tool).status().map(drop),
        _ => syscalls::kill(1, signal),
    }
}

fn end_processes() {
    let _ = syscalls::kill(-1, libc::SIGTERM);
    let _ = syscalls::kill(-1, libc::SIGCONT);
    let deadline = Instant::now() + PROCESS_LIMIT;
    while Instant::now() < deadline && others_are_running() {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Our own supervisor goes too, so that nothing starts another agent.
    let _ = syscalls::kill(-1, libc::SIGKILL);
}

/// True while a process other than pid 1, the agent and its supervisor has a command line.
fn others_are_running() -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok_and(|pid| pid > 1));
        is_process && !line.is_empty() && !line.starts_with(b"@")
    })
}

fn force(machine: Machine) {
    rustix::fs::sync();
    // Read-only by way of the kernel's emergency remount: whatever still writes must stop first.
    let _ = std::fs::write("/proc/sysrq-trigger", "u");
    std::thread::sleep(Duration::from_millis(100));
    if let Err(error) = reboot(machine.end_command()) {
        log::failure(&format!("cannot end the machine: {error}"));
    }
}
