//! The control plane: the management API, who may use it, the tasks that it starts; and the
//! coordinator, which decides what happens to files and slices.

pub mod api;
pub mod auth;
pub mod coordinator;
mod task;

pub use api::{Api, ApiConfig, ApiDeps};
