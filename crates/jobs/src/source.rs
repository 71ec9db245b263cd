//! Sources of records.

pub(crate) mod api;
pub(crate) mod files;
pub(crate) mod replay;
