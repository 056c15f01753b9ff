//! A pseudo-terminal: the master as an async stream, the slave for the process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::syscalls;

/// Size in characters and pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Columns, rows, width and height, as SSH sends them.
    pub fields: [u32; 4],
}

impl Size {
    fn winsize(self) -> Winsize {
        let [columns, rows, width, height] = self.fields.map(|field| u16::try_from(field).unwrap_or(u16::MAX));
        Winsize { ws_col: columns, ws_row: rows, ws_xpixel: width, ws_ypixel: height }
    }
}

/// The master; clones share it.
#[derive(Debug, Clone)]
pub struct Master(Arc<AsyncFd<OwnedFd>>);

/// Opens a pair of the given size.
///
/// # Errors
/// What the kernel says, for instance that no devpts is mounted.
pub fn open(size: Size) -> io::Result<(Master, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    if let Ok(mut modes) = rustix::termios::tcgetattr(&slave) {
        // Erasing must remove characters, not bytes.
        modes.input_modes |= InputModes::IUTF8;
        let _ = rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes);
    }
    let held = rustix::fs::fcntl_getfl(&master)?;
    rustix::fs::fcntl_setfl(&master, held | OFlags::NONBLOCK)?;
    let master = Master(Arc::new(syscalls::register(master)?));
    master.resize(size);
    Ok((master, slave))
}

impl Master {
    /// Tells the terminal, and by SIGWINCH its foreground processes, its size.
    pub fn resize(&self, size: Size) {
        let _ = rustix::termios::tcsetwinsize(self.0.get_ref(), size.winsize());
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> Option<rustix::process::Pid> {
        rustix::termios::tcgetpgrp(self.0.get_ref()).ok()
    }
}

impl AsFd for Master {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl AsyncRead for Master {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|master| Ok(rustix::io::read(master.get_ref(), &mut *unfilled)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The kernel's way to say that the last process closed the slave.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Master {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|master| Ok(rustix::io::write(master.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
