//! Our stdin to the command's. A thread reads, because reading a terminal cannot be made asynchronous without
//! changing it for everybody who shares it; the thread ends with the process.

use std::sync::Arc;

use banger_sync::ssh::SessionWriter;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const CHUNK: usize = 64 << 10;
const CHUNKS_AHEAD: usize = 4;

/// Forwards until our stdin or the command ends. Abort it to stop forwarding.
pub(super) fn forward(writer: Arc<SessionWriter>) -> JoinHandle<()> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    if is_readable_by_us() {
        std::thread::spawn(move || read_all(&sender));
    }
    tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if writer.write(bytes).await.is_err() {
                // The command does not read any more; its end is told elsewhere.
                return;
            }
        }
        let _ = writer.eof().await;
    })
}

/// A background process that reads its terminal is stopped by the system; such a command gets no input instead.
fn is_readable_by_us() -> bool {
    let stdin = rustix::stdio::stdin();
    match rustix::termios::tcgetpgrp(stdin) {
        Ok(foreground) => foreground == rustix::process::getpgrp(),
        Err(_) => true,
    }
}

fn read_all(sender: &mpsc::Sender<Bytes>) {
    let stdin = rustix::stdio::stdin();
    let mut buffer = vec![0; CHUNK];
    loop {
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None);
            }
            // A closed or vanished stdin is an empty one.
            Err(_) => return,
        }
    }
}
