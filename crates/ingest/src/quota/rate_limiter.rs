//! Rate limiter of a source: admits requests, and reports the remaining quota.

use std::fmt;
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_model::quota::{
    RATE_LIMIT, RATE_LIMIT_POLICY, RemainingCapacity, RetryAfter, TokenBucket,
};
use forebay_model::{ByteSize, ProjectId, SourceId};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::usage::ProjectUsage;
use crate::metrics::QUOTA_REJECTED;

/// Retry delay of a project that has used up its disk quota: imports free space.
const DISK_WAIT: RetryAfter = RetryAfter(Duration::from_secs(10));
/// Retry delay of a project with too many connections.
const CONNECTION_WAIT: RetryAfter = RetryAfter(Duration::from_secs(1));

/// Kind of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Requests a second of the source.
    SourceRequests,
    /// Bytes a second of the source.
    SourceBytes,
    /// Requests a second of the project.
    ProjectRequests,
    /// Bytes a second of the project.
    ProjectBytes,
    /// Open connections of the project.
    Connections,
    /// Bytes of the project in the log and in staging.
    Disk,
}

impl QuotaKind {
    const COUNT: usize = 6;
    const RATES: [Self; 4] = [
        Self::SourceRequests,
        Self::ProjectRequests,
        Self::SourceBytes,
        Self::ProjectBytes,
    ];

    /// Name in metrics and, for rates, in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::SourceRequests => "source-requests",
            Self::SourceBytes => "source-bytes",
            Self::ProjectRequests => "project-requests",
            Self::ProjectBytes => "project-bytes",
            Self::Connections => "connections",
            Self::Disk => "disk",
        }
    }

    fn is_bytes(self) -> bool {
        matches!(self, Self::SourceBytes | Self::ProjectBytes)
    }
}

/// A request that is rejected by a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    pub kind: QuotaKind,
    /// The limit: requests or bytes a second, connections, or bytes.
    pub limit: u64,
    /// When to retry.
    pub wait: RetryAfter,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, size) = (self.limit, ByteSize(self.limit));
        match self.kind {
            QuotaKind::SourceRequests => {
                write!(f, "The source's quota of {limit} requests a second")
            }
            QuotaKind::SourceBytes => write!(f, "The source's quota of {size} a second"),
            QuotaKind::ProjectRequests => {
                write!(f, "The project's quota of {limit} requests a second")
            }
            QuotaKind::ProjectBytes => write!(f, "The project's quota of {size} a second"),
            QuotaKind::Connections => write!(f, "The project's quota of {limit} open connections"),
            QuotaKind::Disk => write!(f, "The project's quota of {size} on disk"),
        }?;
        f.write_str(" is used up. Nothing of this request was stored, send it again later.")
    }
}

/// Buckets of requests and of bytes; `None` where nothing is limited.
#[derive(Debug, Default)]
pub(super) struct RateBuckets {
    pub(super) requests: Option<TokenBucket>,
    pub(super) bytes: Option<TokenBucket>,
}

/// Limits of all sources of a project together.
#[derive(Debug, Default)]
pub(super) struct ProjectLimiter {
    pub(super) rates: RateBuckets,
    /// Zero is no limit.
    pub(super) connections: u64,
    /// Zero is no limit.
    pub(super) disk: u64,
    pub(super) usage: Arc<ProjectUsage>,
}

/// Limits of a source and its project.
pub struct SourceLimiter {
    project_id: String,
    source_id: String,
    rates: RateBuckets,
    pub(super) project: Arc<ProjectLimiter>,
    policy: Option<HeaderValue>,
    start: Instant,
    rejections: [OnceLock<metrics::Counter>; QuotaKind::COUNT],
}

impl fmt::Debug for SourceLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceGate")
            .field("rates", &self.rates)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

impl SourceLimiter {
    pub(super) fn new(
        (project_id, source_id): (ProjectId, &SourceId),
        rates: RateBuckets,
        project: Arc<ProjectLimiter>,
        start: Instant,
    ) -> Arc<Self> {
        let mut limiter = Self {
            project_id: project_id.to_string(),
            source_id: source_id.to_string(),
            rates,
            project,
            policy: None,
            start,
            rejections: Default::default(),
        };
        limiter.policy = limiter.policy_text();
        Arc::new(limiter)
    }

    /// Creates a limiter without limits.
    pub fn unlimited(project: ProjectId, source: &SourceId) -> Arc<Self> {
        let (rates, of_project) = (RateBuckets::default(), Arc::default());
        Self::new((project, source), rates, of_project, Instant::now())
    }

    fn bucket(&self, kind: QuotaKind) -> Option<&TokenBucket> {
        match kind {
            QuotaKind::SourceRequests => self.rates.requests.as_ref(),
            QuotaKind::SourceBytes => self.rates.bytes.as_ref(),
            QuotaKind::ProjectRequests => self.project.rates.requests.as_ref(),
            QuotaKind::ProjectBytes => self.project.rates.bytes.as_ref(),
            QuotaKind::Connections | QuotaKind::Disk => None,
        }
    }

    fn policy_text(&self) -> Option<HeaderValue> {
        let item = |kind: QuotaKind| {
            let bucket = self.bucket(kind)?;
            let unit = if kind.is_bytes() {
                ";qu=\"content-bytes\""
            } else {
                ""
            };
            Some(format!("{}{unit}", bucket.policy_item(kind.name())))
        };
        let items: Vec<String> = QuotaKind::RATES.into_iter().filter_map(item).collect();
        let text = (!items.is_empty()).then(|| items.join(", "))?;
        HeaderValue::from_str(&text).ok()
    }

    /// An instant as time of the limiter's buckets, in nanoseconds.
    pub(crate) fn nanos_at(&self, moment: Instant) -> u64 {
        let nanos = moment.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX / 2)
    }

    /// Admits a request with a body of so many declared bytes; undeclared ones are paid for by
    /// [`Self::consume`]. A body is admitted when any bytes are left, and the excess is owed:
    /// otherwise one larger than the window's allowance would never be admitted.
    pub(crate) fn admit(&self, now: u64, body: Option<u64>) -> Result<(), QuotaExceeded> {
        let (disk, used) = (self.project.disk, self.project.usage.disk.load(Relaxed));
        if disk > 0 && used >= disk {
            return Err(self.exceeded(QuotaKind::Disk, disk, DISK_WAIT));
        }
        let bytes = body.unwrap_or_default();
        for (i, kind) in QuotaKind::RATES.into_iter().enumerate() {
            let Some(bucket) = self.bucket(kind) else {
                continue;
            };
            let taken = match kind.is_bytes() {
                true => bucket.take_with_debt(now, bytes, 0),
                false => bucket.take(now, 1),
            };
            if let Err(wait) = taken {
                for before in &QuotaKind::RATES[..i] {
                    let used = if before.is_bytes() { bytes } else { 1 };
                    self.bucket(*before).inspect(|b| b.refund(used));
                }
                return Err(self.exceeded(kind, bucket.rate(), wait));
            }
        }
        Ok(())
    }

    /// Pays for a part of a body of undeclared length. Up to `owed` bytes may be owed in total, so
    /// that an admitted body is completed.
    pub(crate) fn consume(&self, now: u64, bytes: u64, owed: u64) -> Result<(), QuotaExceeded> {
        for kind in [QuotaKind::SourceBytes, QuotaKind::ProjectBytes] {
            if let Some(bucket) = self.bucket(kind)
                && let Err(wait) = bucket.take_with_debt(now, bytes, owed)
            {
                return Err(self.exceeded(kind, bucket.rate(), wait));
            }
        }
        Ok(())
    }

    /// Whether body bytes have to be paid for.
    pub(crate) fn limits_bytes(&self) -> bool {
        self.rates.bytes.is_some() || self.project.rates.bytes.is_some()
    }

    pub(super) fn too_many_connections(&self) -> QuotaExceeded {
        self.exceeded(
            QuotaKind::Connections,
            self.project.connections,
            CONNECTION_WAIT,
        )
    }

    /// Counts a rejection.
    fn exceeded(&self, kind: QuotaKind, limit: u64, wait: RetryAfter) -> QuotaExceeded {
        let counter = self.rejections[kind as usize].get_or_init(|| {
            let (project, source) = (self.project_id.clone(), self.source_id.clone());
            metrics::counter!(QUOTA_REJECTED, "project" => project, "source" => source, "cause" => kind.name())
        });
        counter.increment(1);
        QuotaExceeded { kind, limit, wait }
    }

    /// Writes the allowed quota, and what is left of the rate that is nearest to its end.
    pub(crate) fn write_headers(&self, now: u64, headers: &mut HeaderMap) {
        let Some(policy) = &self.policy else {
            return;
        };
        let mut nearest: Option<(RemainingCapacity, QuotaKind, &TokenBucket)> = None;
        for kind in QuotaKind::RATES {
            if let Some(bucket) = self.bucket(kind) {
                let remaining = bucket.remaining(now);
                // All have the same window, so that is the one of which the least is left.
                if nearest.is_none_or(|(least, ..)| remaining.full_in > least.full_in) {
                    nearest = Some((remaining, kind, bucket));
                }
            }
        }
        let Some((remaining, kind, bucket)) = nearest else {
            return;
        };
        let mut text = [0; 64];
        let mut rest = &mut text[..];
        // It fits: a name of 16 bytes, and two numbers of at most 20.
        let written = write!(rest, "{}", bucket.limit_item(kind.name(), remaining));
        let length = 64 - rest.len();
        if let (Ok(()), Ok(value)) = (written, HeaderValue::from_bytes(&text[..length])) {
            headers.insert(HeaderName::from_static(RATE_LIMIT), value);
            headers.insert(HeaderName::from_static(RATE_LIMIT_POLICY), policy.clone());
        }
    }
}
