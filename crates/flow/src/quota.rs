//! Quotas as requests meet them: a gate for each source, and behind it that of its project.
//!
//! What a gate allows never changes; when a quota does, the next table of routes has other gates.
//! What was used outlives them: [`LimiterRegistry`] keeps it for as long as the node runs, so that a change of
//! anything gives nobody a fresh allowance.

mod connection_permit;
mod disk_use;
mod rate_limiter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_model::quota::{BucketLevel, QuotaOverrides, Quotas, SourceQuota, TokenBucket};
use forebay_model::{ProjectId, SourceId};
use tokio::time::Instant;

pub use connection_permit::ConnectionPermit;
pub use disk_use::DiskUse;
use rate_limiter::{ProjectLimiter, RateBuckets};
pub use rate_limiter::{QuotaExceeded, QuotaKind, SourceLimiter};

/// What a project holds at the moment.
#[derive(Debug, Default)]
pub(crate) struct ProjectUsage {
    connections: AtomicU64,
    /// Bytes in the log and in staging, as they were last measured.
    disk: AtomicU64,
}

/// What a source or a project has used of its rates.
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
    /// Both together.
    disk: HashMap<ProjectId, u64>,
}

/// What all sources and projects of this node have used, and what the configuration allows them.
#[derive(Debug)]
pub struct LimiterRegistry {
    quotas: Quotas,
    start: Instant,
    usage: Mutex<UsageTable>,
}

impl LimiterRegistry {
    /// Nothing is used yet.
    #[must_use]
    pub fn new(quotas: Quotas) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            start: Instant::now(),
            usage: Mutex::default(),
        })
    }

    fn usage(&self) -> MutexGuard<'_, UsageTable> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the configuration allows.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Gates for a new table of routes.
    #[must_use]
    pub fn builder(self: &Arc<Self>) -> LimiterBuilder<'_> {
        LimiterBuilder {
            registry: self,
            projects: HashMap::new(),
        }
    }

    /// Notes what projects have in staging; those that are not named have nothing.
    pub(crate) fn set_staged(&self, bytes: HashMap<ProjectId, u64>) {
        let mut known = self.usage();
        known.staged = bytes;
        known.sum();
    }

    /// Notes what projects have in the log; those that are not named have nothing.
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

    /// Sums up what is held, for gates and for people.
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
                disk_use::update_gauge(*id, *bytes);
            }
        }
        for id in before.keys().filter(|id| !self.disk.contains_key(id)) {
            disk_use::update_gauge(*id, 0);
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

/// Makes the gates of one table: a project's is made once, and shared by its sources.
#[derive(Debug)]
pub struct LimiterBuilder<'g> {
    registry: &'g Arc<LimiterRegistry>,
    projects: HashMap<ProjectId, Arc<ProjectLimiter>>,
}

impl LimiterBuilder<'_> {
    /// The gate of a source that may use `quota`, in a project that has `own`.
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

    /// All gates are made: what is known of sources and projects that are gone is forgotten.
    /// Connections of theirs still give back what they hold.
    pub fn finish(self, is_known: impl Fn(ProjectId, &SourceId) -> bool) {
        let mut known = self.registry.usage();
        let limiters = self.projects;
        known.projects.retain(|id, _| limiters.contains_key(id));
        for (id, project) in &mut known.projects {
            project.sources.retain(|source, _| is_known(*id, source));
        }
    }
}

#[cfg(test)]
mod tests;
