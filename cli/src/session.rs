//! One command or shell in a guest, connected to our own stdin, stdout and stderr until it ends.
//!
//! ```text
//!  stdin thread ──▶ SessionWriter ══ SSH ══ SessionReader ──▶ loop ──▶ output thread ──▶ stdout, stderr
//!  signals, window size ─────────────┘
//! ```
//! The loop never blocks: a reader of our stdout that is slow stops the guest, not our signal handling.
//! [`terminal`] is raw mode, [`input`] and [`output`] are the two threads, [`command_line`] is the words sent.

pub mod command_line;
mod input;
mod output;
pub mod status;
pub mod terminal;

use std::sync::Arc;

use banger_proto::failure::Kind;
use banger_sync::ssh::{Connection, Pty, SessionEvent, SessionReader, SessionWriter};
use bytes::Bytes;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::CliError;
use crate::interrupt::{Interrupt, Interrupts};
use crate::ui::{Channel, Ui};
pub use status::End;
use terminal::RawTerminal;

/// So many signals end the wait for a command that ignores them.
const PATIENCE: u32 = 3;

/// What to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// For the remote shell; `None` is a login shell.
    pub command: Option<String>,
    /// Give it a terminal: ours.
    pub terminal: Terminal,
    /// Whose it is in the guest; empty: whom the image names, else root's.
    pub user: String,
}

/// Whether the remote side has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Streams stay apart and byte-exact.
    None,
    /// Our terminal is passed through in raw mode.
    Ours,
}

/// Runs it and waits for its end.
///
/// # Errors
/// The session could not be started or was lost.
pub async fn run(
    connection: &Connection,
    request: &Request,
    ui: &Arc<Ui>,
    interrupts: &mut Interrupts,
) -> Result<End, CliError> {
    let pty = (request.terminal == Terminal::Ours).then(terminal::describe);
    let started = interrupts.guard("starting the command", start(connection, request, pty.as_ref())).await?;
    let (writer, reader) = started;
    // Only now: an error above is told on an ordinary terminal.
    let raw = match request.terminal {
        Terminal::Ours => Some(RawTerminal::enter()?),
        Terminal::None => None,
    };
    let end = pump(Arc::new(writer), reader, ui, interrupts, request.terminal).await;
    drop(raw);
    end
}

async fn start(
    connection: &Connection,
    request: &Request,
    pty: Option<&Pty>,
) -> Result<(SessionWriter, SessionReader), CliError> {
    let connection = connection.as_user(&request.user);
    let shell = pty.filter(|_| request.command.is_none());
    match (shell, &request.command) {
        (Some(pty), _) => Ok(connection.shell(pty).await?),
        (None, command) => {
            let command = command.as_deref().unwrap_or(command_line::LOGIN_SHELL);
            Ok(connection.exec(command, pty).await?)
        }
    }
}

async fn pump(
    writer: Arc<SessionWriter>,
    mut reader: SessionReader,
    ui: &Arc<Ui>,
    interrupts: &mut Interrupts,
    terminal: Terminal,
) -> Result<End, CliError> {
    let input = input::forward(Arc::clone(&writer));
    let (output, written) = output::start(Arc::clone(ui));
    let mut resized = signal(SignalKind::window_change()).map_err(|error| {
        CliError::new(Kind::Internal, "cannot watch the window size")
            .map(|failure| failure.caused_by(error.to_string()))
    })?;
    let mut pending: Option<(Channel, Bytes)> = None;
    let mut signals = 0;
    let end = loop {
        tokio::select! {
            event = reader.next(), if pending.is_none() => match event {
                SessionEvent::Stdout(bytes) => pending = Some((Channel::Data, bytes)),
                SessionEvent::Stderr(bytes) => pending = Some((Channel::Notes, bytes)),
                SessionEvent::Exit(status) => break Ok(End::from(status)),
                SessionEvent::Closed => break Err(lost()),
            },
            permit = output.reserve(), if pending.is_some() => match permit {
                Ok(permit) => permit.send(pending.take().expect("the branch is taken only with something pending")),
                Err(_) => break Ok(End::OutputClosed),
            },
            () = output.closed() => break Ok(End::OutputClosed),
            interrupt = interrupts.next() => {
                signals += 1;
                // With the terminal gone, or asked to end, an interactive shell has nobody left to serve.
                let hopeless = terminal == Terminal::Ours && matches!(interrupt, Interrupt::Hup | Interrupt::Term);
                if hopeless || signals >= PATIENCE {
                    break Ok(End::GaveUp(interrupt));
                }
                // A server that cannot deliver it is no reason to stop waiting; the next signals end that.
                let _ = writer.signal(interrupt.to_session()).await;
            }
            _ = resized.recv(), if terminal == Terminal::Ours => {
                let size = terminal::describe();
                let _ = writer.resize(size.columns, size.rows).await;
            }
        }
    };
    input.abort();
    drop(output);
    if matches!(end, Ok(End::Code(_) | End::Signal { .. }) | Err(_)) {
        // Everything the command wrote is out before its status is told, unless the user no longer wants to wait.
        tokio::select! {
            _ = written => {}
            interrupt = interrupts.next() => return Ok(End::GaveUp(interrupt)),
        }
    } else {
        let _ = writer.close().await;
    }
    end
}

fn lost() -> CliError {
    CliError::new(Kind::Failed, "the connection to the guest was lost before the command ended")
        .hint("See whether the VM still runs with `banger vm list`.")
}
