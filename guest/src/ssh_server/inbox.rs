//! Bytes from the client on their way to a process or socket that may not want them yet.
//!
//! The SSH session is one task for all channels. If it waited for a slow reader here, it could not
//! read the window adjustments that let the same process write: `cat` fed with more than its pipes
//! hold would stop for ever. So pushing never waits; the connection throttles the client instead
//! (see `Connection::adjust_window`), which bounds what gathers here.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

/// Above this many waiting bytes the client is asked to slow down.
const CONGESTED: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    ended: bool,
    abandoned: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    drained: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The connection's end. Dropping it ends the stream.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

/// The process's end. Dropping it makes later bytes vanish.
#[derive(Debug)]
pub struct Outlet(Arc<Shared>);

/// A connected pair.
pub fn inbox() -> (Inbox, Outlet) {
    let shared = Arc::new(Shared::default());
    (Inbox(shared.clone()), Outlet(shared))
}

impl Inbox {
    /// Adds bytes; never waits.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state();
        if !state.abandoned && !state.ended {
            state.waiting.extend_from_slice(bytes);
            self.0.changed.notify_one();
        }
    }

    /// No more bytes will come.
    pub fn end(&self) {
        self.0.state().ended = true;
        self.0.changed.notify_one();
    }

    /// The reader is far behind.
    pub fn is_congested(&self) -> bool {
        self.0.state().waiting.len() > CONGESTED
    }

    /// Waits until the reader has taken something, at most `limit`.
    pub async fn drained_within(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0.drained.notified()).await;
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.end();
    }
}

impl Outlet {
    /// Everything that is waiting, or `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.0.state();
                if !state.waiting.is_empty() {
                    let bytes = state.waiting.split().freeze();
                    self.0.drained.notify_one();
                    return Some(bytes);
                }
                if state.ended {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.abandoned = true;
        state.waiting = BytesMut::new();
        self.0.drained.notify_one();
    }
}
