//! One authenticated connection to one guest.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, load_secret_key};
use russh::{Disconnect, Preferred, cipher, kex};

use super::session::{Pty, SessionError, SessionReader, SessionWriter, open_session};

/// TCP, key exchange and authentication together; an emulated guest needs seconds for the key exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;
const WINDOW: u32 = 4 << 20;
const PACKET: u32 = 32 << 10;

/// Where a guest listens and how both sides prove themselves.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Address of the server.
    pub address: SocketAddr,
    /// Who to be there.
    pub user: String,
    /// One OpenSSH public key line. The server must have exactly this key.
    pub host_key: String,
    /// Our private key file.
    pub identity: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The pinned key line is not one.
    #[error("the pinned host key of {address} is not an OpenSSH public key")]
    InvalidHostKey {
        /// Of the server.
        address: SocketAddr,
        /// What is wrong with it.
        source: russh::keys::ssh_key::Error,
    },
    /// Our key cannot be used.
    #[error("cannot load the private key {}", path.display())]
    Identity {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: russh::keys::Error,
    },
    /// Nothing answers there, or not SSH.
    #[error("cannot open an SSH connection to {address}")]
    Transport {
        /// Of the server.
        address: SocketAddr,
        /// Why not.
        source: russh::Error,
    },
    /// It took too long.
    #[error("no SSH connection to {address} within {} s", waited.as_secs())]
    Timeout {
        /// Of the server.
        address: SocketAddr,
        /// The limit.
        waited: Duration,
    },
    /// Somebody else answers.
    #[error("the server at {address} has another host key than the one pinned for this VM")]
    HostKeyMismatch {
        /// Of the server.
        address: SocketAddr,
    },
    /// It does not let us in.
    #[error("the server at {address} refuses the key {} for user {user}", identity.display())]
    Denied {
        /// Of the server.
        address: SocketAddr,
        /// Who we asked to be.
        user: String,
        /// The key offered.
        identity: PathBuf,
    },
}

impl Classified for ConnectError {
    fn kind(&self) -> Kind {
        match self {
            Self::InvalidHostKey { .. } => Kind::Internal,
            Self::Identity { .. } => Kind::HostNotReady,
            Self::Transport { .. } | Self::Timeout { .. } => Kind::Failed,
            Self::HostKeyMismatch { .. } | Self::Denied { .. } => Kind::Refused,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::HostKeyMismatch { .. } => {
                vec!["Another program listens at the VM's address; see what runs with `banger vm list`.".into()]
            }
            Self::Denied { .. } => {
                vec!["The VM knows the key it was created with; make it anew with `banger vm create`.".into()]
            }
            Self::Transport { .. } | Self::Timeout { .. } => {
                vec!["See what the VM is doing with `banger vm logs`.".into()]
            }
            Self::InvalidHostKey { .. } | Self::Identity { .. } => Vec::new(),
        }
    }
}

struct PinnedKey {
    key: PublicKey,
    mismatch: Arc<AtomicBool>,
}

impl client::Handler for PinnedKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let same = match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.key.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        };
        if !same {
            self.mismatch.store(true, Ordering::Relaxed);
        }
        Ok(same)
    }
}

/// An opaque guard that keeps the connection alive while a session of it is in use.
pub(super) type KeepAlive = Arc<dyn std::any::Any + Send + Sync>;

/// Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle<PinnedKey>>,
    address: SocketAddr,
    user: Option<String>,
}

impl Connection {
    /// Connects, checks the host key and authenticates. Tries once.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(target: &SshTarget) -> Result<Self, ConnectError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, Self::connect_once(target)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::Timeout { address: target.address, waited: CONNECT_TIMEOUT }),
        }
    }

    async fn connect_once(target: &SshTarget) -> Result<Self, ConnectError> {
        let address = target.address;
        let pinned = PublicKey::from_openssh(target.host_key.trim())
            .map_err(|source| ConnectError::InvalidHostKey { address, source })?;
        let identity = load_secret_key(&target.identity, None)
            .map_err(|source| ConnectError::Identity { path: target.identity.clone(), source })?;
        let mismatch = Arc::new(AtomicBool::new(false));
        let config = Arc::new(config(&pinned));
        let handler = PinnedKey { key: pinned, mismatch: mismatch.clone() };
        let transport = |source| {
            if mismatch.load(Ordering::Relaxed) {
                ConnectError::HostKeyMismatch { address }
            } else {
                ConnectError::Transport { address, source }
            }
        };
        let mut handle = client::connect(config, address, handler).await.map_err(&transport)?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(identity), None);
        let outcome = handle.authenticate_publickey(&target.user, key).await.map_err(&transport)?;
        if !outcome.success() {
            let denied = ConnectError::Denied { address, user: target.user.clone(), identity: target.identity.clone() };
            return Err(denied);
        }
        Ok(Self { handle: Arc::new(handle), address, user: None })
    }

    /// The same connection, but commands and shells are this user's of a banger guest, as `USER[:GROUP]`; empty: the
    /// one its image names.
    #[must_use]
    pub fn as_user(&self, user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..self.clone() }
    }

    /// Starts `command` through the user's shell there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn exec(&self, command: &str, pty: Option<&Pty>) -> Result<(SessionWriter, SessionReader), SessionError> {
        let channel = self.open().await?;
        open_session(channel, self.handle.clone(), Some(command), pty, self.user.as_deref()).await
    }

    /// Starts the user's login shell.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn shell(&self, pty: &Pty) -> Result<(SessionWriter, SessionReader), SessionError> {
        let channel = self.open().await?;
        open_session(channel, self.handle.clone(), None, Some(pty), self.user.as_deref()).await
    }

    /// True once the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Where it goes.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says goodbye. Sessions of other clones end too.
    pub async fn close(self) {
        // Whether the farewell arrives changes nothing: the socket closes either way.
        if let Err(error) = self.handle.disconnect(Disconnect::ByApplication, "", "en").await {
            tracing::debug!(%error, address = %self.address, "the connection was gone already");
        }
    }

    async fn open(&self) -> Result<russh::Channel<client::Msg>, SessionError> {
        self.handle.channel_open_session().await.map_err(|source| SessionError::Open { source })
    }
}

fn config(pinned: &PublicKey) -> client::Config {
    let preferred = Preferred {
        // Nobody can record what does not leave the host, so a post-quantum exchange would protect it from no one; it
        // costs an emulated guest more than the rest of the handshake.
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::MLKEM768X25519_SHA256,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]),
        key: Cow::Owned(vec![pinned.algorithm()]),
        // AES-GCM is hardware on both sides of a microVM; the library would put ChaCha20 first.
        cipher: Cow::Borrowed(&[
            cipher::AES_256_GCM,
            cipher::AES_128_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
        ]),
        ..Preferred::default()
    };
    client::Config {
        preferred,
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        keepalive_interval: Some(KEEPALIVE_INTERVAL),
        keepalive_max: KEEPALIVE_MAX,
        nodelay: true,
        ..client::Config::default()
    }
}
