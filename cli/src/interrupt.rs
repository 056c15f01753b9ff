//! The signals people and supervisors stop programs with, as a stream. From [`Interrupts::install`] on they no
//! longer end the process by themselves: whoever waits decides.

use std::io;

use banger_proto::failure::Kind;
use banger_sync::ssh::SessionSignal;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// A signal that asks us to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C.
    Int,
    /// A polite end.
    Term,
    /// The terminal is gone.
    Hup,
    /// Ctrl-\.
    Quit,
}

/// The stream of them.
pub struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
    quit: Signal,
}

impl Interrupt {
    /// What the remote command gets.
    pub fn to_session(self) -> SessionSignal {
        match self {
            Self::Int => SessionSignal::Int,
            Self::Term => SessionSignal::Term,
            Self::Hup => SessionSignal::Hup,
            Self::Quit => SessionSignal::Quit,
        }
    }
}

impl Interrupts {
    /// Catches the signals.
    ///
    /// # Errors
    /// [`Kind::Internal`] if the runtime cannot.
    pub fn install() -> Result<Self, CliError> {
        let all = || -> io::Result<Self> {
            Ok(Self {
                int: signal(SignalKind::interrupt())?,
                term: signal(SignalKind::terminate())?,
                hup: signal(SignalKind::hangup())?,
                quit: signal(SignalKind::quit())?,
            })
        };
        all().map_err(|error| {
            CliError::new(Kind::Internal, "cannot catch signals").map(|failure| failure.caused_by(error.to_string()))
        })
    }

    /// The next one. Cancelling this future loses nothing.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.int.recv() => Interrupt::Int,
            _ = self.term.recv() => Interrupt::Term,
            _ = self.hup.recv() => Interrupt::Hup,
            _ = self.quit.recv() => Interrupt::Quit,
        }
    }

    /// `work`, unless a signal comes first: then `what` was cancelled and `work` is dropped.
    ///
    /// # Errors
    /// Of `work`, or [`Kind::Cancelled`].
    pub async fn guard<T>(
        &mut self,
        what: &str,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::select! {
            biased;
            done = work => done,
            _ = self.next() => Err(CliError::cancelled(format!("cancelled while {what}"))),
        }
    }

    /// `work`, which only the second signal from now on ends: for clean-up.
    ///
    /// # Errors
    /// Of `work`, or [`Kind::Cancelled`].
    pub async fn guard_stubbornly<T>(
        &mut self,
        ui: &crate::ui::Ui,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = self.next() => ui.warn("still cleaning up; interrupt once more to give up"),
        }
        self.guard("cleaning up", work).await
    }
}
