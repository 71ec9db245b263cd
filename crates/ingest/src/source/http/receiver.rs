//! State of the source, shared by all requests of a listener.

use std::sync::Arc;

use forebay_model::Clock;

use super::config::HttpSourceConfig;
use super::meters::HttpSourceMeters;
use crate::dispatch::Dispatcher;
use crate::memory_limiter::MemoryLimiter;

/// Dependencies of the source.
#[derive(Clone, Debug)]
pub struct HttpSourceDeps {
    /// Receives the records.
    pub dispatcher: Arc<Dispatcher>,
    /// Limits the bytes in flight; the same as that of the pipelines.
    pub memory_limiter: Arc<MemoryLimiter>,
    /// Clock for times of receipt.
    pub clock: Arc<dyn Clock>,
}

/// State shared by all requests of a listener.
#[derive(Debug)]
pub(super) struct RequestReceiver {
    pub(super) config: HttpSourceConfig,
    pub(super) deps: HttpSourceDeps,
    pub(super) meters: HttpSourceMeters,
}
