//! Usage of a project, shared by its rate limiters and its connections.

use std::sync::atomic::AtomicU64;

/// Current usage of a project.
#[derive(Debug, Default)]
pub(super) struct ProjectUsage {
    pub(super) connections: AtomicU64,
    /// Bytes in the log and in staging, as last measured.
    pub(super) disk: AtomicU64,
}
