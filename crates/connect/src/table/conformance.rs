//! Conformance suite of table backends.
//!
//! A backend's test provides a [`Bench`]: the table, and the operations that [`crate::table::Table`] lacks:
//! running a statement and reading rows back. Each case uses its own tables and import ids, so that
//! cases can share a database.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests; they are not in `tests/` as other crates may provide backends"
)]

mod bench;
mod exactly_once;
mod inspection;
mod rows;
mod schemas;
mod types;

pub use bench::{Bench, import, mapping, rows};

/// Runs all cases.
pub async fn run(bench: &dyn Bench) {
    bench.table().check().await.unwrap();
    rows::run(bench).await;
    exactly_once::run(bench).await;
    schemas::run(bench).await;
    inspection::run(bench).await;
    types::run(bench).await;
}
