//! Quotas: the configured limits of a source, project or token, and the token bucket.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::units::{ByteSize, HumanDuration, out_of_range};

mod rate_limit_fields;
mod token_bucket;

pub use rate_limit_fields::{RATE_LIMIT, RATE_LIMIT_POLICY};
pub use token_bucket::{BucketLevel, RemainingCapacity, RetryAfter, TokenBucket};

/// Largest configurable number of requests per second.
pub const REQUESTS_MAX: u64 = 100_000_000;
/// Largest configurable number of bytes per second.
pub const BYTES_MAX: ByteSize = ByteSize::mb(64 << 10);
/// Largest configurable number of connections.
pub(crate) const CONNECTIONS_MAX: u64 = 100_000_000;
/// Largest configurable number of bytes on disk.
pub(crate) const DISK_MAX: ByteSize = ByteSize::mb(1 << 30);

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

#[cfg(test)]
mod tests;
