//! Tables as a destination.

use std::sync::Arc;

use forebay_connect::keyed::KeyedTable;
use forebay_connect::keyed::sqlite::SqliteKeyed;

use crate::definition::TableStore;

mod route;
mod row_hash_cache;
mod table;

use route::route;
pub(crate) use table::KeyedTableWriter;

/// Opens a store. Some stores connect only on first use.
///
/// # Errors
/// This build does not support the store, or its address is invalid.
pub fn open(store: &TableStore) -> Result<Arc<dyn KeyedTable>, String> {
    match store {
        TableStore::Sqlite { path } => Ok(Arc::new(SqliteKeyed::new(path))),
        TableStore::Postgres { url } => postgres(url.expose()),
        TableStore::Cassandra { .. } => cassandra(store),
    }
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Arc<dyn KeyedTable>, String> {
    use forebay_connect::table::postgres::{PostgresConfig, PostgresKeyed};
    let store = PostgresKeyed::open(&PostgresConfig::new(url)).map_err(|e| e.to_string())?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_url: &str) -> Result<Arc<dyn KeyedTable>, String> {
    Err("this build has no PostgreSQL (cargo feature `postgres`)".to_owned())
}

#[cfg(feature = "cassandra")]
fn cassandra(store: &TableStore) -> Result<Arc<dyn KeyedTable>, String> {
    use crate::definition::StoreTlsVerify;
    use forebay_connect::keyed::cassandra::{CassandraConfig, CassandraKeyed, CassandraTls};
    let TableStore::Cassandra {
        nodes,
        user,
        password,
        replication,
        in_flight,
        tls,
    } = store
    else {
        return Err("not a Cassandra store".to_owned());
    };
    let mut config = CassandraConfig::new(nodes.clone());
    if let Some(tls) = tls {
        let ca_pem = tls.ca_file.as_deref().map(read_certificates).transpose()?;
        config.tls = Some(CassandraTls {
            verify: match tls.verify {
                StoreTlsVerify::Full => forebay_connect::tls::ServerVerification::Full,
                StoreTlsVerify::Authority => forebay_connect::tls::ServerVerification::Authority,
                StoreTlsVerify::Nothing => forebay_connect::tls::ServerVerification::Nothing,
            },
            ca_pem,
        });
    }
    config.replication = *replication;
    config.in_flight = *in_flight as usize;
    if let (Some(user), Some(password)) = (user, password) {
        config.login = Some((user.clone(), password.expose().into()));
    }
    Ok(Arc::new(CassandraKeyed::new(config)))
}

#[cfg(any(feature = "cassandra", feature = "redis"))]
fn read_certificates(path: &std::path::Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|e| format!("the CA certificates {} can't be read: {e}", path.display()))
}

#[cfg(not(feature = "cassandra"))]
fn cassandra(_store: &TableStore) -> Result<Arc<dyn KeyedTable>, String> {
    Err("this build has no Cassandra (cargo feature `cassandra`)".to_owned())
}
