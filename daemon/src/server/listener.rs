//! The daemon's socket: bound private from birth, a stale one replaced, and only its owner let in.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use futures::Stream;
use rustix::fs::Mode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::lock::InstanceLock;

/// After a failed accept (out of descriptors, usually).
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The socket cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something that is not a socket is in the way.
    #[error("cannot serve on {}: something that is not a socket is there", path.display())]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {attempt} the socket {}", path.display())]
    Io {
        /// "bind", "remove" …
        attempt: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classified for BindError {
    fn kind(&self) -> Kind {
        Kind::HostNotReady
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::InTheWay { path } => vec![format!("Remove it with `rm {}` and try again.", path.display())],
            Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                vec!["The path is too long for a socket; set `XDG_RUNTIME_DIR` to a shorter directory.".into()]
            }
            Self::Io { path, .. } => vec![format!("Look at it with `ls -l {}`.", path.display())],
        }
    }
}

/// Binds `path`. Holding the lock is what makes it safe to take a leftover socket away.
///
/// # Errors
/// [`BindError`].
pub fn bind(path: &Path, _lock: &InstanceLock) -> Result<StdListener, BindError> {
    let io = |attempt| move |source| BindError::Io { attempt, path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(io("remove"))?,
        Ok(_) => return Err(BindError::InTheWay { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("look at")(error)),
    }
    // 0600 from birth. The mask is the process's: nothing else runs yet that makes files.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = StdListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(io("bind"))?;
    listener.set_nonblocking(true).map_err(io("set up"))?;
    Ok(listener)
}

/// Counts open connections.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Connections from `owner` and from root; others are closed before they can say anything.
pub fn accept(listener: UnixListener, owner: u32, connections: Connections) -> impl Stream<Item = io::Result<Peer>> {
    futures::stream::unfold((listener, connections), move |(listener, connections)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if uid == owner || uid == 0 => {
                    connections.0.fetch_add(1, Ordering::SeqCst);
                    let peer = Peer { stream, connections: connections.clone() };
                    return Some((Ok(peer), (listener, connections)));
                }
                Ok(uid) => tracing::warn!("a connection from uid {uid} was refused"),
                Err(error) => tracing::warn!("a connection from nobody knows whom was refused: {error}"),
            }
        }
    })
}

/// An admitted connection; counted while it lives.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    connections: Connections,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connections.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connected for Peer {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_socket_is_private_from_birth_and_a_stale_one_is_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let lock = InstanceLock::acquire(&scratch.path().join("lock")).unwrap();
        let path = scratch.path().join("sock");
        drop(bind(&path, &lock).unwrap());
        assert!(path.exists(), "a dropped listener leaves its socket");
        let _listener = bind(&path, &lock).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let lock = InstanceLock::acquire(&scratch.path().join("lock")).unwrap();
        let path = scratch.path().join("sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, &lock), Err(BindError::InTheWay { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
