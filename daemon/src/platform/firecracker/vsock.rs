//! A connection to a port inside the guest, through the VMM's unix socket: `CONNECT <port>`, then `OK <number>`.
//!
//! The VMM hangs up when nothing listens on that port, and does not answer before the guest has found its vsock.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::console::Console;

/// Between two attempts at least.
const AGAIN: Duration = Duration::from_millis(20);
/// Of the time waited so far, between two attempts while the guest says nothing: each is a packet to a guest that has
/// better to do, and what is found late is found late by little.
const SHARE: u32 = 20;
/// `OK 4294967295`.
const ANSWER_LIMIT: usize = 32;

/// A connection, as soon as the guest listens; it may never. Whoever waits watches the VMM meanwhile.
///
/// A guest of ours says on its console that it is reachable, so each word there is a reason to try.
pub async fn connect_when_listening(socket: &Path, port: u32, console: &Path) -> UnixStream {
    attempts(socket, port, console, |waited| waited / SHARE).await
}

/// `pause` of the time waited so far is what comes between two attempts while the console is silent.
async fn attempts(socket: &Path, port: u32, console: &Path, pause: fn(Duration) -> Duration) -> UnixStream {
    let console = Console::watch(console);
    let began = Instant::now();
    loop {
        match connect(socket, port).await {
            Ok(stream) => return stream,
            Err(error) => tracing::trace!(path = %socket.display(), "no guest listens yet: {error}"),
        }
        tokio::time::sleep(AGAIN).await;
        tokio::select! {
            () = console.written() => {}
            () = tokio::time::sleep(pause(began.elapsed())) => {}
        }
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
            async move { connect_when_listening(&path, 1024, &path.with_extension("console")).await }
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

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_word_on_the_console_is_a_reason_to_ask_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, console) = (scratch.path().join("vsock.sock"), scratch.path().join("console.log"));
        let mut written = std::fs::File::create(&console).unwrap();
        let vmm = UnixListener::bind(&path).unwrap();
        let connecting = tokio::spawn(async move { attempts(&path, 1024, &console, |_| HOUR).await });
        // By itself the second attempt would not come within this test.
        drop(vmm.accept().await.unwrap());
        std::io::Write::write_all(&mut written, b"reachable").unwrap();
        let soon = Duration::from_secs(60);
        let (mut accepted, _) = tokio::time::timeout(soon, vmm.accept()).await.unwrap().unwrap();
        accepted.write_all(b"OK 1\n").await.unwrap();
        connecting.await.unwrap();
    }
}
