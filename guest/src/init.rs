//! pid 1 of the initramfs: from the kernel's hand to the image's init, in one pass.
//!
//! ```text
//! mounts ─ seed ─ clock ─ modules ─┬─ disks ─ seed into the root ─┬─ agent ─ switch ─ exec init
//!                                  └─ network (a thread)          ┘
//! ```
//!
//! pid 1 never panics and never exits. A stage without which there is no system ends in
//! [`stay`], with an agent that tells the host why; any other failure is told and booting goes on.

pub mod disks;
pub mod handover;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod stay;
pub mod switch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use banger_proto::guest::v1::Seed;
use banger_proto::guest_contract::{INITRD_MODULES, INITRD_MODULES_ORDER, INITRD_MODULES_ORDER_FIRECRACKER, SEED_PATH};
use rustix::time::{ClockId, clock_gettime};

use self::handover::{End, Outcome};
use crate::agent::milestones;
use crate::machine::Machine;
use crate::seed::InvalidSeed;
use crate::tree::{Links, Tree};
use crate::{control, log, seed};

/// Where the image's root is mounted until the switch.
pub const NEW_ROOT: &str = "/newroot";

/// Why there is no system to boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel's filesystems.
    #[error("cannot mount {what} on {target}")]
    Mount {
        /// Source or type.
        what: String,
        /// Mount point.
        target: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The seed cannot be read.
    #[error("cannot read the seed {path}")]
    ReadSeed {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The seed is not valid.
    #[error("cannot use the seed")]
    Seed {
        /// Why.
        source: InvalidSeed,
    },
    /// A disk did not appear.
    #[error("no disk with serial '{serial}' appeared within {seconds} s")]
    NoDisk {
        /// Its virtio-blk serial.
        serial: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A directory of the new root cannot be made.
    #[error("cannot prepare {path} in the image")]
    Prepare {
        /// In the new root.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The change of root failed.
    #[error("cannot {step} for the change of root")]
    Switch {
        /// Which step.
        step: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl BootError {
    /// The stage's name in the milestone.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount",
            Self::ReadSeed { .. } | Self::Seed { .. } => "seed",
            Self::NoDisk { .. } => "disks",
            Self::Prepare { .. } => "prepare",
            Self::Switch { .. } => "switch-root",
        }
    }
}

/// The error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Boots. Returns only if even staying alive is impossible.
pub fn run() -> ExitCode {
    let mut outcome = Outcome::default();
    let mut seed = None;
    if let Err(error) = boot(&mut outcome, &mut seed) {
        let reason = chain(&error);
        log::failure(&format!("{}: {reason}", error.stage()));
        outcome.failure = Some((error.stage().to_owned(), reason));
        outcome.end = End::Nothing;
        handover::leave(Path::new("/"), seed.as_ref(), &outcome);
        switch::start_agent(Path::new("/proc/self/exe"));
    }
    stay::exec()
}

/// Ends in the image's init; returning without an error means that there is none.
fn boot(outcome: &mut Outcome, kept: &mut Option<Seed>) -> Result<(), BootError> {
    mounts::mount_kernel_filesystems()?;
    let bytes = std::fs::read(SEED_PATH).map_err(|source| BootError::ReadSeed { path: SEED_PATH.into(), source });
    // Modules come first: without them not even the failure can be told.
    let lists: &[&str] = match Machine::observe() {
        // Its bus first, or the drivers find no devices.
        Machine::Firecracker => &[INITRD_MODULES_ORDER_FIRECRACKER, INITRD_MODULES_ORDER],
        Machine::Qemu => &[INITRD_MODULES_ORDER],
    };
    for list in lists {
        outcome.warnings.extend(modules::load_all(Path::new(INITRD_MODULES), Path::new(list)));
    }
    log::note("modules are loaded");
    let seed = seed::parse(&bytes?).map_err(|source| BootError::Seed { source })?;
    *kept = Some(seed.clone());
    let seed = &seed;
    set_clock(seed, outcome);
    let (prepared, network) = std::thread::scope(|scope| {
        let network = scope.spawn(|| network::configure(seed.network.as_ref()));
        let prepared = prepare_root(seed);
        (prepared, network.join())
    });
    match network {
        Ok(Ok(())) => {}
        Ok(Err(error)) => outcome.note_failure("network", chain(&error)),
        Err(_) => outcome.note_failure("network", "the thread panicked".to_owned()),
    }
    let applied = prepared?;
    log::landmark("disks are mounted, the seed is written, the link is up");
    outcome.warnings.extend(applied.warnings);
    if let Some(reason) = applied.failure {
        outcome.note_failure("seed", reason);
    }
    hand_over(seed, outcome)
}

fn prepare_root(seed: &Seed) -> Result<seed::Applied, BootError> {
    let root = Path::new(NEW_ROOT);
    disks::mount_root(&seed.root_disk_serial, root)?;
    let image =
        Tree::open(root, Links::InRoot).map_err(|source| BootError::Prepare { path: root.to_owned(), source })?;
    let skeleton = seed::home::read_skeleton(&image);
    disks::mount_below_root(seed, &image)?;
    mounts::mount_run(&image)?;
    Ok(seed::apply(root, seed, &skeleton))
}

fn hand_over(seed: &Seed, outcome: &mut Outcome) -> Result<(), BootError> {
    let root = Path::new(NEW_ROOT);
    let image =
        Tree::open(root, Links::InRoot).map_err(|source| BootError::Prepare { path: root.to_owned(), source })?;
    let init = Some(seed.init_path.as_str()).filter(|path| !path.is_empty());
    let init = match init {
        Some(path) if !image.exists(path) => {
            outcome.note_failure("init", format!("the image has no {path}"));
            None
        }
        other => other,
    };
    // Before /proc moves away: the running binary is found through it.
    handover::leave(root, Some(seed), outcome);
    mounts::move_kernel_filesystems(&image)?;
    let old_root = switch::into(root)?;
    switch::start_agent(Path::new(banger_proto::guest_contract::GUEST_BINARY));
    old_root.delete_contents();
    if let Some(path) = init {
        let error = switch::exec_init(path);
        let reason = format!("cannot execute {path}: {error}");
        log::failure(&format!("init: {reason}"));
        milestones::tell_failed(Path::new(milestones::SOCKET), "init", &reason);
    }
    Ok(())
}

/// Only forward: a guest restored late must not travel back, and certificates dislike the past.
fn set_clock(seed: &Seed, outcome: &mut Outcome) {
    let now = clock_gettime(ClockId::Realtime);
    let now_ms = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1000);
    if now_ms + 1000 < seed.unix_time_ms
        && let Err(error) = control::requests::set_time(seed.unix_time_ms)
    {
        outcome.warnings.push(format!("cannot set the clock: {error}"));
    }
}
