//! The data plane: records come in over HTTP, become rows in the log, and go from there to staging
//! and into their tables. It decides nothing: it follows the metadata store.

pub mod budget;
pub mod dead_letter;
pub mod deliver;
pub mod dispatch;
pub mod follow;
pub mod import;
pub mod janitor;
pub mod kept;
pub mod lane;
pub mod losses;
pub mod metrics;
pub mod pipeline;
pub mod quota;
pub mod report;
pub mod source;
pub mod template;
pub mod topic;
pub mod upload;
