//! When a daemon nobody needs may end.

use std::time::Duration;

use tokio::time::Instant;

/// Resolves when `busy` has been false for `limit` without a break. Never, if there is no limit.
pub async fn until_idle(limit: Option<Duration>, busy: impl Fn() -> bool) {
    let Some(limit) = limit else { return std::future::pending().await };
    let look = (limit / 10).clamp(Duration::from_millis(20), Duration::from_secs(2));
    let mut last_busy = Instant::now();
    loop {
        if busy() {
            last_busy = Instant::now();
        } else if last_busy.elapsed() >= limit {
            return;
        }
        tokio::time::sleep(look).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_starts_the_count_again() {
        let busy = AtomicBool::new(true);
        let began = Instant::now();
        let idle = until_idle(Some(Duration::from_millis(500)), || busy.load(Ordering::SeqCst));
        let work = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            busy.store(false, Ordering::SeqCst);
        };
        tokio::join!(idle, work);
        // The last look that found work was a look's distance before its end.
        assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    }
}
