//! The control plane: management API, authentication and tasks; and the coordinator, which decides
//! rotations and imports of files and slices.

pub mod api;
pub mod auth;
mod compat;
pub mod coordinator;
pub mod metrics;
pub mod sink_monitor;
pub mod sink_status;
mod task;

pub use api::{Api, ApiConfig, ApiDeps};
