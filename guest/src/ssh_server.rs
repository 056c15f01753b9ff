//! The agent's SSH server: reachable before the image's init has started anything.
//!
//! ```text
//! listener ── connection (one task each, keys and channels) ─┬─ process (exec, shell, pty)
//!                                                             └─ forward (direct-tcpip)
//! ```
//!
//! Public keys only. Who has one may be anybody in the guest: sessions are the login name's, or, if the client sets
//! `BANGER_USER`, that account's (empty: the one the image's configuration names). It never forks per connection, never
//! consults PAM or NSS, and never starts anything before authentication.

mod connection;
mod environment;
mod forward;
mod inbox;
mod process;
mod pump;
mod terminal;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::keys::{PrivateKey, PublicKey};
use russh::{Disconnect, MethodKind, MethodSet, Preferred, cipher, compression, server};
use tokio::net::{TcpListener, TcpStream};

use self::connection::Connection;
pub use self::environment::DEFAULT_PATH;
use crate::agent::ending::Ending;

/// Anybody may connect; nobody may stay without a key.
const AUTHENTICATION_LIMIT: Duration = Duration::from_secs(60);

/// What the server needs to know.
#[derive(Debug)]
pub struct Settings {
    /// OpenSSH private key (PEM).
    pub host_key: String,
    /// OpenSSH one-line public keys.
    pub authorized_keys: Vec<String>,
    /// `KEY=VALUE` lines from the image.
    pub environment: Vec<String>,
    /// Who the image's configuration wants sessions to be, as `USER[:GROUP]`; empty: root.
    pub user: String,
    /// Where sessions start; empty: the home directory.
    pub working_directory: String,
    /// The guest's own address, as good as loopback for forwards.
    pub address: Option<IpAddr>,
}

/// Why there is no SSH server.
#[derive(Debug, thiserror::Error)]
pub enum SshServerError {
    /// The seed's host key is unusable.
    #[error("cannot read the SSH host key of the seed")]
    HostKey {
        /// What the parser said.
        source: russh::keys::ssh_key::Error,
    },
    /// No key can log in.
    #[error("cannot serve SSH: the seed has no usable authorized key")]
    NoAuthorizedKey,
    /// The port is taken or the network is unusable.
    #[error("cannot listen on {address} for SSH")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Shared by all connections.
struct Shared {
    authorized: Vec<PublicKey>,
    settings: Settings,
    end: Arc<Ending>,
}

/// A bound server, not yet accepting.
pub struct SshServer {
    listener: TcpListener,
    config: Arc<server::Config>,
    shared: Arc<Shared>,
}

impl SshServer {
    /// Checks the keys and binds `address`. Sessions end with `end`.
    ///
    /// # Errors
    /// [`SshServerError`].
    pub async fn bind(address: SocketAddr, settings: Settings, end: Arc<Ending>) -> Result<Self, SshServerError> {
        let host_key =
            PrivateKey::from_openssh(&settings.host_key).map_err(|source| SshServerError::HostKey { source })?;
        let authorized: Vec<PublicKey> =
            settings.authorized_keys.iter().filter_map(|line| PublicKey::from_openssh(line.trim()).ok()).collect();
        if authorized.is_empty() {
            return Err(SshServerError::NoAuthorizedKey);
        }
        let listener = TcpListener::bind(address).await.map_err(|source| SshServerError::Listen { address, source })?;
        let shared = Arc::new(Shared { authorized, settings, end });
        Ok(Self { listener, config: Arc::new(config(host_key)), shared })
    }

    /// The same server on another address as well.
    ///
    /// # Errors
    /// [`SshServerError::Listen`].
    pub async fn beside(&self, address: SocketAddr) -> Result<Self, SshServerError> {
        let listener = TcpListener::bind(address).await.map_err(|source| SshServerError::Listen { address, source })?;
        Ok(Self { listener, config: self.config.clone(), shared: self.shared.clone() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Accepts connections for ever; ended, it listens no more, and connections stay.
    pub async fn run(self) {
        self.serve().await;
    }

    /// [`SshServer::run`], lent.
    pub async fn serve(&self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(self.config.clone(), stream, self.shared.clone()));
                }
                // Out of descriptors or memory: the connections there are will end and free some.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

fn config(host_key: PrivateKey) -> server::Config {
    // The client's order decides, so AES comes first for clients that have no opinion, and ChaCha20
    // stays for those that measured it to be faster on a CPU without AES instructions.
    let ciphers = vec![cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];
    server::Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        keys: vec![host_key],
        auth_rejection_time: Duration::from_millis(200),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 20,
        nodelay: true,
        // A session may be silent for days; TCP's own keep-alive finds dead peers without waking
        // a client that is only stopped.
        inactivity_timeout: None,
        preferred: Preferred {
            cipher: ciphers.into(),
            compression: vec![compression::NONE].into(),
            ..Preferred::DEFAULT
        },
        ..server::Config::default()
    }
}

async fn serve(config: Arc<server::Config>, stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let _ = keep_alive(&stream);
    let authenticated = Arc::new(AtomicBool::new(false));
    let connection = Connection::new(shared, authenticated.clone());
    let started = tokio::time::timeout(AUTHENTICATION_LIMIT, server::run_stream(config, stream, connection)).await;
    let Ok(Ok(mut session)) = started else { return };
    if tokio::time::timeout(AUTHENTICATION_LIMIT, &mut session).await.is_ok() {
        return;
    }
    if !authenticated.load(Ordering::Relaxed) {
        let reason = "not authenticated in time".to_owned();
        let _ = session.handle().disconnect(Disconnect::ByApplication, reason, String::new()).await;
    }
    let _ = session.await;
}

fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 6)
}
