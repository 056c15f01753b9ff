//! The machine's end, as its sessions see it: they go before the init unmounts what they hold, and none begins.
//!
//! Sessions are nobody's unit, so an init would find them only in its last killing spree, when their directories could
//! not be unmounted any more; and systemd then waits ten seconds for a killed process that is not its child.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A machine that is not off by then may have been told otherwise: sessions may begin again.
const TAKEN_BACK_AFTER: Duration = Duration::from_secs(90);
/// How long sessions may take to end with the machine; longer than they are given before they are killed.
pub const SESSIONS_END_WITHIN: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub struct Ending {
    begun: watch::Sender<Option<Instant>>,
    running: AtomicUsize,
}

/// One session that runs, until it is dropped.
#[derive(Debug)]
pub struct Running<'a>(&'a Ending);

impl Default for Ending {
    fn default() -> Self {
        Self { begun: watch::Sender::new(None), running: AtomicUsize::new(0) }
    }
}

impl Ending {
    /// The machine ends. Sessions are told.
    pub fn begin(&self) {
        self.begun.send_replace(Some(Instant::now()));
    }

    /// It does not.
    pub fn take_back(&self) {
        self.begun.send_replace(None);
    }

    /// True while it ends.
    pub fn is_under_way(&self) -> bool {
        is_recent(&self.begun.borrow())
    }

    /// Until it ends.
    pub async fn begun(&self) {
        // The sender is ours: there is no error.
        let _ = self.begun.subscribe().wait_for(is_recent).await;
    }

    /// A session begins.
    pub fn session(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(self)
    }

    /// Waits until no session runs, or `limit` has passed. Not for a task: it blocks.
    pub fn wait_for_sessions(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.running.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

fn is_recent(begun: &Option<Instant>) -> bool {
    begun.is_some_and(|since| since.elapsed() < TAKEN_BACK_AFTER)
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_sessions_waits_for_the_last_and_no_longer_than_the_limit() {
        let ending = Ending::default();
        let (first, second) = (ending.session(), ending.session());
        let began = Instant::now();
        ending.wait_for_sessions(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30), "two run");
        drop(first);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                drop(second);
            });
            ending.wait_for_sessions(Duration::from_secs(60));
        });
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_machine_that_goes_on_after_all_takes_sessions_again() {
        let ending = Ending::default();
        assert!(!ending.is_under_way());
        ending.begin();
        assert!(ending.is_under_way());
        ending.take_back();
        assert!(!ending.is_under_way());
        let long_ago = Instant::now().checked_sub(TAKEN_BACK_AFTER);
        assert!(!is_recent(&long_ago));
    }
}
