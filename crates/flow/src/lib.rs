//! Data plane: records arrive over HTTP, become rows in the log, and are uploaded to staging and
//! imported into their tables. It decides nothing: it reconciles with the metadata store.

pub mod dead_letter;
pub mod dispatch;
pub mod fair_thread_pool;
pub mod garbage_collector;
pub mod import;
pub mod losses;
pub mod memory_limiter;
pub mod metrics;
pub mod orphan_streams;
pub mod pipeline;
pub mod quota;
pub mod reconciler;
pub mod source;
pub mod statistics_reporter;
mod streams;
pub mod tap;
pub mod template;
pub mod topic;
pub mod upload;
pub mod work_queue;
