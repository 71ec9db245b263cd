//! Quotas: the configured limits of a source, project or token, and the token bucket.
//!
//! The invariant of a bucket: in any period `t` at most `rate × (t + window)` units are taken one
//! by one, plus the allowed debt when many are taken at once (and a thousandth of a window, for
//! rounding); a client that takes at most `rate` gets all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::units::{ByteSize, HumanDuration, out_of_range};

/// Largest configurable number of requests per second.
pub const REQUESTS_MAX: u64 = 100_000_000;
/// Largest configurable number of bytes per second.
pub const BYTES_MAX: ByteSize = ByteSize::mb(64 << 10);
/// Largest configurable number of connections.
pub const CONNECTIONS_MAX: u64 = 100_000_000;
/// Largest configurable number of bytes on disk.
pub const DISK_MAX: ByteSize = ByteSize::mb(1 << 30);

const SECOND: u64 = 1_000_000_000;

/// Quota of a source. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceQuota {
    /// Requests per second of one source; a source can override it
    /// (`source.quota.requestsPerSecond`). 0 to 100000000, 0 is no limit.
    pub requests_per_second: u64,
    /// Request body bytes, as sent, per second of one source; a source can override it
    /// (`source.quota.bytesPerSecond`). 0 to 64GB, 0 is no limit.
    pub bytes_per_second: ByteSize,
}

/// Quota of a project, all of its sources together. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectQuota {
    /// Requests per second of one project. 0 to 100000000, 0 is no limit.
    pub requests_per_second: u64,
    /// Request body bytes, as sent, per second of one project. 0 to 64GB, 0 is no limit.
    pub bytes_per_second: ByteSize,
    /// Open connections whose last request belonged to the project. 0 to 100000000, 0 is no limit.
    pub connections: u64,
    /// Bytes of one project in the log and in staging. 0 to 1024TB, 0 is no limit.
    pub disk_bytes: ByteSize,
}

impl Default for SourceQuota {
    fn default() -> Self {
        Self {
            requests_per_second: 100_000,
            bytes_per_second: ByteSize::mb(1024),
        }
    }
}

impl Default for ProjectQuota {
    fn default() -> Self {
        Self {
            requests_per_second: 200_000,
            bytes_per_second: ByteSize::mb(2048),
            connections: 100_000,
            disk_bytes: ByteSize::mb(1 << 20),
        }
    }
}

impl SourceQuota {
    /// No limits.
    pub const NONE: Self = Self {
        requests_per_second: 0,
        bytes_per_second: ByteSize(0),
    };

    /// The stricter of two quotas in each respect.
    pub fn stricter(self, other: Self) -> Self {
        Self {
            requests_per_second: smaller(self.requests_per_second, other.requests_per_second),
            bytes_per_second: ByteSize(smaller(self.bytes_per_second.0, other.bytes_per_second.0)),
        }
    }

    /// All values out of range: name, value, allowed range.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        rate_violations(self.requests_per_second, self.bytes_per_second).collect()
    }
}

/// The smaller of two limits, where zero is none.
fn smaller(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}

fn rate_violations(requests: u64, bytes: ByteSize) -> impl Iterator<Item = String> {
    let requests = out_of_range("requestsPerSecond", requests, 0, REQUESTS_MAX);
    let bytes = out_of_range("bytesPerSecond", bytes, ByteSize(0), BYTES_MAX);
    requests.into_iter().chain(bytes)
}

impl ProjectQuota {
    /// No limits.
    pub const NONE: Self = Self {
        requests_per_second: 0,
        bytes_per_second: ByteSize(0),
        connections: 0,
        disk_bytes: ByteSize(0),
    };

    /// This quota with the overrides of a project.
    pub fn with(self, own: &QuotaOverrides) -> Self {
        Self {
            requests_per_second: own.requests_per_second.unwrap_or(self.requests_per_second),
            bytes_per_second: own.bytes_per_second.unwrap_or(self.bytes_per_second),
            connections: own.connections.unwrap_or(self.connections),
            disk_bytes: own.disk_bytes.unwrap_or(self.disk_bytes),
        }
    }

    /// All values out of range: name, value, allowed range.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let disk = out_of_range("diskBytes", self.disk_bytes, ByteSize(0), DISK_MAX);
        rate_violations(self.requests_per_second, self.bytes_per_second)
            .chain(out_of_range(
                "connections",
                self.connections,
                0,
                CONNECTIONS_MAX,
            ))
            .chain(disk)
            .collect()
    }
}

/// Overrides of the server's configuration for one project, set by an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaOverrides {
    /// Overrides [`ProjectQuota::requests_per_second`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// Overrides [`ProjectQuota::bytes_per_second`].
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "bytes_number"
    )]
    pub bytes_per_second: Option<ByteSize>,
    /// Overrides [`ProjectQuota::connections`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Overrides [`ProjectQuota::disk_bytes`].
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "bytes_number"
    )]
    pub disk_bytes: Option<ByteSize>,
    /// Overrides [`SourceQuota::requests_per_second`], for each source of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_requests_per_second: Option<u64>,
    /// Overrides [`SourceQuota::bytes_per_second`], for each source of the project.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "bytes_number"
    )]
    pub source_bytes_per_second: Option<ByteSize>,
}

/// Writes a size as a number; [`ByteSize`] itself writes a text with a unit.
fn bytes_number<S: Serializer>(bytes: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.map(|bytes| bytes.0).serialize(serializer)
}

impl QuotaOverrides {
    /// All values out of range: name, value, allowed range.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let none = (ProjectQuota::NONE, SourceQuota::NONE);
        let source_violations = self.source(none.1).violations();
        let named = |violation: String| {
            let (first, rest) = violation.split_at(1);
            format!("source{}{rest}", first.to_uppercase())
        };
        let mut violations = none.0.with(self).violations();
        violations.extend(source_violations.into_iter().map(named));
        violations
    }

    /// The quota of a source of the project that has none of its own.
    pub fn source(&self, server: SourceQuota) -> SourceQuota {
        let requests = self.source_requests_per_second;
        let bytes = self.source_bytes_per_second;
        SourceQuota {
            requests_per_second: requests.unwrap_or(server.requests_per_second),
            bytes_per_second: bytes.unwrap_or(server.bytes_per_second),
        }
    }
}

/// Quotas of all sources and projects in the server's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Burst size of a rate, as the time in which the rate refills it.
    pub window: HumanDuration,
    /// Quota of each source.
    pub source: SourceQuota,
    /// Quota of each project.
    pub project: ProjectQuota,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            window: HumanDuration::secs(1),
            source: SourceQuota::default(),
            project: ProjectQuota::default(),
        }
    }
}

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
