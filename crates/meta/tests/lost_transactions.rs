//! A store that lost transactions is not opened without the operator's consent; it can be restored
//! from its copies.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use forebay_meta::kv::embedded::{copies, restore_copy};
use forebay_meta::kv::store::{Revision, Txn};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, OpenMode, Store, StoreOpenError};

fn open(dir: &Path, existing: OpenMode) -> Result<EmbeddedStore, StoreOpenError> {
    let options = EmbeddedOptions {
        existing,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open(dir, options)
}

async fn put(store: &EmbeddedStore, n: u64) -> Revision {
    let mut txn = Txn::new();
    txn.put(format!("k{n:04}"), vec![7; 300]);
    store.txn(txn).await.unwrap()
}

async fn count(store: &EmbeddedStore) -> usize {
    store.range("k", None, 1000).await.unwrap().entries.len()
}

/// Copies the files as the end of the process at this moment leaves them, except some.
fn killed(from: &Path, without: &[&str]) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.mark"] {
        if !without.contains(&name) {
            std::fs::copy(from.join(name), to.path().join(name)).unwrap();
        }
    }
    to
}

#[tokio::test]
async fn a_lost_or_damaged_write_ahead_log_is_detected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    let mut last = Revision::default();
    for n in 0..50 {
        last = put(&store, n).await;
    }
    let whole = killed(dir.path(), &[]);
    assert_eq!(
        count(&open(whole.path(), OpenMode::Required).unwrap()).await,
        50
    );

    let lost = killed(dir.path(), &["meta.db-wal"]);
    match open(lost.path(), OpenMode::Optional).unwrap_err() {
        StoreOpenError::Behind { found, known, .. } => {
            assert_eq!((found, known), (Revision(0), last));
        }
        other => panic!("{other}"),
    }
    // At every truncation or damage of the log: either no transaction is missing, or it is
    // reported.
    let wal = std::fs::read(dir.path().join("meta.db-wal")).unwrap();
    let mut noticed = 0;
    for at in (0..wal.len()).step_by(wal.len() / 40) {
        let damaged = killed(dir.path(), &[]);
        let mut bytes = wal.clone();
        bytes[at] ^= 1;
        std::fs::write(damaged.path().join("meta.db-wal"), bytes).unwrap();
        match open(damaged.path(), OpenMode::Optional) {
            Ok(store) => assert_eq!(count(&store).await, 50, "byte {at}"),
            Err(StoreOpenError::Behind { found, known, .. }) => {
                assert!(found < known, "byte {at}");
                noticed += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[tokio::test]
async fn a_missing_or_empty_database_is_not_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    put(&store, 1).await;
    let missing = killed(dir.path(), &["meta.db", "meta.db-wal"]);
    let err = open(missing.path(), OpenMode::Optional).unwrap_err();
    assert!(matches!(err, StoreOpenError::Removed { .. }), "{err}");
    assert!(!missing.path().join("meta.db").exists());
    std::fs::write(missing.path().join("meta.db"), b"").unwrap();
    let err = open(missing.path(), OpenMode::Optional).unwrap_err();
    assert!(matches!(err, StoreOpenError::Behind { .. }), "{err}");
    // Also without the revision file, if there is other evidence of an earlier store.
    let nothing = tempfile::tempdir().unwrap();
    let err = open(nothing.path(), OpenMode::Required).unwrap_err();
    assert!(matches!(err, StoreOpenError::Removed { .. }), "{err}");
}

#[tokio::test]
async fn an_accepted_loss_is_not_reported_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    let mut last = Revision::default();
    for n in 0..9 {
        last = put(&store, n).await;
    }
    let lost = killed(dir.path(), &["meta.db-wal"]);
    let store = open(lost.path(), OpenMode::MayBeBehind).unwrap();
    assert_eq!(count(&store).await, 0);
    assert!(put(&store, 1).await > last, "no revision is reused");
    drop(store);
    assert_eq!(
        count(&open(lost.path(), OpenMode::Optional).unwrap()).await,
        1
    );
}

#[tokio::test]
async fn a_stop_checkpoints_everything_into_the_database_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    for n in 0..20 {
        put(&store, n).await;
    }
    // With a reader: closing alone would not checkpoint then.
    let reader = rusqlite::Connection::open(dir.path().join("meta.db")).unwrap();
    let tables = reader.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0));
    assert_ne!(tables, Ok(0));
    drop(store);
    let stopped = killed(dir.path(), &["meta.db-wal"]);
    assert_eq!(
        count(&open(stopped.path(), OpenMode::Required).unwrap()).await,
        20
    );
}

#[tokio::test]
async fn copies_are_created_in_use_and_the_newest_are_retained() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(copies::COPIES_FOLDER);
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    for n in 0..5 {
        let revision = put(&store, n).await;
        let made = copies::create(dir.path(), &folder, 3, 1000 + i64::try_from(n).unwrap());
        assert_eq!(made.unwrap().unwrap().revision, revision);
    }
    // No copy without changes.
    assert_eq!(copies::create(dir.path(), &folder, 3, 2000).unwrap(), None);
    let kept = copies::list(&folder);
    assert_eq!(kept.len(), 3);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    assert_eq!(kept[0].made_at_ms, 1004);
    let last = put(&store, 5).await;
    drop(store);

    std::fs::write(dir.path().join("meta.db"), vec![b'x'; 8192]).unwrap();
    let err = open(dir.path(), OpenMode::Optional).unwrap_err();
    assert!(matches!(err, StoreOpenError::Corrupt { .. }), "{err}");
    let (copy, aside) = restore_copy(dir.path(), &folder, &kept[0].path, 3000).unwrap();
    assert_eq!(copy.revision, kept[0].revision);
    assert!(aside.iter().all(|path| path.exists()) && !aside.is_empty());
    let store = open(dir.path(), OpenMode::Required).unwrap();
    assert_eq!(count(&store).await, 5);
    assert!(put(&store, 9).await > last);
    drop(store);
    // A copy alone is evidence of lost transactions, also without the revision file.
    let old = kept[2].path.clone();
    std::fs::remove_file(dir.path().join("meta.mark")).unwrap();
    std::fs::copy(old, dir.path().join("meta.db")).unwrap();
    let err = open(dir.path(), OpenMode::Optional).unwrap_err();
    assert!(matches!(err, StoreOpenError::Behind { .. }), "{err}");
}

#[tokio::test]
async fn a_damaged_copy_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("copies");
    let store = open(dir.path(), OpenMode::Optional).unwrap();
    for n in 0..200 {
        put(&store, n).await;
    }
    let copy = copies::create(dir.path(), &folder, 3, 1).unwrap().unwrap();
    drop(store);
    let bytes = std::fs::read(&copy.path).unwrap();
    std::fs::write(&copy.path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(restore_copy(dir.path(), &folder, &copy.path, 2).is_err());
    assert_eq!(
        count(&open(dir.path(), OpenMode::Required).unwrap()).await,
        200
    );
}

#[tokio::test]
async fn nothing_is_committed_while_writes_are_paused() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(dir.path(), OpenMode::Optional).unwrap());
    let last = put(&store, 1).await;
    let (entered, inside) = std::sync::mpsc::sync_channel(1);
    let (leave, left) = std::sync::mpsc::sync_channel::<()>(1);
    let paused = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            store
                .with_writes_paused(move |revision| {
                    entered.send(revision).unwrap();
                    left.recv().unwrap();
                })
                .await
        })
    };
    let inside = tokio::task::spawn_blocking(move || inside.recv().unwrap());
    assert_eq!(inside.await.unwrap(), last);
    let more = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move { put(&store, 2).await })
    };
    assert_eq!(count(&store).await, 1, "reads go on");
    assert!(!more.is_finished());
    leave.send(()).unwrap();
    paused.await.unwrap().unwrap();
    assert_eq!(more.await.unwrap(), last.next());
}
