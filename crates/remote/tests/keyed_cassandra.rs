//! Keyed rows in Cassandra: the suite, on a real node.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use forebay_remote::keyed::cassandra::{CassandraConfig, CassandraKeyed};
use forebay_remote::keyed::{KeyedTable, conformance};
use forebay_remote::services;

#[tokio::test]
async fn cassandra_keeps_keyed_rows() {
    let Some(node) = services::cassandra("cassandra_keeps_keyed_rows") else {
        return;
    };
    let store = CassandraKeyed::new(CassandraConfig::new(vec![node]));
    let keyspace = format!("Keyed{}", std::process::id());
    conformance::run(&store, &format!("{keyspace}.Products")).await;
}

#[tokio::test]
async fn a_cluster_that_is_not_there_may_come_later() {
    let nobody = CassandraConfig::new(vec!["127.0.0.1:1".to_owned()]);
    let error = CassandraKeyed::new(nobody).check().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
