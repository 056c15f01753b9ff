//! Handles on the VMMs that are known to run.
//!
//! A service sandbox hides the processes of the host in /proc, also those of its own user. So a VMM is never looked for
//! there: the helper says which process it is, and a pidfd, from the helper or opened before it says so again, holds on
//! to exactly that one.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;

use crate::platform::{ProcessIdentity, syscalls};

/// See the module.
#[derive(Debug, Default)]
pub struct Handles(Mutex<Vec<(ProcessIdentity, OwnedFd)>>);

impl Handles {
    /// Remembers a handle on a process; forgets those that have ended.
    pub fn keep(&self, process: &ProcessIdentity, pidfd: OwnedFd) {
        let mut all = self.lock();
        all.retain(|(known, handle)| known != process && !has_ended(handle));
        all.push((process.clone(), pidfd));
    }

    /// Whether there is a handle on it.
    pub fn knows(&self, process: &ProcessIdentity) -> bool {
        self.lock().iter().any(|(known, _)| known == process)
    }

    /// Resolves when the process has ended; at once if there is no handle on it, so ask [`Self::knows`] first.
    pub async fn wait_gone(&self, process: &ProcessIdentity) {
        let handle = self.lock().iter().find(|(known, _)| known == process).map(|(_, handle)| handle.try_clone());
        match handle {
            Some(Ok(handle)) => {
                if let Err(error) = syscalls::ended(handle).await {
                    tracing::error!(pid = process.pid, "cannot wait for a VMM: {error}");
                }
            }
            Some(Err(error)) => tracing::error!(pid = process.pid, "cannot wait for a VMM: {error}"),
            None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(ProcessIdentity, OwnedFd)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on whatever process has this number now.
///
/// # Errors
/// Any failure but "no such process".
pub fn open(pid: u32) -> std::io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_has_ended_is_noticed_and_forgotten() {
        let handles = Handles::default();
        let identity = |pid| ProcessIdentity { pid, start_time_ticks: 1, host_boot_id: "b".into() };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = identity(child.id());
        handles.keep(&process, open(child.id()).unwrap().unwrap());
        assert!(handles.knows(&process) && !handles.knows(&identity(1)));
        let waiting = handles.wait_gone(&process);
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        handles.keep(&identity(1), open(std::process::id()).unwrap().unwrap());
        assert!(!handles.knows(&process));
        child.wait().unwrap();
        handles.wait_gone(&process).await;
    }
}
