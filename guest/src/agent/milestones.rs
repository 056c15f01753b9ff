//! How far this boot has come, and telling the host.
//!
//! The latest milestone is kept, so a host that connects late or again learns it. A failure that
//! did not stop the boot is told when it is known and again, as a warning, with every later one.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use banger_proto::guest::v1::{Milestone, MilestoneKind};
use rustix::event::{EventfdFlags, eventfd};

use super::ending::{Ending, SESSIONS_END_WITHIN};
use crate::control::power_off::{FirstProcess, first_process};
use crate::init::handover::{self, Outcome};
use crate::{log, stats};

/// Where the agent listens for `banger-guest booted`.
pub const SOCKET: &str = "/run/banger/agent.sock";

/// An init that tells nobody when it is done is taken to be done by then.
const SILENT_INIT_BOOTS_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct State {
    latest: Option<Milestone>,
    unsent: Vec<Milestone>,
    warnings: Vec<String>,
    failed: Option<(String, String)>,
}

/// The milestones of this boot.
#[derive(Debug)]
pub struct Milestones {
    state: Mutex<State>,
    wake: Option<OwnedFd>,
    boot_id: String,
    end: Arc<Ending>,
}

impl Milestones {
    /// Before any milestone; `outcome` is what init had to say.
    pub fn new(outcome: &Outcome) -> Self {
        let failed = outcome.failure.clone();
        let mut warnings = outcome.warnings.clone();
        if let Some((stage, reason)) = &failed {
            warnings.insert(0, format!("{stage}: {reason}"));
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            state: Mutex::new(State { warnings, failed, ..State::default() }),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok(),
            boot_id: boot_id.trim().to_owned(),
            end: Arc::default(),
        }
    }

    /// The SSH server listens.
    pub fn reachable(&self) {
        self.push(MilestoneKind::Reachable, None);
    }

    /// The image's init has started everything it starts.
    pub fn booted(&self) {
        self.end.take_back();
        self.push(MilestoneKind::Booted, None);
    }

    /// The init ends the machine: no crash, whatever comes.
    pub fn ending(&self) {
        self.end.begin();
        self.push(MilestoneKind::Ending, None);
    }

    /// The end of this boot.
    pub fn end(&self) -> &Arc<Ending> {
        &self.end
    }

    /// Something failed.
    pub fn failed(&self, stage: &str, reason: &str) {
        self.push(MilestoneKind::Failed, Some((stage.to_owned(), reason.to_owned())));
    }

    /// Tells of init's failure, after the guest has become reachable or turned out not to.
    pub fn reached_end_of_init(&self) {
        let failed = self.state().failed.clone();
        if let Some((stage, reason)) = failed {
            self.failed(&stage, &reason);
        }
    }

    /// The latest milestone, for a host that asks.
    pub fn latest(&self) -> Option<Milestone> {
        self.state().latest.clone()
    }

    /// Milestones not yet given to a host.
    pub fn take_unsent(&self) -> Vec<Milestone> {
        std::mem::take(&mut self.state().unsent)
    }

    /// Readable when there may be something unsent.
    pub fn wake(&self) -> Option<&OwnedFd> {
        self.wake.as_ref()
    }

    fn push(&self, kind: MilestoneKind, failure: Option<(String, String)>) {
        let (stage, reason) = failure.unwrap_or_default();
        let mut state = self.state();
        let milestone = Milestone {
            kind: kind.into(),
            boot_id: self.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: stats::uptime_ms(),
            stage,
            reason,
            warnings: state.warnings.clone(),
        };
        state.latest = Some(milestone.clone());
        state.unsent.push(milestone);
        drop(state);
        if let Some(wake) = &self.wake {
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits for word that the system is booted, however this image's init gives it.
pub async fn watch_for_booted(milestones: Arc<Milestones>) {
    if let Err(error) = listen(milestones.clone()) {
        log::failure(&format!("cannot listen on {SOCKET}: {error}"));
    }
    match first_process() {
        FirstProcess::Ourselves if milestones.state().failed.is_none() => milestones.booted(),
        FirstProcess::Ourselves => {}
        // Asked again later: systemd may not have replaced our init yet.
        FirstProcess::Systemd | FirstProcess::Other | FirstProcess::Starting => {
            tokio::time::sleep(SILENT_INIT_BOOTS_WITHIN).await;
            if first_process() == FirstProcess::Other {
                milestones.booted();
            }
        }
    }
}

/// A thread for a message that comes once per boot is cheaper than keeping an async listener.
fn listen(milestones: Arc<Milestones>) -> io::Result<()> {
    let _ = std::fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("booted".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            match read_word(&stream).as_deref() {
                Some("booted") => {
                    handover::remember_booted();
                    log::landmark("booted");
                    milestones.booted();
                }
                // Who says so waits for our end of the stream, and systemd for him before it unmounts anything.
                Some("ending") => {
                    milestones.ending();
                    milestones.end().wait_for_sessions(SESSIONS_END_WITHIN);
                }
                Some(other) => {
                    if let Some((stage, reason)) = other.strip_prefix("failed ").and_then(|rest| rest.split_once(' ')) {
                        milestones.failed(stage, reason);
                    }
                }
                None => {}
            }
        }
    })?;
    Ok(())
}

fn read_word(stream: &UnixStream) -> Option<String> {
    let mut word = String::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    stream.take(4096).read_to_string(&mut word).ok()?;
    Some(word.trim().to_owned())
}

/// Tells a running agent that init failed after starting it.
pub fn tell_failed(socket: &Path, stage: &str, reason: &str) {
    let text = format!("failed {stage} {reason}\n");
    if let Err(error) = UnixStream::connect(socket).and_then(|mut stream| stream.write_all(text.as_bytes())) {
        log::failure(&format!("cannot tell the agent of the failure: {error}"));
    }
}

/// An init that is not systemd sends SIGTERM to everybody when it ends the machine, and SIGKILL soon after.
pub async fn watch_for_end(milestones: Arc<Milestones>) {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else { return };
    while terminate.recv().await.is_some() {
        milestones.ending();
    }
}

/// The other end: `banger-guest booted` and `banger-guest ending`.
pub fn tell(socket: &Path, word: &str) -> ExitCode {
    let told = UnixStream::connect(socket).and_then(|mut stream| {
        stream.write_all(format!("{word}\n").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        // Until it was acted on.
        stream.set_read_timeout(Some(2 * SESSIONS_END_WITHIN))?;
        stream.read_to_end(&mut Vec::new())
    });
    match told.map(drop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure(&format!("cannot tell the agent {word:?}: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_did_not_stop_the_boot_is_told_and_then_kept_as_a_warning() {
        let failure = Some(("seed".to_owned(), "no space".to_owned()));
        let milestones = Milestones::new(&Outcome { warnings: vec!["w".into()], failure, ..Outcome::default() });
        milestones.reachable();
        milestones.reached_end_of_init();
        milestones.booted();
        let sent = milestones.take_unsent();
        let kinds: Vec<MilestoneKind> = sent.iter().map(Milestone::kind).collect();
        assert_eq!(kinds, [MilestoneKind::Reachable, MilestoneKind::Failed, MilestoneKind::Booted]);
        assert_eq!((sent[1].stage.as_str(), sent[1].reason.as_str()), ("seed", "no space"));
        assert_eq!(sent[2].warnings, ["seed: no space", "w"]);
        assert_eq!(milestones.latest().as_ref(), sent.last());
        assert!(milestones.take_unsent().is_empty());
    }
}
