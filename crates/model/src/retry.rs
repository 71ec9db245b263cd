//! Retry state of a failed step. Stored with the file or slice, so that it survives a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Failures of a step; empty when it has not failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryState {
    /// Number of failures.
    pub attempt: u32,
    /// Error of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time of the first failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failed_at: Option<Timestamp>,
    /// Time of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failed_at: Option<Timestamp>,
    /// Time of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Timestamp>,
    /// The step can't succeed until a user fixes the cause; it is shown as such and rarely retried.
    pub parked: bool,
}

/// Wait after the n-th failure: `initial × factor^(n−1)`, at most `max`, each ±10 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub initial: Duration,
    /// Factor between two waits.
    pub factor: u32,
    /// The longest wait; also the wait of a parked step.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            factor: 2,
            max: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The wait after failure number `attempt` (from 1). `random` is any number; it selects the ±10
    /// %.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let max = u64::try_from(self.max.as_millis()).unwrap_or(u64::MAX);
        let initial = u64::try_from(self.initial.as_millis()).unwrap_or(u64::MAX);
        let growth = u64::from(self.factor).saturating_pow(attempt.saturating_sub(1));
        let base = initial.saturating_mul(growth).min(max);
        // 900 to 1100 thousandths.
        let jittered = u128::from(base) * u128::from(900 + random % 201) / 1000;
        Duration::from_millis(u64::try_from(jittered).unwrap_or(u64::MAX))
    }
}

impl RetryState {
    /// Records a failure. `terminal`: only a user can fix the cause.
    pub fn record_failure(
        &mut self,
        reason: String,
        terminal: bool,
        now: Timestamp,
        backoff: &Backoff,
        random: u64,
    ) {
        self.attempt = self.attempt.saturating_add(1);
        self.reason = Some(reason);
        self.first_failed_at.get_or_insert(now);
        self.last_failed_at = Some(now);
        self.parked = terminal;
        let attempt = if terminal { u32::MAX } else { self.attempt };
        self.retry_after = Some(now.plus(backoff.delay(attempt, random)));
    }

    /// Whether the step has not failed.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the step due now; later waits start from the beginning.
    pub fn retry_now(&mut self) {
        self.attempt = self.attempt.min(1);
        self.retry_after = None;
    }

    /// Whether the step is due. If the clock was set back far before the last failure, the wait is
    /// not extended.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match (self.retry_after, self.last_failed_at) {
            (Some(after), Some(failed)) => now >= after || now < failed,
            (Some(after), None) => now >= after,
            (None, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_vary_by_a_tenth() {
        let b = Backoff::default();
        assert_eq!(b.delay(1, 100), Duration::from_secs(1));
        assert_eq!(b.delay(4, 100), Duration::from_secs(8));
        assert_eq!(b.delay(u32::MAX, 100), Duration::from_secs(300));
        assert_eq!(b.delay(1, 0), Duration::from_millis(900));
        assert_eq!(b.delay(1, 200), Duration::from_millis(1100));
    }

    #[test]
    fn a_failed_step_is_due_after_its_wait_or_when_the_clock_went_back() {
        let mut r = RetryState::default();
        let at = |s: i64| Timestamp::from_millis(1_000_000 + s * 1000);
        assert!(r.is_due(at(0)));
        r.record_failure("no route".into(), false, at(0), &Backoff::default(), 100);
        r.record_failure("no route".into(), false, at(1), &Backoff::default(), 100);
        assert_eq!(
            (r.attempt, r.first_failed_at, r.last_failed_at),
            (2, Some(at(0)), Some(at(1)))
        );
        assert!(!r.is_due(at(2)));
        assert!(r.is_due(at(3)));
        assert!(r.is_due(at(-86_400)));
    }
}
