//! One command or shell on a connection: bytes in, events out, exit status last.
//!
//! Reading and writing are separate values so that two tasks can drive them. Both are bounded: a writer waits
//! for the peer's window, and a reader that is not read stops the peer.

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest_contract::SESSION_USER_VARIABLE;
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::watch;

use super::connection::KeepAlive;

const STDERR_STREAM: u32 = 1;

/// A terminal to run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pty {
    /// Value of `TERM`.
    pub term: String,
    /// Width in characters.
    pub columns: u32,
    /// Height in characters.
    pub rows: u32,
}

/// Why a session could not be started or written to.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No channel.
    #[error("cannot open a session on the SSH connection")]
    Open {
        /// Why not.
        source: russh::Error,
    },
    /// A request could not be sent.
    #[error("cannot send to the SSH session")]
    Send {
        /// Why not.
        source: russh::Error,
    },
    /// The server said no.
    #[error("the server refuses to {what}")]
    Refused {
        /// What was asked for.
        what: &'static str,
    },
    /// The other side ended it.
    #[error("the SSH session is closed")]
    Closed,
}

impl Classified for SessionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } | Self::Send { .. } | Self::Closed => Kind::Failed,
            Self::Refused { .. } => Kind::Refused,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this.
    Code(u32),
    /// A signal killed it; the name has no `SIG` prefix.
    Signal(String),
}

/// What arrives from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Bytes of standard output (of the terminal, if there is one).
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The end, after all output.
    Exit(ExitStatus),
    /// The end without a status: the connection was lost. Repeated from then on.
    Closed,
}

/// Signals that can be sent to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSignal {
    /// SIGINT
    Int,
    /// SIGTERM
    Term,
    /// SIGHUP
    Hup,
    /// SIGQUIT
    Quit,
    /// SIGKILL
    Kill,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

/// The side that writes.
pub struct SessionWriter {
    half: ChannelWriteHalf<Msg>,
    closed: watch::Receiver<bool>,
    _connection: KeepAlive,
}

impl SessionWriter {
    /// Sends bytes to standard input; returns once the peer's window took them.
    ///
    /// # Errors
    /// [`SessionError`], also when the session ends meanwhile.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), SessionError> {
        // A closed channel never grants window again, so waiting for it alone could last forever.
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            sent = self.half.data_bytes(bytes) => sent.map_err(|source| SessionError::Send { source }),
            _ = closed.wait_for(|closed| *closed) => Err(SessionError::Closed),
        }
    }

    /// Ends standard input.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn eof(&self) -> Result<(), SessionError> {
        self.half.eof().await.map_err(|source| SessionError::Send { source })
    }

    /// Asks the server to signal the command.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn signal(&self, signal: SessionSignal) -> Result<(), SessionError> {
        let signal = match signal {
            SessionSignal::Int => Sig::INT,
            SessionSignal::Term => Sig::TERM,
            SessionSignal::Hup => Sig::HUP,
            SessionSignal::Quit => Sig::QUIT,
            SessionSignal::Kill => Sig::KILL,
            SessionSignal::Usr1 => Sig::USR1,
            SessionSignal::Usr2 => Sig::Custom("USR2".into()),
        };
        self.half.signal(signal).await.map_err(|source| SessionError::Send { source })
    }

    /// Tells the terminal its new size.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn resize(&self, columns: u32, rows: u32) -> Result<(), SessionError> {
        self.half.window_change(columns, rows, 0, 0).await.map_err(|source| SessionError::Send { source })
    }

    /// Closes the channel: the command sees its terminal or pipes go away.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn close(&self) -> Result<(), SessionError> {
        self.half.close().await.map_err(|source| SessionError::Send { source })
    }
}

/// The side that reads.
pub struct SessionReader {
    half: ChannelReadHalf,
    exit: Option<ExitStatus>,
    closed: watch::Sender<bool>,
    _connection: KeepAlive,
}

impl SessionReader {
    /// The next event. Cancelling this future loses nothing.
    pub async fn next(&mut self) -> SessionEvent {
        while !*self.closed.borrow() {
            match self.half.wait().await {
                Some(ChannelMsg::Data { data }) => return SessionEvent::Stdout(data),
                Some(ChannelMsg::ExtendedData { data, ext: STDERR_STREAM }) => return SessionEvent::Stderr(data),
                // Servers may send the status before the last output: it is kept until the channel closes.
                Some(ChannelMsg::ExitStatus { exit_status }) => self.exit = Some(ExitStatus::Code(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.exit = Some(ExitStatus::Signal(signal_text(signal_name)));
                }
                Some(ChannelMsg::Close) | None => {
                    self.closed.send_replace(true);
                }
                Some(_) => {}
            }
        }
        match self.exit.take() {
            Some(status) => SessionEvent::Exit(status),
            None => SessionEvent::Closed,
        }
    }
}

fn signal_text(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name,
        named => format!("{named:?}"),
    }
}

pub(super) async fn open_session(
    channel: Channel<Msg>,
    connection: KeepAlive,
    command: Option<&str>,
    pty: Option<&Pty>,
    user: Option<&str>,
) -> Result<(SessionWriter, SessionReader), SessionError> {
    let send = |source| SessionError::Send { source };
    let (mut read, write) = channel.split();
    if let Some(user) = user {
        // No reply wanted: a server that takes no variables goes on as the login's user.
        write.set_env(false, SESSION_USER_VARIABLE, user).await.map_err(send)?;
    }
    if let Some(pty) = pty {
        write.request_pty(true, &pty.term, pty.columns, pty.rows, 0, 0, &[]).await.map_err(send)?;
        wait_for_consent(&mut read, "give a terminal").await?;
    }
    match command {
        Some(command) => write.exec(true, command).await.map_err(send)?,
        None => write.request_shell(true).await.map_err(send)?,
    }
    wait_for_consent(&mut read, if command.is_some() { "run a command" } else { "start a shell" }).await?;
    let (sender, receiver) = watch::channel(false);
    let writer = SessionWriter { half: write, closed: receiver, _connection: connection.clone() };
    let reader = SessionReader { half: read, exit: None, closed: sender, _connection: connection };
    Ok((writer, reader))
}

async fn wait_for_consent(read: &mut ChannelReadHalf, what: &'static str) -> Result<(), SessionError> {
    loop {
        match read.wait().await {
            Some(ChannelMsg::Success) => return Ok(()),
            Some(ChannelMsg::Failure | ChannelMsg::OpenFailure(_)) => return Err(SessionError::Refused { what }),
            Some(ChannelMsg::Close) | None => return Err(SessionError::Closed),
            // Nothing of ours runs before consent, so window changes are all that can come.
            Some(_) => {}
        }
    }
}
