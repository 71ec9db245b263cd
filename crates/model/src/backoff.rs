//! Exponential backoff.

use std::time::Duration;

/// Wait after the n-th failure: `initial × factor^(n−1)`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure.
    pub initial: Duration,
    /// Factor between two waits.
    pub factor: u32,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::doubling(Duration::from_secs(1), Duration::from_secs(60))
    }
}

impl Backoff {
    /// Waits that double from `initial` to `max`.
    pub const fn doubling(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            factor: 2,
            max,
        }
    }

    /// The wait after failure number `failures` (from 1).
    pub fn delay(&self, failures: u32) -> Duration {
        let growth = self.factor.saturating_pow(failures.saturating_sub(1));
        self.initial.saturating_mul(growth).min(self.max)
    }

    /// [`Self::delay`] ±10 %, so that those that failed together don't retry together. `random` is
    /// any number.
    pub fn jittered_delay(&self, failures: u32, random: u64) -> Duration {
        // 900 to 1100 thousandths.
        let thousandths = 900 + u32::try_from(random % 201).unwrap_or(100);
        self.delay(failures).saturating_mul(thousandths) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_vary_by_a_tenth() {
        let b = Backoff::default();
        assert_eq!(b.delay(4), Duration::from_secs(8));
        assert_eq!(b.jittered_delay(1, 100), Duration::from_secs(1));
        assert_eq!(b.jittered_delay(4, 100), Duration::from_secs(8));
        assert_eq!(b.jittered_delay(u32::MAX, 100), Duration::from_secs(60));
        assert_eq!(b.jittered_delay(1, 0), Duration::from_millis(900));
        assert_eq!(b.jittered_delay(1, 200), Duration::from_millis(1100));
    }
}
