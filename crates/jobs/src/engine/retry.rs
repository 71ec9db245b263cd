//! Attempts and the waits between them.

use std::time::Duration;

use crate::definition::RetryConfig;

/// The wait after failure number `failures` (from 1): twice the previous one, or `asked` by the API if that is
/// longer; at most `max`.
pub(crate) fn wait(
    first: Duration,
    max: Duration,
    failures: u32,
    asked: Option<Duration>,
) -> Duration {
    let doubled = first.saturating_mul(1u32 << failures.saturating_sub(1).min(20));
    doubled.max(asked.unwrap_or_default()).min(max)
}

impl RetryConfig {
    /// The wait after failure number `failures` (from 1).
    pub(crate) fn wait_after(&self, failures: u32, asked: Option<Duration>) -> Duration {
        wait(self.wait.0, self.wait_max.0, failures, asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_respect_retry_after() {
        let s = Duration::from_secs;
        let after = |n, asked| wait(s(1), s(30), n, asked);
        assert_eq!(
            [1, 2, 3, 9].map(|n| after(n, None)),
            [s(1), s(2), s(4), s(30)]
        );
        assert_eq!(after(u32::MAX, None), s(30));
        assert_eq!(after(1, Some(s(7))), s(7));
        assert_eq!(after(1, Some(s(7000))), s(30));
    }
}
