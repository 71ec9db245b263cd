//! Limits the rate of rotations caused by age alone.

use tokio::time::Instant;

use super::decide::RotationReason;
use super::view::CoordinatorStep;

/// Allowance that grows with time, up to that of one second.
#[derive(Debug)]
pub(super) struct RotationThrottle {
    per_second: f64,
    allowed: f64,
    since: Instant,
}

impl RotationThrottle {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            allowed: per_second,
            since: Instant::now(),
        }
    }

    /// Drops age rotations beyond the allowance, youngest first. They are due again at the next
    /// check.
    pub(super) fn retain_allowed(&mut self, steps: &mut Vec<CoordinatorStep>) {
        let now = Instant::now();
        let grown = (now - self.since).as_secs_f64() * self.per_second;
        self.allowed = (self.allowed + grown).min(self.per_second);
        self.since = now;
        let mut aged: Vec<_> = steps.iter().filter_map(aged).collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between zero and the allowance of a second"
        )]
        let most = self.allowed as usize;
        if aged.len() > most {
            aged.sort_unstable();
            // Rotations with the same time are all kept or all dropped: times are milliseconds.
            let youngest = aged[most];
            steps.retain(|step| aged_before(step, youngest));
            aged.truncate(most);
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let taken = aged.len() as f64;
        self.allowed -= taken;
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
