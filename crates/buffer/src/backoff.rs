//! Backoff of a delivery worker after failures.

use std::time::Duration;

use crate::shared::BufferState;

/// Exponential backoff with jitter, or the wait that the provider requests.
#[derive(Debug, Default)]
pub(crate) struct DeliveryBackoff {
    failures: u32,
    until: Option<Duration>,
}

impl DeliveryBackoff {
    /// Starts a wait by the settings, or the one that the provider requested.
    pub(crate) fn after_failure(
        &mut self,
        shared: &BufferState,
        now: Duration,
        requested: Option<Duration>,
    ) {
        let config = &shared.config;
        let doubled = config.backoff.saturating_mul(1 << self.failures.min(20));
        let longest = doubled.min(config.backoff_max);
        self.failures = self.failures.saturating_add(1);
        let random = u32::try_from(shared.env.random() % 1_000).unwrap_or(0);
        // Half of it is random, so that partitions that failed together don't retry together.
        let wait = longest / 2 + longest / 2_000 * random;
        self.until = Some(now + requested.unwrap_or(wait));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_over(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// The remaining wait.
    pub(crate) fn left(&self, now: Duration) -> Option<Duration> {
        self.until
            .filter(|until| *until > now)
            .map(|until| until - now)
    }
}
