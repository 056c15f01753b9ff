//! Moving bytes between a channel and a process, exactly.
//!
//! After the process has ended, what it wrote is still in the pipe and must all arrive; but a child
//! it left behind may hold the pipe open for ever. [`output`] drains what was there at the end,
//! waits a moment for the end of file, and then leaves.

use std::os::fd::AsFd;
use std::time::Duration;

use bytes::BytesMut;
use russh::ChannelWriteHalf;
use russh::server::Msg;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::inbox::Outlet;

/// How long children left behind may keep a channel open without the process that started them.
const GRACE: Duration = Duration::from_secs(1);
const CHUNK: usize = 32 * 1024;

/// Which stream of the channel bytes go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Ordinary data.
    Output,
    /// Extended data 1.
    Error,
}

/// Sends everything `source` yields; see the module's header for when it stops.
pub async fn output<R>(
    mut source: R,
    channel: &ChannelWriteHalf<Msg>,
    stream: Stream,
    mut exited: watch::Receiver<bool>,
) where
    R: AsyncRead + AsFd + Unpin + Send + 'static,
{
    let mut buffer = BytesMut::new();
    let mut deadline: Option<Instant> = None;
    let mut owed: u64 = 0;
    loop {
        buffer.reserve(CHUNK);
        let count = match deadline {
            None => tokio::select! {
                biased;
                _ = exited.wait_for(|exited| *exited) => {
                    owed = rustix::io::ioctl_fionread(&source).unwrap_or(0);
                    deadline = Some(Instant::now() + GRACE);
                    continue;
                }
                read = source.read_buf(&mut buffer) => read.unwrap_or(0),
            },
            Some(_) if owed > 0 => source.read_buf(&mut buffer).await.unwrap_or(0),
            Some(deadline) => match tokio::time::timeout_at(deadline, source.read_buf(&mut buffer)).await {
                Ok(read) => read.unwrap_or(0),
                Err(_) => {
                    tokio::spawn(discard(source));
                    return;
                }
            },
        };
        if count == 0 {
            return;
        }
        owed = owed.saturating_sub(count as u64);
        let bytes = buffer.split().freeze();
        let sent = match stream {
            Stream::Output => channel.data_bytes(bytes).await,
            Stream::Error => channel.extended_data_bytes(1, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A server started in the background must not die of SIGPIPE when the channel that started it closes.
async fn discard<R: AsyncRead + Unpin>(mut source: R) {
    let mut buffer = vec![0; CHUNK];
    while source.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

/// What to do when the client has no more input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Close the descriptor.
    Close,
    /// Send the terminal's end-of-file character: closing it would hang the process up.
    TypeEndOfFile,
}

/// Feeds what the client sends into `sink` until the end or until nobody reads it.
pub async fn input<W: AsyncWrite + Unpin>(mut outlet: Outlet, mut sink: W, at_end: AtEnd) {
    while let Some(bytes) = outlet.next().await {
        if sink.write_all(&bytes).await.is_err() {
            return;
        }
    }
    match at_end {
        AtEnd::Close => {
            let _ = sink.shutdown().await;
        }
        AtEnd::TypeEndOfFile => {
            let _ = sink.write_all(&[4]).await;
        }
    }
}
