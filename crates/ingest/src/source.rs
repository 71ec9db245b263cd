//! Sources of records.

pub mod http;
