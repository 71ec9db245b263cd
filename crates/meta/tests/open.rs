//! Opening the embedded store: what was there is there, and what is wrong is named.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::kv::store::{Revision, Txn, TxnError, WatchError};
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
async fn what_was_written_is_there_after_opening_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/when/missing");
    let store = common::open(&dir);
    let last = put(&*store, "a").await;
    drop(store);
    let store = common::open(&dir);
    assert_eq!(store.get("a").await.unwrap().unwrap().mod_revision, last);
    assert_eq!(put(&*store, "b").await, last.next());
    // Of the time before, nothing is remembered.
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
    // A lease of the run before is not taken for one of this run.
    let other = store.grant(Duration::from_secs(3600)).await.unwrap();
    assert_ne!(lease, other);
    let ended = store.keep_alive(lease).await;
    assert_eq!(ended, Err(StoreError::LeaseNotFound(lease)));
}

#[tokio::test]
async fn only_one_may_write_and_others_may_look() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    put(&*store, "a").await;
    let refused = error(dir.path());
    assert!(matches!(refused, StoreOpenError::Locked { .. }));
    assert!(refused.to_string().contains("in use by another process"));
    let look = EmbeddedStore::open_read_only(dir.path()).unwrap();
    assert!(look.get("a").await.unwrap().is_some());
    put(&*store, "b").await;
    assert!(look.get("b").await.unwrap().is_some());
    let mut txn = Txn::new();
    txn.put("c", "");
    let refused = look.txn(txn).await.unwrap_err();
    assert!(matches!(refused, TxnError::Store(StoreError::Terminal(_))));
    assert!(look.watch("", Revision(1)).await.is_err());
    drop(store);
    drop(common::open(dir.path()));
}

#[test]
fn looking_does_not_make_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let missing = EmbeddedStore::open_read_only(dir.path()).unwrap_err();
    assert!(matches!(missing, StoreOpenError::Missing { .. }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn database(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("meta.db")).unwrap()
}

#[tokio::test]
async fn a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(common::open(dir.path()));
    let db = database(dir.path());
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let refused = error(dir.path());
    assert!(matches!(refused, StoreOpenError::Newer { found: 99, .. }));
    assert!(refused.to_string().contains("use a newer forebay"));
    assert!(matches!(
        EmbeddedStore::open_read_only(dir.path()),
        Err(StoreOpenError::Newer { .. })
    ));
}

#[test]
fn a_database_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = database(dir.path());
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    let before = std::fs::read(dir.path().join("meta.db")).unwrap();
    assert!(matches!(error(dir.path()), StoreOpenError::NotOurs { .. }));
    assert_eq!(std::fs::read(dir.path().join("meta.db")).unwrap(), before);
}

#[tokio::test]
async fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("meta.db");
    std::fs::write(
        &file,
        b"this is no database, but it is long enough to be looked at",
    )
    .unwrap();
    let refused = error(dir.path());
    assert!(
        matches!(refused, StoreOpenError::Corrupt { .. }),
        "{refused}"
    );

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
    let refused = error(dir.path());
    assert!(
        matches!(refused, StoreOpenError::Corrupt { .. }),
        "{refused}"
    );
}

#[test]
fn what_can_not_be_written_is_named() {
    // A file where the directory should be; and, as root may write anywhere else, /proc.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = error(&file);
    assert!(refused.to_string().contains("file"), "{refused}");
    let refused = error(Path::new("/proc/forebay"));
    assert!(refused.to_string().contains("/proc/forebay"), "{refused}");
    // For anyone but root.
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
async fn nobody_else_may_read_the_file() {
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
async fn many_transactions_at_once_all_happen() {
    let dir = tempfile::tempdir().unwrap();
    let store = common::open(dir.path());
    let mut actors = tokio::task::JoinSet::new();
    // More than the queue has places for.
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
