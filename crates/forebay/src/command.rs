//! One module a command.

pub(crate) mod apply;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod log;
pub(crate) mod query;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod token;
