//! What the cluster remembers: definitions, files and slices with their states, nodes, tasks.
//!
//! [`store`] is the seam to whatever keeps it ([`embedded`]; etcd to come, against the same suite in
//! `conformance`). [`keys`] is the layout, [`stored`] the forms of values, [`repo`] what the control
//! plane and the data plane call, [`watch_cache`] what follows a part of the store in memory.

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
