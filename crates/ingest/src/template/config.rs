//! Limits of a pool.

use std::time::Duration;

use forebay_model::ByteSize;

/// Limits of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Worker processes, besides one for templates in quarantine. Each is started when it is first
    /// needed.
    pub workers: usize,
    /// CPU time of one evaluation. One that takes longer is stopped within an eighth more.
    pub time_limit: Duration,
    /// Memory that evaluations may use in a worker. A worker that retains half of it is replaced
    /// between two evaluations.
    pub memory_limit: ByteSize,
    /// Bytes of records that wait or are evaluated; further callers wait.
    pub in_flight: ByteSize,
    /// Records that wait or are evaluated; further ones fail as unavailable.
    pub queue: usize,
}

impl Default for PoolConfig {
    /// One worker per core, 1 s, 256 MB per worker, 64 MB in flight, 20,000 records.
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            time_limit: Duration::from_secs(1),
            memory_limit: ByteSize::mb(256),
            in_flight: ByteSize::mb(64),
            queue: 20_000,
        }
    }
}
