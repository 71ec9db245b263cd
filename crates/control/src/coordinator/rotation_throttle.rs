//! Limits the rate of rotations caused by age alone.

use forebay_model::HumanDuration;
use forebay_model::quota::{BucketLevel, TokenBucket};
use tokio::time::Instant;

use super::decide::RotationReason;
use super::view::CoordinatorStep;

/// Allowance that grows with time, up to that of one second.
#[derive(Debug)]
pub(super) struct RotationThrottle {
    /// [`None`]: no limit.
    bucket: Option<TokenBucket>,
    start: Instant,
}

impl RotationThrottle {
    pub(super) fn new(per_second: u32) -> Self {
        let (rate, window) = (u64::from(per_second), HumanDuration::secs(1));
        Self {
            bucket: TokenBucket::new(rate, window, BucketLevel::default()),
            start: Instant::now(),
        }
    }

    /// Drops age rotations beyond the allowance, youngest first. They are due again at the next
    /// check.
    pub(super) fn retain_allowed(&mut self, steps: &mut Vec<CoordinatorStep>) {
        let Some(bucket) = &self.bucket else { return };
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        let most = bucket.remaining_units(bucket.remaining(now));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut aged: Vec<_> = steps.iter().filter_map(aged).collect();
        if aged.len() > most {
            aged.sort_unstable();
            // Rotations with the same time are all kept or all dropped: times are milliseconds.
            let youngest = aged[most];
            steps.retain(|step| aged_before(step, youngest));
            aged.truncate(most);
        }
        // No more than what remains is taken, so it is available.
        _ = bucket.take(now, aged.len() as u64);
    }
}

/// Opening time of a file or slice that is rotated for its age.
fn aged(step: &CoordinatorStep) -> Option<forebay_model::Timestamp> {
    match step {
        CoordinatorStep::RotateFile(file, RotationReason::Age) => Some(file.opened_at),
        CoordinatorStep::RotateSlice(slice, RotationReason::Age) => Some(slice.opened_at),
        _ => None,
    }
}

fn aged_before(step: &CoordinatorStep, youngest: forebay_model::Timestamp) -> bool {
    aged(step).is_none_or(|opened_at| opened_at < youngest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn step(n: usize, reason: RotationReason) -> CoordinatorStep {
        let key = format!(
            "1/2/s/k{n}/2026-11-21T05:01:{:02}.{:03}Z",
            n / 1000,
            n % 1000
        );
        CoordinatorStep::RotateFile(key.parse().unwrap(), reason)
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_are_rotated_first() {
        let mut throttle = RotationThrottle::new(10);
        let mut left: Vec<usize> = (0..35).rev().collect();
        let mut rounds = Vec::new();
        while !left.is_empty() {
            let mut steps: Vec<_> = left.iter().map(|n| step(*n, RotationReason::Age)).collect();
            steps.push(step(50_000, RotationReason::Count));
            throttle.retain_allowed(&mut steps);
            let taken = steps.len() - 1;
            left.truncate(left.len() - taken);
            rounds.push(taken);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert_eq!(rounds, [10, 5, 5, 5, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn size_rotations_are_not_throttled() {
        let mut throttle = RotationThrottle::new(1);
        let mut steps: Vec<_> = (0..100).map(|n| step(n, RotationReason::Size)).collect();
        throttle.retain_allowed(&mut steps);
        assert_eq!(steps.len(), 100);
    }
}
