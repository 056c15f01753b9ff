//! Boots one VM through the rootless platform, without store, API or CLI, and prints when what happened.
//!
//! A tool for people who work on the platform or the guest:
//! `BANGER_GUEST_BINARY=… cargo run --release -p bangerd --example boot -- KERNEL_DIRECTORY ROOTFS`

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use banger_proto::frame::{FrameBuffer, frame};
use banger_proto::guest::v1::guest_frame::Body;
use banger_proto::guest::v1::host_frame::Request;
use banger_proto::guest::v1::{GuestFrame, Hello, HostFrame, MilestoneKind, Seed, SyncAndPowerOff};
use banger_proto::guest_contract::{AGENT_SSH_PORT, CONTROL_FRAME_LIMIT};
use bangerd::paths::Paths;
use bangerd::platform::qemu::QemuPlatform;
use bangerd::platform::{Platform, VmPlan};
use bangerd::reporter::Reporter;
use clap::Parser;
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// How long a boot may take.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Parser)]
struct Arguments {
    /// Has vmlinux, modules.cpio and modules.ext4
    kernel_directory: PathBuf,
    /// The image
    rootfs: PathBuf,
    /// The image's init; without it banger-guest stays PID 1
    #[arg(long, default_value = "")]
    init: String,
    /// Let the guest out
    #[arg(long)]
    nat: bool,
    /// One-line OpenSSH public key that may log in; without it nobody can
    #[arg(long)]
    authorized_key: Option<String>,
    /// Appended to the kernel's command line; may be repeated
    #[arg(long, allow_hyphen_values = true)]
    kernel_argument: Vec<String>,
    /// Wait for a line on standard input before powering off
    #[arg(long)]
    hold: bool,
}

struct Clock(Instant);

impl Clock {
    fn say(&self, what: &str) {
        // A closed pipe is no reason to leave a VM behind.
        let _ = writeln!(std::io::stdout(), "{:8.3} {what}", self.0.elapsed().as_secs_f64());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let scratch = tempfile::Builder::new().prefix("bb").tempdir_in("/tmp")?;
    let at = |name: &str| scratch.path().join(name);
    let paths = Paths { runtime: at("r"), state: at("s"), cache: at("c"), config: at("g") };
    paths.ensure()?;
    let platform = QemuPlatform::open(&paths)?;
    let plan = plan(&arguments, &paths)?;
    let clock = Clock(Instant::now());
    clock.say(&format!("{} in {}", platform.vmm_name(), scratch.path().display()));
    let booted = boot(&platform, &plan, &arguments, &clock).await;
    if booted.is_err() {
        let console = std::fs::read_to_string(plan.directory.join("console.log")).unwrap_or_default();
        clock.say(&format!("console:\n{console}"));
    }
    for error in platform.teardown(&plan).await {
        clock.say(&format!("left behind: {error}"));
    }
    clock.say("torn down");
    booted
}

fn plan(arguments: &Arguments, paths: &Paths) -> Result<VmPlan, Box<dyn Error>> {
    let id = format!("{:032x}", SystemTime::UNIX_EPOCH.elapsed()?.as_nanos()).parse()?;
    let kernel = |name: &str| arguments.kernel_directory.join(name);
    Ok(VmPlan {
        name: "boot".parse()?,
        vcpu_count: 2,
        memory_mib: 1024,
        work_disk_mib: 4096,
        nat: arguments.nat,
        address: None,
        published_ports: Vec::new(),
        rootfs: arguments.rootfs.clone(),
        image_has_sshd: false,
        vmlinux: kernel("vmlinux"),
        modules_cpio: kernel("modules.cpio"),
        modules_ext4: kernel("modules.ext4"),
        kernel_arguments: arguments.kernel_argument.clone(),
        directory: paths.vm(&id),
        runtime_directory: paths.vm_runtime(&id),
        id,
    })
}

fn seed(platform: &dyn Platform, plan: &VmPlan, arguments: &Arguments) -> Result<Seed, Box<dyn Error>> {
    let host_key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
    let nobodys = || PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?.public_key().to_openssh();
    let authorized_key = arguments.authorized_key.clone().map_or_else(nobodys, Ok)?;
    let machine = platform.guest_machine(plan);
    Ok(Seed {
        version: 1,
        vm_id: plan.id.as_str().into(),
        hostname: plan.name.as_str().into(),
        network: Some(machine.network),
        authorized_keys: vec![authorized_key],
        ssh_host_key: host_key.to_openssh(LineEnding::LF)?.to_string(),
        unix_time_ms: u64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?,
        root_disk_serial: machine.disks.root.into(),
        work_disk_serial: machine.disks.work.into(),
        modules_disk_serial: machine.disks.modules.into(),
        agent_ssh_port: AGENT_SSH_PORT.into(),
        init_path: arguments.init.clone(),
        ..Seed::default()
    })
}

async fn boot(
    platform: &dyn Platform,
    plan: &VmPlan,
    arguments: &Arguments,
    clock: &Clock,
) -> Result<(), Box<dyn Error>> {
    let reporter = Reporter::silent("boot");
    platform.provision(plan, &reporter).await?;
    clock.say("provisioned");
    let running = platform.launch(plan, &seed(platform, plan, arguments)?, &reporter).await?;
    clock.say(&format!("launched, pid {}, agent at {}", running.process.pid, running.agent_address));
    let mut control = Control { stream: platform.connect_control(plan).await?, frames: FrameBuffer::default() };
    tokio::time::timeout(PATIENCE, control.boot(arguments, running.agent_address, clock)).await??;
    if arguments.hold {
        clock.say("press enter to power off");
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    }
    control.send(Request::SyncAndPowerOff(SyncAndPowerOff {})).await?;
    tokio::time::timeout(PATIENCE, platform.wait_gone(&running.process)).await?;
    clock.say("powered off");
    Ok(())
}

struct Control {
    stream: UnixStream,
    frames: FrameBuffer,
}

impl Control {
    /// Until the last milestone this image can reach.
    async fn boot(&mut self, arguments: &Arguments, agent: SocketAddr, clock: &Clock) -> Result<(), Box<dyn Error>> {
        // What was pushed before the host connected is lost; this asks for it again.
        self.send(Request::Hello(Hello {})).await?;
        let mut greeted = false;
        loop {
            let Some(Body::Milestone(milestone)) = self.next().await?.body else { continue };
            let uptime = milestone.uptime_ms;
            clock.say(&format!("{} at guest uptime {uptime} ms", milestone.kind().as_str_name()));
            for warning in &milestone.warnings {
                clock.say(&format!("guest warns: {warning}"));
            }
            if milestone.kind() == MilestoneKind::Failed {
                return Err(format!("{}: {}", milestone.stage, milestone.reason).into());
            }
            if !greeted {
                greeted = true;
                clock.say(&format!("agent says {:?}", greeting(agent).await?));
            }
            if arguments.init.is_empty() || milestone.kind() == MilestoneKind::Booted {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, request: Request) -> Result<(), Box<dyn Error>> {
        let bytes = frame(&HostFrame { request_id: 1, request: Some(request) });
        Ok(self.stream.write_all(&bytes).await?)
    }

    async fn next(&mut self) -> Result<GuestFrame, Box<dyn Error>> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(message) = self.frames.next(CONTROL_FRAME_LIMIT)? {
                return Ok(message);
            }
            match self.stream.read(&mut bytes).await? {
                0 => return Err("the control channel was closed".into()),
                count => self.frames.extend(&bytes[..count]),
            }
        }
    }
}

/// The first line of the agent's SSH server, through the port forward.
async fn greeting(agent: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(agent).await?;
    let mut line = [0; 64];
    let count = stream.read(&mut line).await?;
    Ok(String::from_utf8_lossy(&line[..count]).trim_end().to_owned())
}
