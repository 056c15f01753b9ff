//! A connection to a port inside the guest, through the VMM's unix socket: `CONNECT <port>`, then `OK <number>`.
//!
//! The VMM hangs up when nothing listens on that port, and does not answer before the guest has found its vsock.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Between the first attempts while the guest does not listen yet. Each is a packet to the guest, which has better to do.
const AGAIN: Duration = Duration::from_millis(20);
/// Of the time waited so far, between two later attempts: what is found late is found late by little.
const SHARE: u32 = 40;
/// `OK 4294967295`.
const ANSWER_LIMIT: usize = 32;

/// A connection, as soon as the guest listens; it may never. Whoever waits watches the VMM meanwhile.
pub async fn connect_when_listening(socket: &Path, port: u32) -> UnixStream {
    let began = Instant::now();
    loop {
        match connect(socket, port).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(path = %socket.display(), "no guest listens yet: {error}"),
        }
        tokio::time::sleep(AGAIN.max(began.elapsed() / SHARE)).await;
    }
}

/// # Errors
/// The VMM is not there, or it hung up.
async fn connect(socket: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        // One by one: what follows the line is the guest's.
        let byte = stream.read_u8().await?;
        if byte == b'\n' {
            break;
        }
        answer.push(byte);
        if answer.len() > ANSWER_LIMIT {
            return Err(io::Error::other("the VMM's answer is too long"));
        }
    }
    if answer.starts_with(b"OK ") { Ok(stream) } else { Err(io::Error::other("the VMM's answer is not OK")) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_guest_that_does_not_listen_yet_is_asked_again_and_none_of_its_bytes_are_lost() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("vsock.sock");
        let connecting = tokio::spawn({
            let path = path.clone();
            async move { connect_when_listening(&path, 1024).await }
        });
        // First there is no socket, then no listener in the guest, then an answer with the guest's first bytes.
        tokio::time::sleep(AGAIN).await;
        let vmm = UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            let (mut refused, _) = vmm.accept().await.unwrap();
            let mut asked = [0; 13];
            refused.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"CONNECT 1024\n");
        }
        let (mut accepted, _) = vmm.accept().await.unwrap();
        accepted.write_all(b"OK 1073741824\nfirst").await.unwrap();
        let mut stream = connecting.await.unwrap();
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_no_connection() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("vsock.sock");
        let vmm = UnixListener::bind(&path).unwrap();
        for said in ["NO\n".to_owned(), "x".repeat(100)] {
            let (connected, _) = tokio::join!(connect(&path, 1), async {
                let (mut accepted, _) = vmm.accept().await.unwrap();
                accepted.write_all(said.as_bytes()).await.unwrap();
                accepted.read_u8().await.unwrap();
            });
            connected.unwrap_err();
        }
    }
}
