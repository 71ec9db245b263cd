//! Project of a connection: none before its first request, then that of its last request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

use super::rate_limiter::{QuotaExceeded, SourceLimiter};
use super::usage::ProjectUsage;

/// A connection's share of those of a project; released when the connection ends.
#[derive(Debug, Default)]
pub struct ConnectionPermit {
    project: Mutex<Option<Arc<ProjectUsage>>>,
    /// Requests over a quota since the last one that was not.
    rejections: AtomicU32,
}

impl ConnectionPermit {
    /// Counts the connection for the limiter's project, unless that has too many.
    pub(crate) fn acquire(&self, limiter: &SourceLimiter) -> Result<(), QuotaExceeded> {
        let project = &limiter.project;
        let mut of = self.project.lock();
        if of
            .as_ref()
            .is_some_and(|of| Arc::ptr_eq(of, &project.usage))
        {
            return Ok(());
        }
        let max = project.connections;
        let more = |n: u64| (max == 0 || n < max).then_some(n + 1);
        if (project
            .usage
            .connections
            .fetch_update(Relaxed, Relaxed, more))
        .is_err()
        {
            return Err(limiter.too_many_connections());
        }
        if let Some(before) = of.replace(Arc::clone(&project.usage)) {
            before.connections.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    /// Records an admitted request.
    pub(crate) fn on_admitted(&self) {
        if self.rejections.load(Relaxed) > 0 {
            self.rejections.store(0, Relaxed);
        }
    }

    /// Records a rejected request. Returns whether the one before was rejected as well.
    pub(crate) fn on_rejected(&self) -> bool {
        self.rejections.fetch_add(1, Relaxed) > 0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Some(of) = self.project.get_mut().take() {
            of.connections.fetch_sub(1, Relaxed);
        }
    }
}
