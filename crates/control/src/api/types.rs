//! Request and response types. They are the single definition: the OpenAPI document is generated
//! from them, requests are validated against it, and responses are serialized from them.

pub(super) mod admin;
pub(super) mod aggregation;
pub(super) mod common;
pub(super) mod dead_letter;
pub(super) mod definitions;
pub(super) mod dry_run;
pub(super) mod owner;
pub(super) mod quota;
pub(super) mod settings;
pub(super) mod sink;
pub(super) mod source;
pub(super) mod statistics;
pub(super) mod task;
pub(super) mod test_result;
pub(super) mod topic;
