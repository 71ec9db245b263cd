//! State shared by the pool and its supervisors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::circuit_breaker::CircuitBreakers;
use super::config::PoolConfig;
use super::process::WorkerCommand;

#[derive(Debug)]
pub(super) struct PoolShared {
    pub(super) config: PoolConfig,
    pub(super) command: WorkerCommand,
    pub(super) breakers: CircuitBreakers,
    pub(super) starts: AtomicU64,
    pub(super) trips: AtomicU64,
}

impl PoolShared {
    pub(super) fn new(config: PoolConfig, command: WorkerCommand) -> Arc<Self> {
        Arc::new(Self {
            config,
            command,
            breakers: CircuitBreakers::default(),
            starts: AtomicU64::new(0),
            trips: AtomicU64::new(0),
        })
    }

    pub(super) fn count_start(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_trip(&self) {
        self.trips.fetch_add(1, Ordering::Relaxed);
    }
}
