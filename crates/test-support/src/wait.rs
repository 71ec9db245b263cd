//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

/// Timeout of each wait: longer than any of them takes on a busy machine.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

const INTERVAL: Duration = Duration::from_millis(10);

/// Blocks the thread until `check` returns a value; panics after [`WAIT_MAX`].
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// As [`wait_for`], for async tests.
pub async fn poll_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(WAIT_MAX, async {
        loop {
            if let Some(found) = check() {
                return found;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
    let waited = found.await;
    waited.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// As [`poll_for`], until a condition holds.
pub async fn poll_until(what: &str, mut holds: impl FnMut() -> bool) {
    poll_for(what, || holds().then_some(())).await;
}
