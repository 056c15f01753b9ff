//! Stdout and stderr without a buffer of our own: what is written is out, and a large chunk is one system call.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A writer on an inherited descriptor.
pub(super) struct Unbuffered(BorrowedFd<'static>);

impl Unbuffered {
    pub(super) fn stdout() -> Self {
        Self(rustix::stdio::stdout())
    }

    pub(super) fn stderr() -> Self {
        Self(rustix::stdio::stderr())
    }
}

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.0, bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                // Another program sharing the terminal or pipe may have made it non-blocking.
                Err(Errno::AGAIN) => {
                    let mut watched = [PollFd::new(&self.0, PollFlags::OUT)];
                    match poll(&mut watched, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
