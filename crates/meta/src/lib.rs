//! Metadata of the cluster: definitions, files and slices with their states, nodes, tasks.
//!
//! [`kv`] is the store of keys and values; [`catalog`] defines what is in it and is what the control
//! plane and the data plane call.

pub mod catalog;
pub mod kv;

pub use catalog::definitions::{BranchDefinition, DefinitionError, SinkContent, SourceContent};
pub use catalog::files::{ActiveFile, FileError, OpenedFile, RotatedFile, RotatedSlice};
pub use catalog::overview::{CatalogReport, SinkReport};
pub use catalog::statistics::{FileStatistics, SinkStatistics};
pub use catalog::{ListPage, Repo, Versioned};
pub use kv::embedded::{EmbeddedOptions, EmbeddedStore, OpenMode, StoreOpenError};
pub use kv::store::{Revision, Store, StoreError};
pub use kv::watch_cache::{Snapshot, WatchCache};
