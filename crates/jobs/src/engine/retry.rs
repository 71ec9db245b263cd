//! Waits between attempts.

use std::time::Duration;

use forebay_model::Backoff;

use crate::definition::RetryConfig;

impl RetryConfig {
    /// The wait after failure number `failures` (from 1), or the one `asked` by the API if that is longer.
    pub(crate) fn wait_after(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let backoff = Backoff::doubling(self.wait.0, self.wait_max.0);
        let wait = backoff.delay(failures).max(asked.unwrap_or_default());
        wait.min(backoff.max)
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::HumanDuration;

    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_respect_retry_after() {
        let s = Duration::from_secs;
        let config = RetryConfig {
            wait: HumanDuration(s(1)),
            wait_max: HumanDuration(s(30)),
            ..RetryConfig::default()
        };
        let after = |n, asked| config.wait_after(n, asked);
        assert_eq!(
            [1, 2, 3, 9].map(|n| after(n, None)),
            [s(1), s(2), s(4), s(30)]
        );
        assert_eq!(after(u32::MAX, None), s(30));
        assert_eq!(after(1, Some(s(7))), s(7));
        assert_eq!(after(1, Some(s(7000))), s(30));
    }
}
