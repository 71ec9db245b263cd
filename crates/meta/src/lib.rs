//! Metadata of the cluster: definitions, files and slices with their states, nodes, tasks.
//!
//! [`store`] defines the interface of a backend ([`embedded`]); every backend passes the suite in
//! `conformance`. [`keys`] defines the key layout, [`stored`] the stored forms of values, [`repo`]
//! the operations of the control plane and the data plane, and [`watch_cache`] an in-memory view of
//! a prefix.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod keys;
pub mod repo;
pub mod session;
pub mod sqlite_copy;
pub mod store;
pub mod stored;
pub mod watch_cache;

pub use embedded::{EmbeddedOptions, EmbeddedStore, OpenMode, StoreOpenError};
pub use repo::definitions::{BranchDefinition, DefinitionError, SinkContent, SourceContent};
pub use repo::files::{ActiveFile, FileError, OpenedFile, RotatedFile, RotatedSlice};
pub use repo::statistics::{FileStatistics, SinkStatistics};
pub use repo::{ListPage, Repo, Versioned};
pub use store::{Revision, Store, StoreError};
pub use watch_cache::{Snapshot, WatchCache};
