//! Tables as a destination.

use std::sync::Arc;

use forebay_remote::keyed::KeyedTable;
use forebay_remote::keyed::sqlite::SqliteKeyed;

use crate::definition::Store;

mod known;
mod route;
mod table;

use route::route;
pub(crate) use table::TableWriter;

/// Opens a store; nothing is asked yet where that can wait.
///
/// # Errors
/// When this build does not have it, or its address makes no sense.
pub fn open(store: &Store) -> Result<Arc<dyn KeyedTable>, String> {
    match store {
        Store::Sqlite { path } => Ok(Arc::new(SqliteKeyed::new(path))),
        Store::Postgres { url } => postgres(url.expose()),
        Store::Cassandra { .. } => cassandra(store),
    }
}

fn postgres(_url: &str) -> Result<Arc<dyn KeyedTable>, String> {
    Err("this build has no PostgreSQL".to_owned())
}

fn cassandra(_store: &Store) -> Result<Arc<dyn KeyedTable>, String> {
    Err("this build has no Cassandra".to_owned())
}
