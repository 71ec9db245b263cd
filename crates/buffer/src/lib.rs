//! The embeddable message buffer, on the durable log alone: topics in which messages wait, on
//! disk, for a place that is slow or away, and cursors that remember what each taker has had.
//!
//! A program that uses it learns nothing of sources, sinks or tables: it writes messages, gets its
//! answer when they are on disk, and gives a provider (Kafka, HTTP) that delivers them in order,
//! with retries, until the topic's retention lets go of them.
//!
//! Nothing of it is here yet: it is built on [`forebay_log`] once the main way, from HTTP into a
//! table, stands. This crate keeps its place in the workspace and in the direction of dependencies.
