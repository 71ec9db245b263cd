//! Quotas of requests: a rate limiter for each source, and behind it that of its project.
//!
//! The limits of a rate limiter never change; when a quota does, the next route table has new rate
//! limiters. Usage outlives them: [`LimiterRegistry`] keeps it for as long as the node runs, so
//! that no change resets an allowance.

mod connection_permit;
mod disk_use;
mod rate_limiter;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use forebay_model::quota::{BucketLevel, QuotaOverrides, Quotas, SourceQuota, TokenBucket};
use forebay_model::{ProjectId, SourceId};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

pub use connection_permit::ConnectionPermit;
pub use disk_use::DiskUse;
use rate_limiter::{ProjectLimiter, RateBuckets};
pub use rate_limiter::{QuotaExceeded, QuotaKind, SourceLimiter};
use usage::ProjectUsage;

use crate::metrics::PROJECT_DISK_BYTES;

/// Used rates of a source or a project.
#[derive(Clone, Debug, Default)]
struct RateUsage {
    requests: BucketLevel,
    bytes: BucketLevel,
}

#[derive(Debug, Default)]
struct TrackedProject {
    used: RateUsage,
    usage: Arc<ProjectUsage>,
    sources: HashMap<SourceId, RateUsage>,
}

#[derive(Debug, Default)]
struct UsageTable {
    projects: HashMap<ProjectId, TrackedProject>,
    log: HashMap<ProjectId, u64>,
    staged: HashMap<ProjectId, u64>,
    /// Sum of both.
    disk: HashMap<ProjectId, u64>,
}

/// Usage of all sources and projects of this node, and the configured quotas.
#[derive(Debug)]
pub struct LimiterRegistry {
    quotas: Quotas,
    start: Instant,
    usage: Mutex<UsageTable>,
}

impl LimiterRegistry {
    pub fn new(quotas: Quotas) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            start: Instant::now(),
            usage: Mutex::default(),
        })
    }

    fn usage(&self) -> MutexGuard<'_, UsageTable> {
        self.usage.lock()
    }

    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Creates rate limiters for a new route table.
    pub fn builder(self: &Arc<Self>) -> LimiterBuilder<'_> {
        LimiterBuilder {
            registry: self,
            projects: HashMap::new(),
        }
    }

    /// Sets the staged bytes of projects; those that are not named have none.
    pub(crate) fn set_staged(&self, bytes: HashMap<ProjectId, u64>) {
        let mut known = self.usage();
        known.staged = bytes;
        known.sum();
    }

    /// Sets the log bytes of projects; those that are not named have none.
    pub(crate) fn set_log(&self, bytes: HashMap<ProjectId, u64>) {
        let mut known = self.usage();
        known.log = bytes;
        known.sum();
    }
}

impl UsageTable {
    fn disk(&self, project: ProjectId) -> u64 {
        self.disk.get(&project).copied().unwrap_or_default()
    }

    /// Sums up disk use, for rate limiters and metrics.
    fn sum(&mut self) {
        let mut disk = self.log.clone();
        for (project, bytes) in &self.staged {
            *disk.entry(*project).or_default() += bytes;
        }
        let before = std::mem::replace(&mut self.disk, disk);
        for (id, project) in &self.projects {
            project.usage.disk.store(self.disk(*id), Relaxed);
        }
        for (id, bytes) in &self.disk {
            if before.get(id) != Some(bytes) {
                update_gauge(*id, *bytes);
            }
        }
        for id in before.keys().filter(|id| !self.disk.contains_key(id)) {
            update_gauge(*id, 0);
        }
    }

    fn project(&mut self, id: ProjectId) -> &mut TrackedProject {
        let disk = self.disk(id);
        self.projects.entry(id).or_insert_with(|| {
            let project = TrackedProject::default();
            project.usage.disk.store(disk, Relaxed);
            project
        })
    }
}

/// Creates the rate limiters of one route table: a project's is created once, and shared by its
/// sources.
#[derive(Debug)]
pub struct LimiterBuilder<'g> {
    registry: &'g Arc<LimiterRegistry>,
    projects: HashMap<ProjectId, Arc<ProjectLimiter>>,
}

impl LimiterBuilder<'_> {
    /// Creates the rate limiter of a source that may use `quota`, in a project that has `own`.
    pub fn source_limiter(
        &mut self,
        project: ProjectId,
        source: &SourceId,
        quota: SourceQuota,
        own: &QuotaOverrides,
    ) -> Arc<SourceLimiter> {
        let LimiterRegistry { quotas, start, .. } = &**self.registry;
        let rates = |requests, bytes: forebay_model::ByteSize, used: &RateUsage| RateBuckets {
            requests: TokenBucket::new(requests, quotas.window, Arc::clone(&used.requests)),
            bytes: TokenBucket::new(bytes.0, quotas.window, Arc::clone(&used.bytes)),
        };
        let mut known = self.registry.usage();
        let kept = known.project(project);
        let of_project = self.projects.entry(project).or_insert_with(|| {
            let allowed = quotas.project.with(own);
            let (requests, bytes) = (allowed.requests_per_second, allowed.bytes_per_second);
            Arc::new(ProjectLimiter {
                rates: rates(requests, bytes, &kept.used),
                connections: allowed.connections,
                disk: allowed.disk_bytes.0,
                usage: Arc::clone(&kept.usage),
            })
        });
        let used = kept.sources.entry(source.clone()).or_default();
        let (requests, bytes) = (quota.requests_per_second, quota.bytes_per_second);
        SourceLimiter::new(
            (project, source),
            rates(requests, bytes, used),
            Arc::clone(of_project),
            *start,
        )
    }

    /// Completes the table: drops the usage of unknown sources and projects. Their connections
    /// still release what they hold.
    pub fn finish(self, is_known: impl Fn(ProjectId, &SourceId) -> bool) {
        let mut known = self.registry.usage();
        let limiters = self.projects;
        known.projects.retain(|id, _| limiters.contains_key(id));
        for (id, project) in &mut known.projects {
            project.sources.retain(|source, _| is_known(*id, source));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn update_gauge(project: ProjectId, bytes: u64) {
    metrics::gauge!(PROJECT_DISK_BYTES, "project" => project.to_string()).set(bytes as f64);
}

#[cfg(test)]
mod tests;
