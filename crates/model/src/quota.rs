//! Quotas: what one source, project or token may use, and the bucket that a rate is measured with.
//!
//! The invariant of a bucket: in any stretch of time `t` at most `rate × (t + window)` units are
//! taken one by one, plus what may be owed when many are taken at once (and a thousandth of a window,
//! for rounding); and whoever takes no more than `rate` gets all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, HumanDuration, out_of_range};

/// Largest number of requests a second that can be set.
pub const REQUESTS_MAX: u64 = 100_000_000;
/// Largest number of bytes a second that can be set.
pub const BYTES_MAX: ByteSize = ByteSize::mb(64 << 10);
/// Largest number of connections that can be set.
pub const CONNECTIONS_MAX: u64 = 100_000_000;
/// Largest number of bytes on disk that can be set.
pub const DISK_MAX: ByteSize = ByteSize::mb(1 << 30);

const SECOND: u64 = 1_000_000_000;

/// What one source may use. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceQuota {
    /// Requests a second of one source; a source can have another number
    /// (`source.quota.requestsPerSecond`). 0 to 100000000, 0 is no limit.
    pub requests_per_second: u64,
    /// Bytes of bodies, as sent, a second of one source; a source can have another number
    /// (`source.quota.bytesPerSecond`). 0 to 64GB, 0 is no limit.
    pub bytes_per_second: ByteSize,
}

/// What one project may use, all of its sources together. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectQuota {
    /// Requests a second of one project. 0 to 100000000, 0 is no limit.
    pub requests_per_second: u64,
    /// Bytes of bodies, as sent, a second of one project. 0 to 64GB, 0 is no limit.
    pub bytes_per_second: ByteSize,
    /// Open connections whose last request was the project's. 0 to 100000000, 0 is no limit.
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
    /// Nothing is limited.
    pub const NONE: Self = Self {
        requests_per_second: 0,
        bytes_per_second: ByteSize(0),
    };

    /// Of two, the stricter in each respect.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            requests_per_second: smaller(self.requests_per_second, other.requests_per_second),
            bytes_per_second: ByteSize(smaller(self.bytes_per_second.0, other.bytes_per_second.0)),
        }
    }

    /// Everything that is out of range: name, given value, what is allowed.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        rate_violations(self.requests_per_second, self.bytes_per_second).collect()
    }
}

/// The smaller one of two limits, of which zero is none.
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
    /// Nothing is limited.
    pub const NONE: Self = Self {
        requests_per_second: 0,
        bytes_per_second: ByteSize(0),
        connections: 0,
        disk_bytes: ByteSize(0),
    };

    /// This, with what a project has of its own over it.
    #[must_use]
    pub fn with(self, own: &QuotaOverrides) -> Self {
        Self {
            requests_per_second: own.requests_per_second.unwrap_or(self.requests_per_second),
            bytes_per_second: own.bytes_per_second.unwrap_or(self.bytes_per_second),
            connections: own.connections.unwrap_or(self.connections),
            disk_bytes: own.disk_bytes.unwrap_or(self.disk_bytes),
        }
    }

    /// Everything that is out of range: name, given value, what is allowed.
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

/// What an operator has set for one project, in place of what the server's configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaOverrides {
    /// In place of [`ProjectQuota::requests_per_second`].
    pub requests_per_second: Option<u64>,
    /// In place of [`ProjectQuota::bytes_per_second`].
    pub bytes_per_second: Option<ByteSize>,
    /// In place of [`ProjectQuota::connections`].
    pub connections: Option<u64>,
    /// In place of [`ProjectQuota::disk_bytes`].
    pub disk_bytes: Option<ByteSize>,
    /// In place of [`SourceQuota::requests_per_second`], of each source of the project.
    pub source_requests_per_second: Option<u64>,
    /// In place of [`SourceQuota::bytes_per_second`], of each source of the project.
    pub source_bytes_per_second: Option<ByteSize>,
}

impl QuotaOverrides {
    /// Everything that is out of range: name, given value, what is allowed.
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

    /// What a source of the project may use when it has nothing of its own.
    #[must_use]
    pub fn source(&self, server: SourceQuota) -> SourceQuota {
        let requests = self.source_requests_per_second;
        let bytes = self.source_bytes_per_second;
        SourceQuota {
            requests_per_second: requests.unwrap_or(server.requests_per_second),
            bytes_per_second: bytes.unwrap_or(server.bytes_per_second),
        }
    }
}

/// What the server's configuration says of all sources and projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// How much of a rate can be taken at once: what it gives in this time.
    pub window: HumanDuration,
    /// Of each source.
    pub source: SourceQuota,
    /// Of each project.
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

/// How much of a rate was taken; shared by all buckets that measure the same, whatever the rate is
/// by then. Nanoseconds on the clock of whoever takes: until then, what was taken is paid for.
pub type BucketLevel = Arc<AtomicU64>;

/// A token bucket that holds no tokens but the moment at which it will be full again, so that a rate
/// can change while it is used, and any number of threads can take from it without a lock.
///
/// Time is a parameter: nanoseconds since any moment, never going backwards.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    /// What it gives in this time can be taken at once, nanoseconds.
    window: u64,
    capacity: u64,
    level: BucketLevel,
}

/// How long to wait until it may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// In whole seconds, at least one: as `Retry-After` says it.
    #[must_use]
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
    /// A bucket for `rate` units a second; `None` when that is zero, which is no limit. `window` is
    /// at least a second, so that one unit always fits.
    #[must_use]
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
        // Each unit's time is rounded up: so many of them still fit, up to a thousandth of it.
        let whole = bucket.time(1).saturating_mul(bucket.capacity);
        bucket.window = whole.clamp(window, window + window / 1000);
        Some(bucket)
    }

    /// Units a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// In how many seconds as much comes in as can be taken at once.
    #[must_use]
    pub fn window_seconds(&self) -> u64 {
        self.window / SECOND
    }

    /// Units that can be taken at once.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Time in which `units` come in, rounded up: so never more are given than the rate says.
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

    /// Units that come in within `time`.
    fn units(&self, time: u64) -> u64 {
        let units = u128::from(time) * u128::from(self.rate) / u128::from(SECOND);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Takes `units` if they are there; otherwise nothing changes.
    ///
    /// # Errors
    /// How long it takes until they are there. More than [`Self::capacity`] never are.
    pub fn take(&self, now: u64, units: u64) -> Result<(), RetryAfter> {
        let (time, full) = (self.time(units), now + self.window);
        self.consume(now, time, |level| {
            let after = level.max(now).saturating_add(time);
            after.checked_sub(full).filter(|lacks| *lacks > 0)
        })
    }

    /// Takes `units` if no more than `owed` units are owed before; then the rest is owed. So what is
    /// larger than the whole bucket gets through as well, and what comes after it waits.
    ///
    /// # Errors
    /// How long it takes until one unit is there again.
    pub fn take_with_debt(&self, now: u64, units: u64, owed: u64) -> Result<(), RetryAfter> {
        let (full, owed) = (now + self.window, self.time(owed));
        self.consume(now, self.time(units), |level| {
            let none_left = level >= full.saturating_add(owed);
            none_left.then(|| (level - full).saturating_add(self.time(1)))
        })
    }

    /// Takes `time`, unless `lacks` says for how long it has to be waited for.
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

    /// Gives back what was taken and not used.
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

    /// What can be taken now.
    #[must_use]
    pub fn remaining(&self, now: u64) -> RemainingCapacity {
        let level = self.level.load(Relaxed);
        RemainingCapacity {
            time: (now + self.window).saturating_sub(level).min(self.window),
            full_in: Duration::from_nanos(level.saturating_sub(now)),
        }
    }

    /// Units that can be taken of what is left.
    #[must_use]
    pub fn remaining_units(&self, remaining: RemainingCapacity) -> u64 {
        self.units(remaining.time).min(self.capacity)
    }
}

/// What is left of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingCapacity {
    /// What comes in within so many nanoseconds.
    time: u64,
    /// When all of it is there again.
    pub full_in: Duration,
}

#[cfg(test)]
mod tests;
