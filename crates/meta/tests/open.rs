//! Opening the embedded store: data is durable, and each problem has its own error.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::kv::store::{Revision, Txn, WatchError};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Store, StoreError, StoreOpenError};

async fn put(store: &dyn Store, key: &str) -> Revision {
    let mut txn = Txn::new();
    txn.put(key, "1");
    store.txn(txn).await.unwrap()
}

fn error(dir: &Path) -> StoreOpenError {
    EmbeddedStore::open(dir, EmbeddedOptions::default()).unwrap_err()
}

#[tokio::test]
async fn data_is_durable_across_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/when/missing");
    let store = common::open(&dir);
    let last = put(&*store, "a").await;
    drop(store);
    let store = common::open(&dir);
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, last);
    assert_eq!(put(&*store, "b").await, last.next());
    // The watch history starts empty.
    let past = store.watch("a", last).await.err();
    assert_eq!(
        past,
        Some(WatchError::Compacted {
            oldest: last.next()
        })
    );
}

#[tokio::test]
async fn leases_end_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    let lease = store.grant(Duration::from_secs(3600)).await.unwrap();
    let mut txn = Txn::new();
    txn.put_leased("node", "", lease).put("stays", "");
    let last = store.txn(txn).await.unwrap();
    drop(store);
    let store = common::open(dir.path());
    let page = store.range("", None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.revision, last.next());
    // A lease id of the previous run is not valid in this one.
    let other = store.grant(Duration::from_secs(3600)).await.unwrap();
    assert_ne!(lease, other);
    let ended = store.keep_alive(lease).await;
    assert_eq!(ended, Err(StoreError::LeaseNotFound(lease)));
}

#[tokio::test]
async fn one_process_opens_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    put(&*store, "a").await;
    let err = error(dir.path());
    assert!(matches!(err, StoreOpenError::Locked { .. }));
    assert!(err.to_string().contains("in use by another process"));
    drop(store);
    drop(common::open(dir.path()));
}

fn database(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("meta.db")).unwrap()
}

#[tokio::test]
async fn a_later_version_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    drop(common::open(dir.path()));
    let db = database(dir.path());
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let err = error(dir.path());
    assert!(matches!(err, StoreOpenError::Newer { found: 99, .. }));
    assert!(err.to_string().contains("use a newer forebay"));
}

#[test]
fn a_foreign_database_is_rejected_and_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path());
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    let before = std::fs::read(dir.path().join("meta.db")).unwrap();
    assert!(matches!(error(dir.path()), StoreOpenError::NotOurs { .. }));
    assert_eq!(std::fs::read(dir.path().join("meta.db")).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_database_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meta.db");
    std::fs::write(
        &file,
        b"this is no database, but it is long enough to be looked at",
    )
    .unwrap();
    let err = error(dir.path());
    assert!(matches!(err, StoreOpenError::Corrupt { .. }), "{err}");

    std::fs::remove_file(&file).unwrap();
    let store = common::open(dir.path());
    for i in 0..200 {
        let mut txn = Txn::new();
        txn.put(format!("key/{i}"), vec![b'x'; 1000]);
        store.txn(txn).await.unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let err = error(dir.path());
    assert!(matches!(err, StoreOpenError::Corrupt { .. }), "{err}");
}

#[test]
fn an_unwritable_path_is_in_the_error() {
    // A file in place of the directory; and, since root may write anywhere else, /proc.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let err = error(&file);
    assert!(err.to_string().contains("file"), "{err}");
    let err = error(Path::new("/proc/forebay"));
    assert!(err.to_string().contains("/proc/forebay"), "{err}");
    // For users other than root.
    use std::os::unix::fs::PermissionsExt;
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    match EmbeddedStore::open(&closed, EmbeddedOptions::default()) {
        Err(e) => assert!(matches!(e, StoreOpenError::NotWritable { .. }), "{e}"),
        Ok(_) => eprintln!("SKIPPED the read-only directory: this user may write into it"),
    }
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    put(&*store, "a").await;
    for name in ["meta.db", "meta.db-wal", "meta.lock"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_concurrent_transactions_all_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    let mut actors = tokio::task::JoinSet::new();
    // More than the capacity of the queue.
    for i in 0..3000 {
        let store = Arc::clone(&store);
        actors.spawn(async move { put(&*store, &format!("k/{i}")).await });
    }
    let mut revisions: Vec<u64> = Vec::new();
    while let Some(done) = actors.join_next().await {
        revisions.push(done.unwrap().0);
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=3000).collect::<Vec<u64>>());
}
