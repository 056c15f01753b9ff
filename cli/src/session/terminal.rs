//! Our terminal in raw mode, and back in the mode it was on every way out, a panic included.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use banger_proto::failure::{Classified, Kind};
use banger_sync::ssh::Pty;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The mode to go back to while raw mode is on.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// The terminal could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot put the terminal into raw mode")]
pub struct TerminalError {
    source: io::Error,
}

impl Classified for TerminalError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    fn hints(&self) -> Vec<String> {
        vec!["Run it without `--tty`, or in a terminal.".into()]
    }
}

/// Raw mode until dropped.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Switches stdin's terminal to raw mode.
    ///
    /// # Errors
    /// [`TerminalError`] if stdin is no terminal.
    pub fn enter() -> Result<Self, TerminalError> {
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                previous(panic);
            }));
        });
        let run = || -> io::Result<()> {
            let before = tcgetattr(rustix::stdio::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
            Ok(())
        };
        run().map_err(|source| TerminalError { source })?;
        Ok(Self(()))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Now, not after draining: a terminal nobody reads must not hold us here.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}

/// Kind and size of our terminal.
pub fn describe() -> Pty {
    let size = tcgetwinsize(rustix::stdio::stdin()).or_else(|_| tcgetwinsize(rustix::stdio::stdout()));
    let (columns, rows) = match size {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (u32::from(size.ws_col), u32::from(size.ws_row)),
        Ok(_) | Err(_) => (80, 24),
    };
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty()).unwrap_or_else(|| "dumb".into());
    Pty { term, columns, rows }
}
