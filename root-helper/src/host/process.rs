//! Processes, held by descriptor and known by start time: a number alone may be another process by now.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::error::{Step, StepError, step};
use crate::ledger::Process;
use crate::request::Signal;

/// A descriptor of it, if it runs and is still that one.
pub fn open(process: Process) -> Step<Option<OwnedFd>> {
    let attempt = || format!("look at the process {}", process.pid);
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| StepError::refused(attempt(), "that is no process number"))?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        opened => opened.map_err(|error| StepError::new(attempt(), io::Error::from(error)))?,
    };
    // With the descriptor in hand the number cannot go to another: what is read now is about this one, or it ended.
    match start_time(process.pid) {
        Ok(start_time) if start_time == process.start_time_ticks && !has_ended(&pidfd) => Ok(Some(pidfd)),
        Ok(_) => Ok(None),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(StepError::new(attempt(), error)),
    }
}

/// A process that runs now, and when it started.
pub fn identify(pid: u32) -> Step<Process> {
    let start_time_ticks = start_time(pid).map_err(step(format!("look at the process {pid}")))?;
    Ok(Process { pid, start_time_ticks })
}

/// Whether one of its threads is called so, or so and more; not if it has ended.
pub fn has_thread(process: Process, name: &str) -> Step<bool> {
    let failed = || step(format!("look at the threads of the process {}", process.pid));
    let threads = match fs::read_dir(format!("/proc/{}/task", process.pid)) {
        Err(error) if is_gone(&error) => return Ok(false),
        threads => threads.map_err(failed())?,
    };
    for thread in threads {
        match thread.and_then(|thread| fs::read_to_string(thread.path().join("comm"))) {
            Ok(called) if called.starts_with(name) => return Ok(true),
            Err(error) if !is_gone(&error) => return Err(failed()(error)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

/// ESRCH: it went away between opening its file and reading it.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Sends it a signal, if it still runs.
pub fn signal(process: Process, signal: Signal) -> Step<()> {
    let Some(pidfd) = open(process)? else { return Ok(()) };
    let signal = match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Kill => rustix::process::Signal::KILL,
    };
    match pidfd_send_signal(&pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(StepError::new(format!("signal the process {}", process.pid), io::Error::from(error))),
    }
}

/// True if it has ended.
pub fn has_ended(pidfd: &impl AsFd) -> bool {
    ends_by(pidfd, Instant::now())
}

/// Waits until it has ended, or until then; true if it has.
pub fn ends_by(pidfd: &impl AsFd, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = left.try_into().expect("a deadline of ours is seconds away");
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            outcome => return outcome.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Field 22 of /proc/pid/stat. The second, the program's name, may hold anything, so it is counted from its end.
fn start_time(pid: u32) -> io::Result<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_start_time() {
        let rest = (3..=22).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_start_time(&format!("77 (a) 1 2 3 (b) {rest} 23")), Some(22));
        assert_eq!(parse_start_time("77 (a"), None);
        assert_eq!(parse_start_time("77 (a) S 1"), None);
    }

    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let ours = identify(std::process::id()).unwrap();
        assert!(open(ours).unwrap().is_some());
        let earlier = Process { start_time_ticks: ours.start_time_ticks + 1, ..ours };
        assert!(open(earlier).unwrap().is_none());
    }

    #[test]
    fn a_thread_is_found_by_the_beginning_of_its_name() {
        let me = identify(std::process::id()).unwrap();
        assert!(!has_thread(me, "fc_vcpu").unwrap());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (tell, began) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("fc_vcpu 0".into()).spawn(move || {
            tell.send(()).unwrap();
            ended.recv()
        });
        began.recv().unwrap();
        assert!(has_thread(me, "fc_vcpu").unwrap());
        drop(end);
        thread.unwrap().join().unwrap().unwrap_err();
        // Larger than any.
        assert!(!has_thread(Process { pid: 1 << 23, ..me }, "fc_vcpu").unwrap());
    }

    #[test]
    fn a_process_that_ended_is_seen_to_have_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = identify(child.id()).unwrap();
        let pidfd = open(process).unwrap().unwrap();
        assert!(!has_ended(&pidfd));
        signal(process, Signal::Kill).unwrap();
        child.wait().unwrap();
        assert!(has_ended(&pidfd));
        assert!(open(process).unwrap().is_none());
        signal(process, Signal::Kill).unwrap();
    }
}
