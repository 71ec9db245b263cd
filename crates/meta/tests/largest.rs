//! The largest case of each transaction fits the limits of the store, which rejects it otherwise.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::{
    at, branch, open, repo, sink_content, sink_key, source_content, source_key, staged, stamp,
    volumes,
};
use forebay_meta::catalog::{SLICES_MAX, VOLUMES_MAX, keys};
use forebay_meta::kv::store::{
    EntryPage, LeaseId, Revision, Store, StoreEntry, StoreError, Txn, TxnError, WatchError,
    WatchStream,
};
use forebay_meta::{ActiveFile, Repo, SinkContent};
use forebay_model::limits::MAPPING_BYTES_MAX;
use forebay_model::{
    ColumnKind, FileKey, FileState, Mapping, MappingColumn, NodeId, Reconciliation, SinkKey,
    SinkSettings, SinkTarget, SliceKey, SliceState, Statistics,
};

fn counted(records: u64) -> Statistics {
    Statistics {
        records,
        ..Statistics::default()
    }
}

/// A sink whose file has the maximum of volumes.
async fn with_widest_sink(repo: &Repo) -> SinkKey {
    let source = source_key("src");
    repo.create_source(&source, source_content("s"), "New source.", &stamp(0))
        .await
        .unwrap();
    let sink = sink_key("src", "snk");
    let content = sink_content("snk");
    repo.create_sink(
        &sink,
        content,
        "New sink.",
        &volumes(VOLUMES_MAX),
        &stamp(0),
    )
    .await
    .unwrap();
    sink
}

async fn open_file(repo: &Repo, sink: &SinkKey) -> ActiveFile {
    let files = repo.active_files(Some(sink)).await.unwrap();
    let open = files
        .into_iter()
        .find(|f| f.file.state == FileState::Writing);
    open.unwrap()
}

/// Slices of the open file that are written.
fn written(file: &ActiveFile) -> Vec<SliceKey> {
    let slices = file.slices.iter().map(|s| &s.slice);
    let written = slices.filter(|s| s.state == SliceState::Writing);
    written.map(|s| s.key.clone()).collect()
}

/// A file with the maximum of slices, all in staging with two records each.
async fn with_longest_file(repo: &Repo, sink: &SinkKey) -> (FileKey, usize) {
    let mut count = VOLUMES_MAX;
    while count < SLICES_MAX {
        for slice in written(&open_file(repo, sink).await) {
            if count < SLICES_MAX {
                repo.rotate_slice(&slice, at(1)).await.unwrap();
                count += 1;
            }
        }
    }
    let open = open_file(repo, sink).await;
    let last = written(&open)[0].clone();
    assert!(repo.rotate_slice(&last, at(2)).await.is_err(), "one more");
    let key = open.file.key.clone();
    let rotated = repo.rotate_file(&key, &volumes(VOLUMES_MAX), at(3)).await;
    assert_eq!(rotated.unwrap().opened.unwrap().slices.len(), VOLUMES_MAX);
    for slice in &open.slices {
        let slice = &slice.slice.key;
        repo.slice_uploading(slice, counted(2), at(4))
            .await
            .unwrap();
        repo.slice_uploaded(slice, staged(9), 0, at(5))
            .await
            .unwrap();
    }
    (key, open.slices.len())
}

#[tokio::test]
async fn a_file_with_all_slices_is_imported_and_imported_again() {
    let (repo, _dir) = repo().await;
    let sink = with_widest_sink(&repo).await;
    let (key, slices) = with_longest_file(&repo, &sink).await;
    assert_eq!(slices, SLICES_MAX);
    let rows = 2 * SLICES_MAX as u64;
    repo.file_importing(&key, at(6)).await.unwrap();
    repo.file_imported(&key, rows, at(7)).await.unwrap();
    let imported = repo.imported_file(&key).await.unwrap().value;
    assert_eq!(imported.slices.len(), SLICES_MAX);
    let all_imported = Reconciliation {
        accepted: rows,
        imported: rows,
        ..Reconciliation::default()
    };
    assert_eq!(repo.reconciliation(&sink).await.unwrap(), all_imported);
    // The table has lost it, and the log one of its slices.
    let lost: Vec<SliceKey> = imported.full_slices().map(|s| s.key).take(1).collect();
    repo.reimport_file(&key, &lost).await.unwrap();
    let files = repo.active_files(Some(&sink)).await.unwrap();
    let again = files.iter().find(|f| f.file.key == key).unwrap();
    assert_eq!(again.file.state, FileState::Importing);
    assert_eq!(again.slices.len(), SLICES_MAX);
    for (slice, before) in again.slices.iter().zip(imported.full_slices()) {
        let (slice, is_lost) = (&slice.slice.value, lost.contains(&before.key));
        assert_eq!(slice.key, before.key);
        assert_eq!(slice.state, SliceState::Uploaded);
        assert_eq!(slice.staged(), before.staged());
        assert_eq!(slice.statistics.records, if is_lost { 0 } else { 2 });
    }
    repo.file_imported(&key, rows - 2, at(8)).await.unwrap();
    let balance = repo.reconciliation(&sink).await.unwrap();
    assert_eq!((balance.imported, balance.lost), (rows - 2, 2));
    repo.remove_imported(&key).await.unwrap();
    assert_eq!(repo.reconciliation(&sink).await.unwrap(), balance);
}

/// A store that holds back transactions above an allowed number, as if the process had ended.
#[derive(Debug)]
struct HoldingStore {
    store: Arc<dyn Store>,
    allowed: AtomicUsize,
}

impl HoldingStore {
    fn allow(&self, transactions: usize) {
        self.allowed.store(transactions, Ordering::SeqCst);
    }
}

#[async_trait]
impl Store for HoldingStore {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.store.get(key).await
    }

    async fn range(&self, p: &str, after: Option<&str>, n: usize) -> Result<EntryPage, StoreError> {
        self.store.range(p, after, n).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        let taken = self
            .allowed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if taken.is_err() {
            return std::future::pending().await;
        }
        self.store.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        self.store.watch(prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }
}

/// A process that ends within a re-import leaves slices without a file: nothing counts them, and
/// they go with the file.
#[tokio::test]
async fn an_interrupted_reimport_is_repeated_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(HoldingStore {
        store: open(dir.path()),
        allowed: AtomicUsize::new(usize::MAX),
    });
    let repo = Repo::new(store.clone(), SinkSettings::default());
    repo.ensure_branch(&branch(), true, &stamp(0))
        .await
        .unwrap();
    let sink = with_widest_sink(&repo).await;
    let (key, _) = with_longest_file(&repo, &sink).await;
    let rows = 2 * SLICES_MAX as u64;
    repo.file_importing(&key, at(6)).await.unwrap();
    repo.file_imported(&key, rows, at(7)).await.unwrap();
    let before = repo.reconciliation(&sink).await.unwrap();
    let slices = async || {
        let below = keys::below(keys::SLICES, &key);
        repo.store().count(&below).await.unwrap()
    };
    // It ends before the second of its transactions.
    store.allow(1);
    let mut reimport = Box::pin(repo.reimport_file(&key, &[]));
    while slices().await == 0 {
        assert!(futures::poll!(&mut reimport).is_pending());
    }
    drop(reimport);
    store.allow(usize::MAX);
    assert!(slices().await < SLICES_MAX);
    assert_eq!(repo.reconciliation(&sink).await.unwrap(), before);
    repo.reimport_file(&key, &[]).await.unwrap();
    assert_eq!(slices().await, SLICES_MAX);
    repo.file_imported(&key, rows, at(8)).await.unwrap();
    assert_eq!(slices().await, 0);
    assert_eq!(repo.reconciliation(&sink).await.unwrap(), before);
    store.allow(1);
    let mut reimport = Box::pin(repo.reimport_file(&key, &[]));
    while slices().await == 0 {
        assert!(futures::poll!(&mut reimport).is_pending());
    }
    drop(reimport);
    store.allow(usize::MAX);
    repo.remove_imported(&key).await.unwrap();
    assert_eq!(slices().await, 0);
}

#[tokio::test]
async fn counts_of_thousands_of_slices_are_reported() {
    let (repo, _dir) = repo().await;
    let sink = with_widest_sink(&repo).await;
    let open = written(&open_file(&repo, &sink).await);
    let mut reports: Vec<(SliceKey, Statistics)> = Vec::new();
    for i in 0..250_u32 {
        let mut slice = open[i as usize % open.len()].clone();
        if i % 3 == 0 {
            // One that is not known any more.
            slice.opened_at = at(1_000 + i64::from(i));
        }
        reports.push((slice, counted(u64::from(i))));
    }
    reports.sort_by(|a, b| a.0.cmp(&b.0));
    reports.dedup_by(|a, b| a.0 == b.0);
    let node = NodeId("n".to_owned());
    repo.report_statistics(&node, &reports).await.unwrap();
    let reported = repo.reported_statistics(Some(&sink)).await.unwrap();
    assert_eq!(reported.len(), open.len());
}

/// A sink whose columns have the maximum of bytes is written several times in a transaction, with
/// all slices of its file.
#[tokio::test]
async fn the_largest_sink_passes_all_changes() {
    let (repo, _dir) = repo().await;
    let sink = with_widest_sink(&repo).await;
    let volumes = volumes(VOLUMES_MAX);
    let by = stamp(1);
    let update = repo.update_sink(&sink, "Large.", &volumes, &by, |content| {
        if let SinkTarget::Table(table) = &mut content.target {
            let json = |mapping: &Mapping| serde_json::to_vec(mapping).unwrap().len();
            let mut mapping = Mapping {
                columns: vec![MappingColumn::new(
                    "c",
                    ColumnKind::Static {
                        value: String::new(),
                    },
                )],
            };
            let value = "v".repeat(MAPPING_BYTES_MAX - json(&mapping));
            mapping.columns[0].kind = ColumnKind::Static { value };
            assert_eq!(json(&mapping), MAPPING_BYTES_MAX);
            table.mapping = mapping;
        }
        // The default limit of descriptions, in characters that JSON escapes.
        content.description = "\u{1}".repeat(4096);
        Ok(())
    });
    update.await.unwrap();
    let open = async || {
        let files = repo.active_files(Some(&sink)).await.unwrap();
        let open = files.iter().find(|f| f.file.state == FileState::Writing);
        open.map(|f| (f.file.table.mapping.columns[0].name.clone(), f.slices.len()))
    };
    let large = || Some(("c".to_owned(), VOLUMES_MAX));
    assert_eq!(open().await, large(), "updated");
    let text = "\u{1}".repeat(4096);
    repo.update_sink(&sink, &text, &volumes, &stamp(2), |_| Ok(()))
        .await
        .unwrap();
    assert_eq!(open().await, large(), "updated again");
    repo.disable_sink(&sink, "off", &stamp(3)).await.unwrap();
    assert_eq!(open().await, None, "disabled");
    repo.enable_sink(&sink, &volumes, &stamp(4)).await.unwrap();
    assert_eq!(open().await, large(), "enabled");
    repo.delete_sink(&sink, &stamp(5)).await.unwrap();
    assert_eq!(open().await, None, "deleted");
    repo.undelete_sink(&sink, &volumes, &stamp(6))
        .await
        .unwrap();
    assert_eq!(open().await, large(), "restored");
    repo.delete_sink(&sink, &stamp(7)).await.unwrap();
    let deleted = repo.deleted_sink(&sink).await.unwrap().value;
    let content = SinkContent {
        definition_set: None,
        name: deleted.name,
        description: deleted.description,
        target: deleted.target,
        settings: deleted.settings,
    };
    repo.create_sink(&sink, content, &text, &volumes, &stamp(8))
        .await
        .unwrap();
    assert_eq!(open().await, large(), "created again");
    let source = source_key("src");
    repo.delete_source(&source, &stamp(9)).await.unwrap();
    repo.create_source(&source, source_content("again"), &text, &stamp(10))
        .await
        .unwrap();
    assert_eq!(repo.deleted_sinks(&source, "", 9).await.unwrap().total, 1);
}

/// A created sink is one transaction, or two if it is large.
#[tokio::test]
async fn a_created_sink_is_one_synced_transaction() {
    let (repo, _dir) = repo().await;
    let sink = with_widest_sink(&repo).await;
    let head = async || repo.store().range("", None, 1).await.unwrap().revision;
    let before = head().await;
    let (key, content) = (sink_key("src", "more"), sink_content("more"));
    let made = repo
        .create_sink(&key, content, "", &volumes(VOLUMES_MAX), &stamp(1))
        .await
        .unwrap();
    assert_eq!(made.revision, before.next());
    assert_eq!(head().await, before.next());
    assert_eq!(open_file(&repo, &key).await.slices.len(), VOLUMES_MAX);
    assert_ne!(key, sink);
}
