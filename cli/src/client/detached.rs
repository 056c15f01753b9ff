//! Starts a process that outlives us: a session of its own, so that neither the terminal's Ctrl-C nor its end
//! reaches it, and none of the descriptors we were given. The only unsafe code of the CLI.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};

/// Starts `binary --rootless --ready-fd N` with its output going to `log`. `ready` must be inheritable; our copy
/// of it is closed when this returns, so that its other end sees the process end.
///
/// # Errors
/// Of `fork` and `exec`.
pub fn spawn_daemon(binary: &Path, log: File, ready: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(binary);
    command.arg("--rootless").arg("--ready-fd").arg(ready.as_raw_fd().to_string());
    cut_loose(command, log, ready.as_raw_fd())
}

/// Starts `command` with its output going to `log`.
///
/// # Errors
/// Of `fork` and `exec`.
pub fn spawn(command: Command, log: File) -> io::Result<Child> {
    // Standard error is never one of those that are kept to ourselves.
    cut_loose(command, log, 2)
}

fn cut_loose(mut command: Command, log: File, but: RawFd) -> io::Result<Child> {
    keep_to_ourselves(but)?;
    command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
    // It must not keep the user's directory busy.
    command.current_dir("/");
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe; the closure captures and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn()
}

/// Descriptors a shell handed us (locks, pipes) would otherwise stay open for as long as the daemon runs.
fn keep_to_ourselves(but: RawFd) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(descriptor) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if descriptor > 2 && descriptor != but {
            // SAFETY: borrowed for one fcntl that only sets a flag; a number closed meanwhile (the directory being
            // read) gives EBADF, which changes nothing.
            let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(descriptor) }, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}
