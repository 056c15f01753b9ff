//! The VMM's API: HTTP over the unix socket in the jail, one connection, one request at a time.

use std::io;
use std::path::Path;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// Starting the guest reads kernel and initrd; on an emulated host that takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer of it is longer.
const ANSWER_LIMIT: usize = 64 << 10;

/// The VMM could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens.
    #[error("cannot connect to the VMM")]
    Connect {
        /// The cause.
        source: io::Error,
    },
    /// The line broke.
    #[error("the VMM broke off while it was asked for {path}")]
    Broken {
        /// Of the API.
        path: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is silent.
    #[error("the VMM did not answer {path} within {} s", PATIENCE.as_secs())]
    Silent {
        /// Of the API.
        path: String,
    },
    /// It has no guest.
    #[error("the VMM did not start its guest")]
    NotStarted,
    /// It said no.
    #[error("the VMM refused {path}: {reason}")]
    Refused {
        /// Of the API.
        path: String,
        /// Its words.
        reason: String,
    },
}

impl ApiError {
    /// It has not come so far yet, or is gone.
    pub fn nobody_listens(&self) -> bool {
        match self {
            Self::Connect { source } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
            }
            Self::Broken { .. } | Self::Silent { .. } | Self::NotStarted | Self::Refused { .. } => false,
        }
    }
}

impl Classified for ApiError {
    fn kind(&self) -> Kind {
        match self {
            Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Silent { .. }
            | Self::NotStarted
            | Self::Refused { .. } => Kind::Failed,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Api {
    sender: SendRequest<Empty<Bytes>>,
    _connection: AbortOnDropHandle<()>,
}

impl Api {
    /// Connects to the VMM that listens at `socket`.
    ///
    /// # Errors
    /// [`ApiError::Connect`].
    pub async fn connect(socket: &Path) -> Result<Self, ApiError> {
        let stream = UnixStream::connect(socket).await.map_err(|source| ApiError::Connect { source })?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|source| ApiError::Connect { source: io::Error::other(source) })?;
        let driving = tokio::spawn(async move {
            // Whoever waits for an answer learns of it there.
            let _ = connection.await;
        });
        Ok(Self { sender, _connection: AbortOnDropHandle::new(driving) })
    }

    /// Whether the guest was started.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn is_started(&mut self) -> Result<bool, ApiError> {
        let described = self.ask("/").await?;
        Ok(described["state"] != "Not started")
    }

    async fn ask(&mut self, path: &str) -> Result<Value, ApiError> {
        let broken = |source| ApiError::Broken { path: path.to_owned(), source };
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header("host", "localhost")
            .header("accept", "application/json")
            .body(Empty::new())
            .map_err(|source| broken(source.into()))?;
        let exchange = async {
            self.sender.ready().await?;
            read(self.sender.send_request(request).await?).await
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        let (succeeded, body) = answered.map_err(|_| ApiError::Silent { path: path.to_owned() })?.map_err(broken)?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        if succeeded {
            return Ok(said);
        }
        let text = || String::from_utf8_lossy(&body).into_owned();
        let reason = said["fault_message"].as_str().map_or_else(text, str::to_owned);
        Err(ApiError::Refused { path: path.to_owned(), reason })
    }
}

async fn read(response: Response<Incoming>) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let succeeded = response.status().is_success();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await?;
    Ok((succeeded, body.to_bytes()))
}
