//! Waiting is asking again until an answer or a limit, never just letting time pass.

use std::time::{Duration, Instant};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until there is an answer; `None` once `limit` has passed.
pub fn poll<T>(limit: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until `predicate` holds.
///
/// # Panics
/// If it does not within `limit`, saying `what`.
pub fn until(what: &str, limit: Duration, mut predicate: impl FnMut() -> bool) {
    assert!(poll(limit, || predicate().then_some(())).is_some(), "not within {limit:?}: {what}");
}
