//! Delivery: slices of the log are uploaded to staging and imported into their tables, messages are
//! sent to their topics, and dead letters are replayed. It decides nothing: it reconciles with the
//! metadata store.

pub mod dead_letter;
pub mod garbage_collector;
pub mod import;
pub mod losses;
pub mod metrics;
pub mod orphan_streams;
pub mod topic;
pub mod upload;
pub mod work_queue;
