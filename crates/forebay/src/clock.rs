//! The real clocks: this and `random.rs` are where the binary meets the world.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use forebay_model::{Clock, Timestamp};

/// The operating system's clock: what records and definitions are stamped with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// What ages are measured by: it follows the operating system's clock forwards, and goes on by
/// itself when that is set back. A file that was opened before would otherwise not get old for as
/// long as the clock was set back by.
#[derive(Debug)]
pub(crate) struct SteadyClock {
    wall: Box<dyn Clock>,
    begun: Instant,
    /// What is shown at `begun`, in milliseconds since 1970.
    base: AtomicI64,
}

impl SteadyClock {
    /// A clock that shows `wall`'s time, but none before `latest`: the latest time that is known
    /// from an earlier run.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else is given"
    )]
    pub(crate) fn new(wall: Box<dyn Clock>, latest: Timestamp) -> Self {
        let base = wall.now().max(latest);
        Self {
            wall,
            begun: Instant::now(),
            base: AtomicI64::new(base.as_millis()),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let wall = self.wall.now().as_millis().saturating_sub(passed);
        let before = self.base.fetch_max(wall, Ordering::Relaxed);
        Timestamp::from_millis(before.max(wall).saturating_add(passed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use forebay_model::ManualClock;

    use super::*;

    /// A clock that the test goes on setting.
    #[derive(Debug)]
    struct Shared(Arc<ManualClock>);

    impl Clock for Shared {
        fn now(&self) -> Timestamp {
            self.0.now()
        }
    }

    #[test]
    fn it_follows_forwards_and_never_goes_back() {
        let day = Duration::from_secs(86_400);
        let start = Timestamp::from_millis(1_800_000_000_000);
        let wall = Arc::new(ManualClock::at(start));
        let steady = SteadyClock::new(Box::new(Shared(Arc::clone(&wall))), start);
        let near = |a: Timestamp, b: Timestamp| a >= b && a.since(b) < Duration::from_secs(60);
        assert!(near(steady.now(), start));
        wall.set(start.plus(day));
        let ahead = steady.now();
        assert!(near(ahead, start.plus(day)));
        wall.set(start);
        assert!(steady.now() >= ahead);
        assert!(near(steady.now(), start.plus(day)));
    }

    #[test]
    fn it_begins_where_an_earlier_run_was() {
        let wall = ManualClock::at(Timestamp::from_millis(1_000));
        let latest = Timestamp::from_millis(5_000);
        let steady = SteadyClock::new(Box::new(wall), latest);
        assert!(steady.now() >= latest);
    }
}
