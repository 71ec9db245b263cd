//! Retry state of a failed step. Stored with the file or slice, so that it survives a restart.

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::time::Timestamp;

/// A parked step waits so many times the longest wait: an operator is to mend it.
const PARKED_FACTOR: u32 = 5;

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
        let wait = match terminal {
            true => backoff
                .jittered_delay(u32::MAX, random)
                .saturating_mul(PARKED_FACTOR),
            false => backoff.jittered_delay(self.attempt, random),
        };
        self.retry_after = Some(now.plus(wait));
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
        r.record_failure("no column".into(), true, at(10), &Backoff::default(), 100);
        assert!(!r.is_due(at(309)) && r.is_due(at(310)), "parked");
    }
}
