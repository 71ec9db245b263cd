//! Where records come from.

pub(crate) mod api;
pub(crate) mod files;
pub(crate) mod replay;
