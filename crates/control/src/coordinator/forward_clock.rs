//! A clock for ages that never goes backwards.
//!
//! Files and slices are identified by their opening time, which only grows. If the wall clock is
//! set back by a day, open files would have no age for a day and would not be rotated. This clock
//! continues from the latest time observed.

use std::sync::Arc;

use forebay_model::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The wall clock's time, or the time it would have if it had not been set back.
#[derive(Debug)]
pub(super) struct ForwardClock {
    wall: Arc<dyn Clock>,
    /// Latest time observed, and when.
    latest: Mutex<(Timestamp, Instant)>,
}

impl ForwardClock {
    pub(super) fn new(wall: Arc<dyn Clock>) -> Self {
        let latest = Mutex::new((wall.now(), Instant::now()));
        Self { wall, latest }
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.wall.now()
    }

    /// The current time, at least `seen`.
    pub(super) fn now_after(&self, seen: Timestamp) -> Timestamp {
        // The pair is always written as a whole.
        let mut latest = self.latest.lock();
        let (shown, at) = *latest;
        let now = self.wall.now().max(shown.plus(at.elapsed())).max(seen);
        *latest = (now, Instant::now());
        now
    }
}

impl Clock for ForwardClock {
    fn now(&self) -> Timestamp {
        self.now_after(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forebay_model::ManualClock;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn time_advances_when_the_wall_clock_is_set_back_and_follows_it_forwards() {
        let start = Timestamp::from_millis(1_000_000_000_000);
        let wall = Arc::new(ManualClock::new(start.plus(DAY)));
        let clock = ForwardClock::new(Arc::<ManualClock>::clone(&wall));
        wall.set(start);
        assert_eq!(clock.now(), start.plus(DAY));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), start.plus(DAY + Duration::from_secs(5)));
        wall.set(start.plus(DAY * 2));
        assert_eq!(clock.now(), start.plus(DAY * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn observed_times_are_in_the_past() {
        let start = Timestamp::from_millis(1_000_000_000_000);
        let clock = ForwardClock::new(Arc::new(ManualClock::new(start)));
        assert_eq!(clock.now_after(start.plus(DAY)), start.plus(DAY));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), start.plus(DAY + Duration::from_secs(1)));
    }
}
