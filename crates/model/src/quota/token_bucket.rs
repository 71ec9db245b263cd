//! The token bucket.
//!
//! Its invariant: in any period `t` at most `rate × (t + window)` units are taken one by one, plus
//! the allowed debt when many are taken at once (and a thousandth of a window, for rounding); a
//! client that takes at most `rate` gets all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::units::HumanDuration;

const SECOND: u64 = 1_000_000_000;

/// The level of a bucket, shared by all buckets that measure the same, even if the rate changes.
/// The time, in nanoseconds of the caller's clock, at which the bucket is full again.
pub type BucketLevel = Arc<AtomicU64>;

/// A token bucket that stores only the time at which it is full again, so that its rate can change
/// while it is used, and any number of threads can take from it without a lock.
///
/// Time is a parameter: nanoseconds since any moment, never decreasing.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    /// Burst size as refill time, nanoseconds.
    window: u64,
    capacity: u64,
    level: BucketLevel,
}

/// Wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// Whole seconds, at least one, as in `Retry-After`.
    pub fn seconds(self) -> u64 {
        self.0
            .as_millis()
            .div_ceil(1000)
            .max(1)
            .try_into()
            .unwrap_or(u64::MAX)
    }
}

impl TokenBucket {
    /// Creates a bucket for `rate` units per second; `None` when that is zero, which is no limit.
    /// `window` is at least a second, so that one unit always fits.
    pub fn new(rate: u64, window: HumanDuration, level: BucketLevel) -> Option<Self> {
        let window = u64::try_from(window.0.as_nanos()).unwrap_or(u64::MAX / 4);
        let window = window.clamp(SECOND, u64::MAX / 4);
        if rate == 0 {
            return None;
        }
        let mut bucket = Self {
            rate,
            window,
            capacity: 0,
            level,
        };
        bucket.capacity = bucket.units(window);
        // Each unit's time is rounded up; extend the window so that all of its units still fit, by
        // up to a thousandth.
        let whole = bucket.time(1).saturating_mul(bucket.capacity);
        bucket.window = whole.clamp(window, window + window / 1000);
        Some(bucket)
    }

    /// Units per second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Seconds in which the bucket refills.
    pub fn window_seconds(&self) -> u64 {
        self.window / SECOND
    }

    /// Units that can be taken at once.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Time in which `units` refill, rounded up, so that the rate is never exceeded.
    fn time(&self, units: u64) -> u64 {
        match units.checked_mul(SECOND) {
            Some(product) => product.div_ceil(self.rate),
            None => {
                let product = u128::from(units) * u128::from(SECOND);
                let time = product.div_ceil(u128::from(self.rate));
                u64::try_from(time).unwrap_or(u64::MAX / 4)
            }
        }
    }

    /// Units that refill within `time`.
    fn units(&self, time: u64) -> u64 {
        let units = u128::from(time) * u128::from(self.rate) / u128::from(SECOND);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Takes `units` if available; otherwise nothing changes.
    ///
    /// # Errors
    /// The time until they are available. More than [`Self::capacity`] never are.
    pub fn take(&self, now: u64, units: u64) -> Result<(), RetryAfter> {
        let (time, full) = (self.time(units), now + self.window);
        self.consume(now, time, |level| {
            let after = level.max(now).saturating_add(time);
            after.checked_sub(full).filter(|lacks| *lacks > 0)
        })
    }

    /// Takes `units` if the debt is at most `owed` units before; the rest becomes debt. So a
    /// request larger than the whole bucket passes too, and later ones wait.
    ///
    /// # Errors
    /// The time until one unit is available again.
    pub fn take_with_debt(&self, now: u64, units: u64, owed: u64) -> Result<(), RetryAfter> {
        let (full, owed) = (now + self.window, self.time(owed));
        self.consume(now, self.time(units), |level| {
            let none_left = level >= full.saturating_add(owed);
            none_left.then(|| (level - full).saturating_add(self.time(1)))
        })
    }

    /// Takes `time`, unless `lacks` returns a wait.
    fn consume(
        &self,
        now: u64,
        time: u64,
        lacks: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), RetryAfter> {
        let mut level = self.level.load(Relaxed);
        loop {
            if let Some(nanos) = lacks(level) {
                return Err(RetryAfter(Duration::from_nanos(nanos)));
            }
            let after = level.max(now).saturating_add(time);
            match (self.level).compare_exchange_weak(level, after, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => level = other,
            }
        }
    }

    /// Returns units that were taken and not used.
    pub fn refund(&self, units: u64) {
        let time = self.time(units);
        let mut level = self.level.load(Relaxed);
        while let Err(other) =
            self.level
                .compare_exchange_weak(level, level.saturating_sub(time), Relaxed, Relaxed)
        {
            level = other;
        }
    }

    /// The capacity available now.
    pub fn remaining(&self, now: u64) -> RemainingCapacity {
        let level = self.level.load(Relaxed);
        RemainingCapacity {
            time: (now + self.window).saturating_sub(level).min(self.window),
            full_in: Duration::from_nanos(level.saturating_sub(now)),
        }
    }

    /// Units available within the remaining capacity.
    pub fn remaining_units(&self, remaining: RemainingCapacity) -> u64 {
        self.units(remaining.time).min(self.capacity)
    }
}

/// Remaining capacity of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingCapacity {
    /// Refill time of the remaining units, nanoseconds.
    time: u64,
    /// Time until the bucket is full.
    pub full_in: Duration,
}

#[cfg(test)]
mod tests;
