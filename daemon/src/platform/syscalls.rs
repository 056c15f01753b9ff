//! The one file here with unsafe code: detaching a child before it executes, and waiting on a descriptor.
//!
//! A VMM must outlive bangerd and must hold nothing of it: no terminal, no process group, no descriptor.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::FdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the child of `command` the leader of its own session, with no descriptor but 0, 1 and 2.
pub fn detach(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec in a copy of a program with threads, so it may only do
    // what a signal handler may. It makes raw system calls through rustix, keeps its buffer on the stack,
    // allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            close_inherited_on_exec()
        });
    }
}

/// Resolves when the process behind a pidfd has ended.
///
/// # Errors
/// If the descriptor cannot be watched.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    watch(pidfd)?.readable().await.map(drop)
}

/// A descriptor that can be waited for until there is something to read.
///
/// # Errors
/// If it cannot be watched.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped, and it is moved in here.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::from)
}

/// Marks every descriptor from 3 up. Rust's own are marked anyway; this is for what C code may have opened.
/// Closing them here instead would cut the pipe by which the standard library reports a failed exec.
fn close_inherited_on_exec() -> io::Result<()> {
    let directory =
        rustix::fs::open(c"/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let Some(number) = descriptor_number(entry?.file_name()).filter(|number| *number > 2) else { continue };
        // SAFETY: the kernel just listed the number as open in this process, whose only thread is this one.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    Ok(())
}

/// Without `str::parse`, to be plainly free of allocation and panics.
fn descriptor_number(name: &CStr) -> Option<i32> {
    name.to_bytes().iter().try_fold(0i32, |number, byte| {
        byte.is_ascii_digit().then_some(())?;
        number.checked_mul(10)?.checked_add(i32::from(byte - b'0'))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_child_leads_its_session_and_inherits_no_descriptor() {
        // Two thousand descriptors, so that the listing takes several reads of the directory.
        let leaks: Vec<_> = (0..2000)
            .map(|_| {
                let file = std::fs::File::open("/dev/null").unwrap();
                rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
                file
            })
            .collect();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cut -d' ' -f 6 /proc/$$/stat; echo $$; ls -l /proc/$$/fd | wc -l"]);
        detach(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        drop(leaks);
        let numbers: Vec<u32> = output.split_ascii_whitespace().map(|word| word.parse().unwrap()).collect();
        let [session, pid, lines] = numbers[..] else { panic!("{output}") };
        assert_eq!(session, pid);
        // "total 0", 0, 1, 2.
        assert_eq!(lines, 4, "{output}");
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_still_reported() {
        let mut command = Command::new("/nonexistent/program");
        detach(&mut command);
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
