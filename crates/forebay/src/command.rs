//! One module per command.

pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod buffer;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod lookup;
pub(crate) mod query;
pub(crate) mod quota;
pub(crate) mod reference;
pub(crate) mod restore;
pub(crate) mod retry;
pub(crate) mod serve;
pub(crate) mod source;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod token;
