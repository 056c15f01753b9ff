//! One run of the test host: an overlay, a QEMU, a way in. Dropped, or killed together with this program, it is gone.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bounded;
use crate::error::{Error, Result};
use crate::host::accelerator::Accelerator;
use crate::host::image::Image;
use crate::host::monitor;
use crate::host::reach::Reach;
use crate::layout::Layout;
use crate::scenario::User;
use crate::ui;

/// Emulated on a busy machine it takes a minute.
const UP_LIMIT: Duration = Duration::from_secs(300);
/// Before it is begun again: one emulated boot of some dozens stops early in the kernel for ever, and says nothing.
const UP_LIMITS_EMULATED: &[Duration] = &[Duration::from_secs(120), Duration::from_secs(180), UP_LIMIT];
const STEP_LIMIT: Duration = Duration::from_secs(120);
/// Busy with several guests it may take seconds. Who was cut off has heard nothing for 40 s by then ([`Reach`]).
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);
/// The clock of an emulated processor is the real one's and good, but the kernel finds it wanting and would ask an
/// emulated device. A tick that comes again heals an interrupt that got lost with a #VMEXIT, which otherwise leaves a
/// processor asleep for ever (docs/decisions/0004-smoke-host.md). What guests do not need of the emulated SVM is left
/// out, and nobody waits for a guest by spinning. One layout of the kernel for all boots, so that a dead host's registers
/// can be read ([`monitor`]).
const EMULATED: &str = " nokaslr tsc=reliable clocksource=tsc nohz=off highres=off \
     kvm_amd.nested=0 kvm_amd.vgif=0 kvm.halt_poll_ns=0 \
     hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=60 sysctl.kernel.hung_task_check_interval_secs=20";
/// Emulated, guests that move from one processor to the other die, and take the host along: of four made at once one did
/// each time, and none when they stay. `bench_peer` undoes it (`on_all_processors` of the scenarios' library).
const ON_ONE_PROCESSOR: &str = "mkdir -p /run/systemd/system/banger.slice.d && \
     printf '[Slice]\\nAllowedCPUs=1\\n' >/run/systemd/system/banger.slice.d/one-processor.conf && systemctl daemon-reload";
/// What each kernel begins with.
const FIRST_WORDS: &str = "] Linux version ";
/// The label of the payload's file system ([`crate::payload`]).
pub const PAYLOAD_LABEL: &str = "smoke-payload";
/// Where the host mounts it.
pub const PAYLOAD_MOUNT: &str = "/smoke";

/// A booted host.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    /// The way in.
    pub reach: Reach,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Power-on until sshd greets.
    pub until_ssh: Duration,
    /// Power-on until systemd has nothing left to start.
    pub until_running: Duration,
    console: PathBuf,
    log: PathBuf,
    /// How often it was to begin.
    boots: Cell<usize>,
}

impl Machine {
    /// Boots the image with the payload as a second, read-only disk; returns when systemd has started everything.
    pub fn boot(layout: &Layout, image: &Image, payload: &Path) -> Result<Self> {
        let accelerator = Accelerator::observe();
        let limits = match accelerator {
            Accelerator::Kvm => &[UP_LIMIT][..],
            Accelerator::Tcg => UP_LIMITS_EMULATED,
        };
        let console = layout.logs().join("console.log");
        within(
            limits,
            |limit| Self::start(layout, image, payload, (accelerator, limit)),
            |number, error| {
                ui::problem(error);
                ui::step("booting the test host again");
                let kept = layout.logs().join(format!("console-of-failed-boot-{number}.log"));
                let _ = std::fs::rename(&console, kept);
            },
        )
    }

    fn start(
        layout: &Layout,
        image: &Image,
        payload: &Path,
        (accelerator, limit): (Accelerator, Duration),
    ) -> Result<Self> {
        let overlay = layout.run("overlay.qcow2");
        let mut create = bounded::command("qemu-img", STEP_LIMIT);
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(image.file("disk.raw")).arg(&overlay);
        bounded::succeed("making the overlay", &mut create, &layout.logs().join("qemu.log"))?;

        let port = free_port()?;
        let console = layout.logs().join("console.log");
        let started = Instant::now();
        let reach = Reach::new(port, image)?;
        let mut command = qemu(accelerator, port, &console);
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", reach.monitor().display()));
        command.arg("-kernel").arg(image.file("vmlinuz")).arg("-initrd").arg(image.file("initrd"));
        disk(&mut command, &overlay, "format=qcow2,cache=unsafe");
        disk(&mut command, payload, "format=raw,readonly=on");
        let log_path = layout.logs().join("qemu.log");
        let log = File::options().append(true).open(&log_path).map_err(Error::file("write", &log_path))?;
        let errors = log.try_clone().map_err(Error::file("write", &log_path))?;
        let qemu = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let qemu = qemu.map_err(|source| Error::Start { program: "qemu-system-x86_64".to_owned(), source })?;
        let (none, boots) = (Duration::ZERO, Cell::new(1));
        let mut machine =
            Self { qemu, reach, accelerator, until_ssh: none, until_running: none, console, log: log_path, boots };

        machine.wait_for_ssh(started, limit)?;
        machine.until_ssh = started.elapsed();
        machine.wait_for_systemd(layout)?;
        machine.until_running = started.elapsed();
        Ok(machine)
    }

    /// Reboots it, from inside and in order; returns when systemd has started everything again.
    pub fn reboot(&self, layout: &Layout) -> Result<()> {
        let log = layout.logs().join("boot.log");
        self.boots.set(self.boots.get() + 1);
        // The answer may be lost with the connection.
        let mut ask = self.reach.command(User::Root, STEP_LIMIT, "systemctl reboot");
        let _ = bounded::run(&mut ask, &log)?;
        self.reach.close();
        let deadline = Instant::now() + UP_LIMIT;
        while greets(self.reach.port) {
            if Instant::now() > deadline {
                return Err(self.is_down("it does not go down for a reboot"));
            }
            std::thread::sleep(PAUSE);
        }
        while !greets(self.reach.port) {
            if Instant::now() > deadline {
                return Err(self.is_down("no sshd after a reboot"));
            }
            std::thread::sleep(PAUSE);
        }
        self.wait_for_systemd(layout)
    }

    /// The kernel panicked, or began anew without being told to: what a processor does that cannot go on.
    pub fn has_died(&self) -> bool {
        let said = std::fs::read(&self.console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        said.contains("Kernel panic - not syncing") || said.matches(FIRST_WORDS).count() > self.boots.get()
    }

    /// Its sshd says a word within a while. A host whose processors wait for each other for ever does not, and no panic
    /// tells of it.
    pub fn answers(&self) -> bool {
        let give_up = Instant::now() + ANSWER_LIMIT;
        loop {
            if greets(self.reach.port) {
                return true;
            }
            if Instant::now() > give_up || self.has_died() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Puts its last words, and where its processors are, where the next host's do not overwrite them, and ends it.
    pub fn keep_last_words(self, layout: &Layout, number: usize) -> Result<()> {
        let registers = layout.logs().join(format!("registers-of-dead-host-{number}.log"));
        let threads = monitor::threads(self.qemu.id());
        monitor::processors(&self.reach.monitor())
            .map(|text| format!("{threads}\n{text}\n{}", monitor::threads(self.qemu.id())))
            .and_then(|text| std::fs::write(&registers, text).map_err(Error::file("write", &registers)))
            .unwrap_or_else(|error| ui::problem(&error));
        let kept = layout.logs().join(format!("console-of-dead-host-{number}.log"));
        std::fs::rename(&self.console, &kept).map_err(Error::file("rename", &kept))
    }

    /// An error about this host, with the end of its console.
    pub fn is_down(&self, reason: impl Into<String>) -> Error {
        Error::HostIsDown { reason: reason.into(), console: bounded::end(&self.console) }
    }

    fn wait_for_ssh(&mut self, started: Instant, limit: Duration) -> Result<()> {
        while !greets(self.reach.port) {
            if let Ok(Some(status)) = self.qemu.try_wait() {
                let said = bounded::end(&self.log);
                return Err(self.is_down(format!("QEMU ended with {status}, saying\n{said}")));
            }
            if started.elapsed() > limit {
                return Err(self.is_down(format!("no sshd within {} s", limit.as_secs())));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn wait_for_systemd(&self, layout: &Layout) -> Result<()> {
        let on_one_processor = match self.accelerator {
            Accelerator::Kvm => String::new(),
            Accelerator::Tcg => format!(" && {ON_ONE_PROCESSOR}"),
        };
        // A degraded host is up; whether that is good enough is for the scenarios to say.
        let script = format!(
            "systemctl is-system-running --wait; mkdir -p {PAYLOAD_MOUNT} && mount -o ro -L {PAYLOAD_LABEL} {PAYLOAD_MOUNT}\
             {on_one_processor}"
        );
        let mut command = self.reach.command(User::Root, STEP_LIMIT, &script);
        bounded::succeed("preparing the test host", &mut command, &layout.logs().join("boot.log"))
            .map_err(|error| self.is_down(error.to_string()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.reach.close();
        // The disk is an overlay nobody reads again: nothing to shut down for.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Until one comes up; `failed` is told about each that did not, but for the last.
fn within<T, E>(
    limits: &[Duration],
    mut start: impl FnMut(Duration) -> std::result::Result<T, E>,
    mut failed: impl FnMut(usize, &E),
) -> std::result::Result<T, E> {
    let (last, others) = limits.split_last().map_or((&UP_LIMIT, &[][..]), |(last, others)| (last, others));
    for (number, limit) in (1..).zip(others) {
        match start(*limit) {
            Ok(up) => return Ok(up),
            Err(error) => failed(number, &error),
        }
    }
    start(*last)
}

fn qemu(accelerator: Accelerator, port: u16, console: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-M", "q35", "-smp", "2", "-m", "4096"]).args(accelerator.arguments());
    command.arg("-serial").arg(format!("file:{}", console.display()));
    // restrict: from inside nothing outside can be reached; only ssh comes in.
    command.args(["-netdev", &format!("user,id=uplink,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")]);
    command.args(["-device", "virtio-net-pci,netdev=uplink", "-device", "virtio-rng-pci"]);
    let emulated = match accelerator {
        Accelerator::Tcg => EMULATED,
        Accelerator::Kvm => "",
    };
    command.args(["-append", &format!("root=/dev/vda rw console=ttyS0 mitigations=off panic=1{emulated}")]);
    command
}

/// Disks appear in the host as /dev/vda, /dev/vdb, … in the order they are added.
fn disk(command: &mut Command, path: &Path, options: &str) {
    command.arg("-drive").arg(format!("file={},if=virtio,{options}", path.display()));
}

fn free_port() -> Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(probe.map_err(Error::file("find a free port on", "127.0.0.1"))?.port())
}

/// QEMU accepts connections before anybody inside listens: only a banner counts.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else { return false };
    let mut start = [0; 4];
    let read = stream.set_read_timeout(Some(Duration::from_secs(2))).and_then(|()| stream.read_exact(&mut start));
    read.is_ok() && &start == b"SSH-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_come_up_is_begun_again_and_the_last_error_counts() {
        for comes_up in 1..=4 {
            let (mut starts, mut told) = (Vec::new(), Vec::new());
            let outcome = within(
                UP_LIMITS_EMULATED,
                |limit| {
                    starts.push(limit.as_secs());
                    if starts.len() == comes_up { Ok(comes_up) } else { Err(starts.len()) }
                },
                |number, error| told.push((number, *error)),
            );
            assert_eq!(outcome, if comes_up <= 3 { Ok(comes_up) } else { Err(3) });
            assert_eq!(starts, [120, 180, 300][..comes_up.min(3)]);
            assert_eq!(told, [(1, 1), (2, 2)][..comes_up.min(3) - 1]);
        }
    }
}
