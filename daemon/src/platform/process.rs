//! Looks at processes and ends them, without ever confusing one with another that got its pid.
//!
//! A process is named by pid, start time and host boot ([`ProcessIdentity`]). Every signal goes through a
//! pidfd whose process was compared with the identity *after* the pidfd was opened. A zombie counts as gone:
//! whoever should reap it may be dead.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{ProcessIdentity, syscalls};

/// How often to look where the kernel cannot tell us (no pidfd, no descriptor left).
const FALLBACK_INTERVAL: Duration = Duration::from_millis(200);

/// The parts of /proc/<pid>/stat that matter here, see proc(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time_ticks: u64,
}

/// A running process with its arguments.
#[derive(Debug, Clone)]
pub struct Process {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// argv, not valid UTF-8 replaced.
    pub arguments: Vec<String>,
}

/// Identity of this boot of the host.
///
/// # Errors
/// If /proc is not there.
pub fn host_boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The process `pid` of this boot, unless there is none or it is a zombie.
pub fn identify(pid: u32, host_boot_id: &str) -> Option<ProcessIdentity> {
    let stat = parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then(|| ProcessIdentity {
        pid,
        start_time_ticks: stat.start_time_ticks,
        host_boot_id: host_boot_id.to_owned(),
    })
}

/// Whether exactly this process still runs.
pub fn is_alive(process: &ProcessIdentity, host_boot_id: &str) -> bool {
    identify(process.pid, host_boot_id).as_ref() == Some(process)
}

/// Every live process of ours whose executable is a QEMU.
///
/// # Errors
/// If /proc cannot be listed. A process that ends while we look is skipped.
pub fn running_qemus(host_boot_id: &str) -> io::Result<Vec<Process>> {
    let uid = rustix::process::getuid().as_raw();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if entry.metadata().is_ok_and(|metadata| metadata.uid() == uid)
            && is_qemu(&entry.path())
            && let Some(identity) = identify(pid, host_boot_id)
            && let Ok(arguments) = std::fs::read(entry.path().join("cmdline"))
        {
            found.push(Process { identity, arguments: split_arguments(&arguments) });
        }
    }
    Ok(found)
}

fn is_qemu(process: &Path) -> bool {
    // After an upgrade of the package the link reads "/usr/bin/qemu-system-x86_64 (deleted)".
    std::fs::read_link(process.join("exe"))
        .is_ok_and(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"qemu")))
}

fn split_arguments(cmdline: &[u8]) -> Vec<String> {
    let body = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    body.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The name in parentheses may hold anything, parentheses and spaces too: fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    // Field 3 is the state, field 22 the start time.
    let state = fields.next()?.chars().next()?;
    let start_time_ticks = fields.nth(22 - 4)?.parse().ok()?;
    Some(Stat { state, start_time_ticks })
}

/// A handle on exactly this process; None if it is gone.
///
/// # Errors
/// Any failure but "no such process".
pub fn open(process: &ProcessIdentity, host_boot_id: &str) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    // NONBLOCK is what AsyncFd wants; Linux before 5.10 does not know it and polling works without.
    let opened = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Err(rustix::io::Errno::INVAL) => pidfd_open(pid, PidfdFlags::empty()),
        other => other,
    };
    match opened {
        // Only now that the pidfd pins the process does the comparison mean anything.
        Ok(pidfd) => Ok(is_alive(process, host_boot_id).then_some(pidfd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends SIGKILL through a handle from [`open`]. A process that is gone already is fine.
///
/// # Errors
/// If the kernel does not allow it.
pub fn kill(pidfd: &OwnedFd) -> io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Resolves when the process has ended.
pub async fn wait_gone(process: &ProcessIdentity, host_boot_id: &str) {
    while is_alive(process, host_boot_id) {
        match open(process, host_boot_id) {
            Ok(None) => return,
            Ok(Some(pidfd)) => {
                if syscalls::ended(pidfd).await.is_ok() {
                    return;
                }
            }
            Err(error) => tracing::debug!(pid = process.pid, %error, "no pidfd, polling instead"),
        }
        tokio::time::sleep(FALLBACK_INTERVAL).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sleeper() -> (std::process::Child, ProcessIdentity) {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = identify(child.id(), &host_boot_id().unwrap()).unwrap();
        (child, identity)
    }

    #[test]
    fn a_process_name_cannot_shift_the_fields_of_stat() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        for name in ["qemu", "a) R 1 (b", "x y", ")", "", "(("] {
            let text = format!("17 ({name}) S {}\n", fields.join(" "));
            assert_eq!(parse_stat(&text), Some(Stat { state: 'S', start_time_ticks: 22 }), "{name:?}");
        }
        for text in ["", "17", "17 (x)", "17 (x) S 1 2 3", "17 (x) S a b c d e f g h i j k l m n o p q r s t u v"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn arguments_keep_empty_ones_apart() {
        assert_eq!(split_arguments(b"qemu\0-romfile\0\0-x\0"), ["qemu", "-romfile", "", "-x"]);
        assert_eq!(split_arguments(b""), [""]);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let boot = host_boot_id().unwrap();
        let (mut child, identity) = sleeper();
        assert!(is_alive(&identity, &boot));
        let earlier = ProcessIdentity { start_time_ticks: identity.start_time_ticks - 1, ..identity.clone() };
        assert!(!is_alive(&earlier, &boot));
        assert!(open(&earlier, &boot).unwrap().is_none());
        let other_boot = ProcessIdentity { host_boot_id: "another".into(), ..identity };
        assert!(open(&other_boot, &boot).unwrap().is_none());
        assert!(child.try_wait().unwrap().is_none(), "nothing was signalled");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_zombie_counts_as_gone() {
        let boot = host_boot_id().unwrap();
        let (mut child, identity) = sleeper();
        kill(&open(&identity, &boot).unwrap().unwrap()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), wait_gone(&identity, &boot)).await.unwrap();
        // Nobody has reaped it yet.
        assert!(Path::new(&format!("/proc/{}", identity.pid)).exists());
        assert!(!is_alive(&identity, &boot));
        child.wait().unwrap();
        assert!(open(&identity, &boot).unwrap().is_none());
    }
}
