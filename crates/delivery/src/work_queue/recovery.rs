//! Ends the waits of items when their destination recovers: after an outage, the first success
//! makes all items of that destination due. A start of the process does so too.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{RetryState, Timestamp};
use parking_lot::Mutex;

/// Failures without a success for this long are an outage. A single item that always fails among
/// others that succeed is therefore not tried again with each of them.
const OUTAGE_MIN: Duration = Duration::from_secs(5);

/// Outages of the destinations `D`. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryTracker<D> {
    started_at: Timestamp,
    destinations: Arc<Mutex<HashMap<D, DestinationHealth>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct DestinationHealth {
    /// First failure since the last success.
    failing_since: Option<Timestamp>,
    recovered_at: Option<Timestamp>,
}

impl<D: Eq + Hash> RecoveryTracker<D> {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            destinations: Arc::default(),
        }
    }

    /// Records the outcome of an attempt.
    pub(crate) fn record(&self, destination: D, succeeded: bool, now: Timestamp) {
        let mut all = self.destinations.lock();
        let health = all.entry(destination).or_default();
        if !succeeded {
            health.failing_since.get_or_insert(now);
        } else if let Some(since) = health.failing_since.take()
            && now.since(since) >= OUTAGE_MIN
        {
            health.recovered_at = Some(now);
        }
    }

    /// Whether an item is to be tried now: its wait is over, or its last failure was before the
    /// start of the process, or before the recovery of its destination. A parked item waits for an
    /// operator, not for its destination.
    pub(crate) fn is_due(&self, retry: &RetryState, destination: &D, now: Timestamp) -> bool {
        let Some(failed_at) = retry.last_failed_at else {
            return retry.is_due(now);
        };
        if retry.is_due(now) || failed_at < self.started_at {
            return true;
        }
        let all = self.destinations.lock();
        let recovered_at = all.get(destination).and_then(|health| health.recovered_at);
        !retry.parked && recovered_at.is_some_and(|at| failed_at < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_model::Backoff;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1000)
    }

    fn failed(seconds: i64, parked: bool) -> RetryState {
        let mut retry = RetryState::default();
        for _ in 0..6 {
            retry.record_failure("down".into(), parked, at(seconds), &Backoff::default(), 100);
        }
        retry
    }

    #[test]
    fn a_recovery_ends_the_waits_of_its_destination() {
        let tracker = RecoveryTracker::new(at(0));
        tracker.record("a", false, at(10));
        tracker.record("a", false, at(14));
        tracker.record("b", false, at(14));
        assert!(!tracker.is_due(&failed(14, false), &"a", at(16)));
        tracker.record("a", true, at(16));
        assert!(tracker.is_due(&failed(14, false), &"a", at(16)));
        assert!(
            !tracker.is_due(&failed(14, false), &"b", at(16)),
            "another destination"
        );
        assert!(!tracker.is_due(&failed(14, true), &"a", at(16)), "parked");
        assert!(
            !tracker.is_due(&failed(16, false), &"a", at(17)),
            "it failed again"
        );
    }

    #[test]
    fn one_item_that_always_fails_is_not_hurried_by_others_that_succeed() {
        let tracker = RecoveryTracker::new(at(0));
        for second in 10..20 {
            tracker.record("a", false, at(second));
            tracker.record("a", true, at(second));
            assert!(!tracker.is_due(&failed(second, false), &"a", at(second + 1)));
        }
    }

    #[test]
    fn a_start_tries_everything_once() {
        let tracker = RecoveryTracker::new(at(20));
        assert!(tracker.is_due(&failed(19, true), &"a", at(20)));
        assert!(tracker.is_due(&failed(19, false), &"a", at(20)));
        assert!(!tracker.is_due(&failed(20, true), &"a", at(21)));
        assert!(tracker.is_due(&RetryState::default(), &"a", at(20)));
    }
}
