//! Ingest: records arrive over HTTP, become rows, and are durable in the log before they are
//! acknowledged. It decides nothing: it reconciles with the metadata store.

pub mod dispatch;
pub mod fair_thread_pool;
pub mod memory_limiter;
pub mod metrics;
pub mod pipeline;
pub mod quota;
pub mod reconciler;
pub mod signature;
pub mod source;
pub mod statistics_reporter;
pub mod streams;
pub mod tap;
pub mod template;
