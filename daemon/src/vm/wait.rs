//! Waiting until a guest is as far as somebody needs it. Watches snapshots, changes nothing.
//!
//! ```text
//!  launched ──"boot"/"reachable"──▶ reachable ──"booted"──▶ booted ──"ssh"──▶ its SSH server answers
//! ```
//! Each stage has the same patience. A stage that does not come is named in the error: "boot" if nothing of
//! ours was ever heard from inside, "reachable" if something was.

use std::net::SocketAddr;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::VmName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::driver::{Snapshot, Trouble};
use super::observe;
use crate::reporter::Reporter;

/// Lines of console output that come with the news of a dead VMM.
const TAIL_LINES: usize = 15;
const BANNER_AGAIN: Duration = Duration::from_millis(250);
const BANNER_ANSWER: Duration = Duration::from_secs(5);

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Commands can run.
    Reachable,
    /// Its init has finished starting, and its SSH server answers if it has one.
    Booted,
}

/// One wait.
pub struct Wait<'a> {
    /// How far.
    pub goal: Goal,
    /// For each stage.
    pub patience: Duration,
    /// Told about each stage, and cancels the wait.
    pub reporter: &'a Reporter,
    /// Ends the wait because the daemon ends.
    pub closing: &'a CancellationToken,
    /// The VM's console, for the error.
    pub console: std::path::PathBuf,
}

/// The guest is not as far.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// A stage did not come in time.
    #[error("the VM {:?} runs, but {} within {} s (stage {stage:?})", name.as_str(), missing(stage), patience.as_secs())]
    TimedOut {
        /// Which VM.
        name: VmName,
        /// "boot", "reachable", "booted" or "ssh".
        stage: &'static str,
        /// How long was waited for it.
        patience: Duration,
    },
    /// The guest's init said that it cannot go on.
    #[error("the guest of the VM {:?} could not boot: its init failed in stage {stage:?}", name.as_str())]
    GuestFailed {
        /// Which VM.
        name: VmName,
        /// The stage of the guest's init.
        stage: String,
        /// Its reason.
        reason: String,
    },
    /// The VMM ended while the guest was starting.
    #[error("the VMM of the VM {:?} ended before the guest was {}", name.as_str(), reached(*goal))]
    Died {
        /// Which VM.
        name: VmName,
        /// How far it should have come.
        goal: Goal,
        /// The last lines of its console.
        console: Vec<String>,
    },
    /// Somebody stopped, restarted or deleted it.
    #[error("the VM {:?} was {how} while waiting for it", name.as_str())]
    Overtaken {
        /// Which VM.
        name: VmName,
        /// "stopped", "restarted" or "deleted".
        how: &'static str,
    },
    /// The user stopped waiting.
    #[error("waiting for the VM {:?} was cancelled", name.as_str())]
    Cancelled {
        /// Which VM.
        name: VmName,
    },
    /// The daemon ends.
    #[error("bangerd is shutting down; the VM {:?} keeps running", name.as_str())]
    Closing {
        /// Which VM.
        name: VmName,
    },
}

fn missing(stage: &str) -> &'static str {
    match stage {
        "boot" => "its guest never reported",
        "reachable" => "its guest started and did not become reachable",
        "booted" => "its guest did not finish booting",
        _ => "its SSH server did not answer",
    }
}

fn reached(goal: Goal) -> &'static str {
    match goal {
        Goal::Reachable => "reachable",
        Goal::Booted => "booted",
    }
}

impl WaitError {
    /// What to write down about the VM, if anything.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::TimedOut { stage: "boot" | "reachable", .. } => Some(Trouble::Unanswered),
            Self::TimedOut { .. } => Some(Trouble::Incomplete),
            Self::GuestFailed { .. }
            | Self::Died { .. }
            | Self::Overtaken { .. }
            | Self::Cancelled { .. }
            | Self::Closing { .. } => None,
        }
    }

    /// What belongs below the error in its chain.
    pub fn causes(&self) -> Vec<String> {
        match self {
            Self::GuestFailed { reason, .. } => vec![reason.clone()],
            Self::Died { console, .. } if console.is_empty() => vec!["its console log is empty".to_owned()],
            Self::Died { console, .. } => vec![format!("the last lines of its console:\n{}", console.join("\n"))],
            Self::TimedOut { .. } | Self::Overtaken { .. } | Self::Cancelled { .. } | Self::Closing { .. } => {
                Vec::new()
            }
        }
    }
}

impl Classified for WaitError {
    fn kind(&self) -> Kind {
        match self {
            Self::TimedOut { .. } | Self::GuestFailed { .. } | Self::Died { .. } => Kind::Failed,
            Self::Overtaken { .. } => Kind::Conflict,
            Self::Cancelled { .. } | Self::Closing { .. } => Kind::Cancelled,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TimedOut { name, .. } | Self::GuestFailed { name, .. } | Self::Died { name, .. } => vec![
                format!("Run `banger vm logs {name}` to read its console."),
                format!("Run `banger vm ports {name}` to see what listens in it."),
                format!("Run `banger vm show {name}` to see its state."),
            ],
            Self::Overtaken { .. } | Self::Cancelled { .. } => Vec::new(),
            Self::Closing { name } => vec![format!("Run `banger vm show {name}` to see how far it has come.")],
        }
    }
}

impl Wait<'_> {
    /// Waits for the run the VM is in now. Returns at once if it is there already.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn until_there(&self, mut snapshots: tokio::sync::watch::Receiver<Snapshot>) -> Result<(), WaitError> {
        let run = snapshots.borrow().guest.run;
        self.reporter.stage("boot", "waiting for the guest to answer");
        let reached = self.stage(&mut snapshots, run, |snapshot| snapshot.guest.reachable);
        let snapshot = reached.await.map_err(|error| self.refine(error, &snapshots))?;
        self.reporter.stage("reachable", after("the guest is reachable", snapshot.record.reachable_after_ms));
        if self.goal == Goal::Booted {
            let snapshot = self
                .stage(&mut snapshots, run, |snapshot| snapshot.guest.booted)
                .await
                .map_err(|error| error.at(self, "booted"))?;
            self.reporter.stage("booted", after("the guest has booted", snapshot.record.booted_after_ms));
            let ssh = snapshot.record.runtime.as_ref().and_then(|runtime| runtime.ssh_address);
            if let Some(address) = ssh.filter(|_| snapshot.record.boot.has_sshd) {
                self.ssh_banner(&mut snapshots, run, address).await?;
            }
        }
        for warning in &snapshots.borrow().guest.warnings {
            self.reporter.warning(format!("in the guest: {warning}"));
        }
        Ok(())
    }

    async fn ssh_banner(
        &self,
        snapshots: &mut tokio::sync::watch::Receiver<Snapshot>,
        run: u64,
        address: SocketAddr,
    ) -> Result<(), WaitError> {
        self.reporter.stage("ssh", "waiting for the guest's SSH server");
        tokio::select! {
            () = answers_ssh(address) => Ok(()),
            ended = self.stage(snapshots, run, |_| false) => match ended {
                Ok(_) => Ok(()),
                Err(error) => Err(error.at(self, "ssh")),
            },
        }
    }

    /// Waits for one thing, or for the end of waiting.
    async fn stage(
        &self,
        snapshots: &mut tokio::sync::watch::Receiver<Snapshot>,
        run: u64,
        there: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot, Interruption> {
        let deadline = Instant::now() + self.patience;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if let Some(error) = self.hopeless(&snapshot, run) {
                return Err(Interruption::Final(error));
            }
            if there(&snapshot) {
                return Ok(snapshot);
            }
            let name = || snapshot.record.name.clone();
            tokio::select! {
                // An ending daemon cancels its operations as well, and then nothing must be undone.
                biased;
                () = self.closing.cancelled() => return Err(Interruption::Final(WaitError::Closing { name: name() })),
                changed = snapshots.changed() => if changed.is_err() {
                    return Err(Interruption::Final(WaitError::Closing { name: name() }));
                },
                () = tokio::time::sleep_until(deadline) => return Err(Interruption::Timeout { name: name() }),
                () = self.reporter.cancellation().cancelled() => {
                    return Err(Interruption::Final(WaitError::Cancelled { name: name() }));
                }
            }
        }
    }

    /// Whether the VM can no longer get there.
    fn hopeless(&self, snapshot: &Snapshot, run: u64) -> Option<WaitError> {
        use super::state::VmState;
        let name = snapshot.record.name.clone();
        if snapshot.removed {
            return Some(WaitError::Overtaken { name, how: "deleted" });
        }
        if snapshot.guest.run != run {
            return Some(WaitError::Overtaken { name, how: "restarted" });
        }
        if let Some((stage, reason)) = &snapshot.guest.failed {
            return Some(WaitError::GuestFailed { name, stage: stage.clone(), reason: reason.clone() });
        }
        match snapshot.record.state {
            VmState::Stopping => Some(WaitError::Overtaken { name, how: "stopped" }),
            _ if snapshot.is_alive() => None,
            // Killed by us: no mystery, no console needed.
            VmState::Stopped if snapshot.record.unclean => Some(WaitError::Overtaken { name, how: "stopped" }),
            _ => {
                let console = observe::console_tail(&self.console, TAIL_LINES);
                Some(WaitError::Died { name, goal: self.goal, console })
            }
        }
    }

    /// A guest that was never heard is a different problem from one that was.
    fn refine(&self, interruption: Interruption, snapshots: &tokio::sync::watch::Receiver<Snapshot>) -> WaitError {
        let heard = snapshots.borrow().guest.heard;
        interruption.at(self, if heard { "reachable" } else { "boot" })
    }
}

/// Why a stage ended without result, before the stage is named.
enum Interruption {
    Timeout { name: VmName },
    Final(WaitError),
}

impl Interruption {
    fn at(self, wait: &Wait<'_>, stage: &'static str) -> WaitError {
        match self {
            Self::Timeout { name } => WaitError::TimedOut { name, stage, patience: wait.patience },
            Self::Final(error) => error,
        }
    }
}

fn after(what: &str, milliseconds: u64) -> String {
    format!("{what} {}.{} s after its VMM started", milliseconds / 1000, milliseconds % 1000 / 100)
}

/// Resolves when an SSH server greets at `address`. A forwarded port accepts long before the guest does.
async fn answers_ssh(address: SocketAddr) {
    loop {
        let greeting = async {
            let mut stream = TcpStream::connect(address).await?;
            let mut banner = [0; 4];
            stream.read_exact(&mut banner).await.map(|_| banner)
        };
        if let Ok(Ok(banner)) = tokio::time::timeout(BANNER_ANSWER, greeting).await
            && &banner == b"SSH-"
        {
            return;
        }
        tokio::time::sleep(BANNER_AGAIN).await;
    }
}
