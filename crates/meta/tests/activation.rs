//! Disabled and enabled sources and sinks, cleared statistics, purged sources.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    SettledChanges as _, at, sink_content, sink_key, source_content, source_key, stamp, volumes,
    with_sink,
};
use forebay_meta::catalog::keys::StoreKey;
use forebay_meta::catalog::stored::Stored;
use forebay_meta::catalog::stored::sink_state::SinkState;
use forebay_meta::catalog::table_drop::DropDecision;
use forebay_meta::kv::store::Txn;
use forebay_meta::{DefinitionError, Repo};
use forebay_model::{FileState, SinkKey, SliceState, Statistics};

async fn writing(repo: &Repo, sink: &SinkKey) -> usize {
    let files = repo.active_files(Some(sink)).await.unwrap();
    let writing = files.iter().filter(|f| f.file.state == FileState::Writing);
    writing.count()
}

async fn create_sink(repo: &Repo, id: &str) -> SinkKey {
    let key = sink_key("src", id);
    let content = sink_content(id);
    repo.create_sink(&key, content, "New sink.", &volumes(1), &stamp(1))
        .await
        .unwrap();
    key
}

/// Imports all closed files, with `records` for each slice.
async fn import_all(repo: &Repo, sink: &SinkKey, records: u64) {
    for file in repo.active_files(Some(sink)).await.unwrap() {
        if file.file.state == FileState::Writing {
            continue;
        }
        for slice in &file.slices {
            let key = &slice.slice.key;
            if slice.slice.state != SliceState::Closing {
                continue;
            }
            let counted = Statistics {
                records,
                ..Statistics::default()
            };
            repo.slice_uploading(key, counted, at(50)).await.unwrap();
            if records > 0 {
                repo.slice_uploaded(key, common::staged(9), 0, at(51))
                    .await
                    .unwrap();
            }
        }
        let key = &file.file.key;
        let importing = repo.file_importing(key, at(52)).await.unwrap();
        if importing.state != FileState::Imported {
            repo.file_imported(key, records, at(53)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_source_is_disabled_and_enabled_with_its_sinks_only() {
    let (repo, _dir) = with_sink().await;
    let (source, with) = (source_key("src"), sink_key("src", "snk"));
    let own = create_sink(&repo, "own").await;
    repo.disable_sink(&own, "not now", &stamp(2)).await.unwrap();
    assert_eq!(
        (writing(&repo, &own).await, writing(&repo, &with).await),
        (0, 1)
    );
    let off = repo
        .disable_settled(&source, "API", &stamp(3))
        .await
        .unwrap();
    assert_eq!(
        (off.version.number, off.version.description.as_str()),
        (2, "Disabled.")
    );
    assert_eq!(off.disabled.as_ref().unwrap().reason, "API");
    let again = repo.disable_settled(&source, "x", &stamp(4)).await.unwrap();
    assert_eq!(again, off, "idempotent");
    let sink = repo.sink(&with).await.unwrap();
    let disabled = sink.disabled.clone().unwrap();
    assert_eq!(disabled.reason, "Auto-disabled with the parent source.");
    assert_eq!(sink.version.number, 1, "no version of its own");
    assert_eq!(writing(&repo, &with).await, 0);
    // It is enabled with its source only.
    let alone = repo
        .enable_sink(&with, &volumes(1), &stamp(5))
        .await
        .unwrap();
    assert!(alone.disabled.is_some());
    // A sink created meanwhile gets its file with the source.
    let late = create_sink(&repo, "late").await;
    assert_eq!(writing(&repo, &late).await, 0);
    let on = repo
        .enable_settled(&source, &volumes(1), &stamp(6))
        .await
        .unwrap();
    assert_eq!((on.version.number, on.disabled.is_some()), (3, false));
    for (sink, files) in [(&with, 1), (&late, 1), (&own, 0)] {
        assert_eq!(writing(&repo, sink).await, files, "{sink}");
    }
    let own_sink = repo.sink(&own).await.unwrap();
    assert_eq!(own_sink.disabled.as_ref().unwrap().reason, "not now");
    let own_on = repo
        .enable_sink(&own, &volumes(1), &stamp(7))
        .await
        .unwrap();
    assert_eq!((own_on.version.number, writing(&repo, &own).await), (3, 1));
}

#[tokio::test]
async fn a_rollback_keeps_the_activation_and_the_secret() {
    let (repo, _dir) = with_sink().await;
    let source = source_key("src");
    let rotated = repo
        .update_source(&source, "Rotated secret.", &stamp(2), |content| {
            let forebay_model::SourceKind::Http { secret, .. } = &mut content.kind;
            *secret = "t".repeat(48);
            Ok(())
        })
        .await
        .unwrap();
    repo.disable_settled(&source, "API", &stamp(3))
        .await
        .unwrap();
    let back = repo.rollback_source(&source, 1, &stamp(4)).await.unwrap();
    assert_eq!(back.kind, rotated.kind, "the old secret is not valid");
    assert!(back.disabled.is_some());
    let sink = sink_key("src", "snk");
    let kept = repo.rollback_sink(&sink, 1, &volumes(1), &stamp(5)).await;
    assert!(kept.unwrap().disabled.is_some());
    assert_eq!(writing(&repo, &sink).await, 0);
}

#[tokio::test]
async fn a_sink_deleted_while_its_source_was_disabled_is_restored_enabled() {
    let (repo, _dir) = with_sink().await;
    let (source, sink) = (source_key("src"), sink_key("src", "snk"));
    repo.disable_settled(&source, "API", &stamp(2))
        .await
        .unwrap();
    repo.delete_sink(&sink, &stamp(3)).await.unwrap();
    repo.enable_settled(&source, &volumes(1), &stamp(4))
        .await
        .unwrap();
    let back = repo.undelete_sink(&sink, &volumes(1), &stamp(5)).await;
    assert_eq!(back.unwrap().disabled, None);
    assert_eq!(writing(&repo, &sink).await, 1);
}

/// A change of a source is one transaction that writes nothing of its sinks; their files follow.
#[tokio::test]
async fn a_hundred_sinks_are_disabled_in_one_transaction() {
    let (repo, _dir) = with_sink().await;
    for i in 1..100 {
        create_sink(&repo, &format!("s{i}")).await;
    }
    let source = source_key("src");
    let open = async || {
        let files = repo.active_files(None).await.unwrap();
        let open = files.iter().filter(|f| f.file.state == FileState::Writing);
        open.count()
    };
    let head = async || repo.store().range("", None, 1).await.unwrap().revision;
    let before = head().await;
    let off = repo
        .disable_source(&source, "API", &stamp(2))
        .await
        .unwrap();
    assert_eq!(off.revision, before.next());
    assert_eq!(off.revision, repo.source(&source).await.unwrap().revision);
    let sinks = repo.sinks(&source, "", 100).await.unwrap();
    assert!(sinks.items.iter().all(|sink| !sink.is_active()));
    assert_eq!(open().await, 100, "not settled");
    let closed = repo.settle_sinks(&source, &[], &stamp(2)).await.unwrap();
    assert_eq!((open().await, closed), (0, head().await));
    let before = closed;
    let on = repo.enable_source(&source, &stamp(3)).await.unwrap();
    assert_eq!(on.revision, before.next());
    assert_eq!(on.value.disabled, None);
    let sinks = repo.sinks(&source, "", 100).await.unwrap();
    assert!(sinks.items.iter().all(forebay_model::Sink::is_active));
    let volumes = volumes(16);
    let opened = repo.settle_sinks(&source, &volumes, &stamp(3)).await;
    assert_eq!((open().await, opened.unwrap()), (100, head().await));
    let none = repo.settle_sinks(&source, &volumes, &stamp(4)).await;
    assert_eq!(none.unwrap(), forebay_meta::Revision::default(), "settled");
    let before = head().await;
    let gone = repo.delete_source(&source, &stamp(5)).await.unwrap();
    assert_eq!(gone, before.next());
    let back = repo.undelete_source(&source, &stamp(6)).await.unwrap();
    assert_eq!(back.revision, gone.next());
    assert_eq!(open().await, 100, "not settled in between");
    assert_eq!(repo.sinks(&source, "", 100).await.unwrap().total, 100);
}

#[tokio::test]
async fn cleared_statistics_are_hidden_and_the_reconciliation_continues() {
    let (repo, _dir) = with_sink().await;
    let sink = sink_key("src", "snk");
    let rotate = async || {
        let files = repo.active_files(Some(&sink)).await.unwrap();
        let open = files.iter().find(|f| f.file.state == FileState::Writing);
        let key = open.unwrap().file.key.clone();
        repo.rotate_file(&key, &volumes(1), at(60)).await.unwrap();
    };
    rotate().await;
    import_all(&repo, &sink, 5).await;
    rotate().await;
    let before = repo.sink_statistics(&sink).await.unwrap();
    assert_eq!(before.shown_total().records, 5);
    repo.clear_statistics(&sink, &stamp(9)).await.unwrap();
    let cleared = repo.sink_statistics(&sink).await.unwrap();
    assert_eq!(cleared.shown_total(), Statistics::default());
    assert_eq!(cleared.reconciliation(), before.reconciliation());
    let listed = repo.file_statistics(&sink).await.unwrap();
    let shown: Vec<bool> = listed.iter().map(|f| !f.cleared).collect();
    assert_eq!(shown, [false, true, true], "records in flight are shown");
    // Records in flight count when they are imported, also after their file is removed.
    import_all(&repo, &sink, 7).await;
    assert_eq!(
        repo.sink_statistics(&sink)
            .await
            .unwrap()
            .shown_target
            .records,
        7
    );
    for file in repo.imported_files(Some(&sink)).await.unwrap() {
        repo.remove_imported(&file.key).await.unwrap();
    }
    let after = repo.sink_statistics(&sink).await.unwrap();
    assert_eq!((after.shown_target.records, after.target.records), (7, 12));
    assert!(after.reconciliation().holds());
    repo.clear_statistics(&sink, &stamp(9)).await.unwrap();
    assert_eq!(
        repo.sink_statistics(&sink)
            .await
            .unwrap()
            .shown_target
            .records,
        0
    );
}

#[tokio::test]
async fn a_source_is_purged_only_when_all_its_records_are_imported() {
    let (repo, _dir) = with_sink().await;
    let (source, sink) = (source_key("src"), sink_key("src", "snk"));
    let alive = repo.purge_source(&source, &stamp(9)).await;
    assert!(matches!(alive, Err(DefinitionError::SourceNotFound(_))));
    repo.delete_settled(&source, &stamp(2)).await.unwrap();
    let early = repo.purge_source(&source, &stamp(9)).await;
    assert!(matches!(early, Err(DefinitionError::InFlight { files: 1 })));
    let tables = repo.filled_tables(&source).await.unwrap();
    assert_eq!(tables.len(), 1);
    let decision = repo.drop_decision(&source, &tables[0]).await.unwrap();
    assert_eq!(decision, DropDecision::Held, "a file is in flight");
    import_all(&repo, &sink, 3).await;
    repo.purge_source(&source, &stamp(9)).await.unwrap();
    assert!(repo.deleted_source(&source).await.is_err());
    assert!(repo.deleted_sink(&sink).await.is_err());
    assert!(repo.source_version(&source, 1).await.is_err());
    assert!(repo.sink_version(&sink, 1).await.is_err());
    let made = repo
        .create_source(&source, source_content("Again"), "New source.", &stamp(4))
        .await
        .unwrap();
    assert_eq!((made.version.number, made.created.at), (1, at(4)));
    create_sink(&repo, "snk").await;
    let statistics = repo.sink_statistics(&sink).await.unwrap();
    assert_eq!(statistics.shown_total(), Statistics::default());
    assert_eq!(repo.sink(&sink).await.unwrap().version.number, 1);
}

#[tokio::test]
async fn removed_files_are_cleared_although_a_later_file_was_removed_too() {
    let (repo, _dir) = with_sink().await;
    let sink = sink_key("src", "snk");
    let rotate = async |now| {
        let files = repo.active_files(Some(&sink)).await.unwrap();
        let open = files.iter().find(|f| f.file.state == FileState::Writing);
        let key = open.unwrap().file.key.clone();
        repo.rotate_file(&key, &volumes(1), at(now)).await.unwrap();
    };
    rotate(10).await;
    import_all(&repo, &sink, 5).await;
    // The second one waits for its table, the third has no records.
    rotate(20).await;
    rotate(30).await;
    let files = repo.active_files(Some(&sink)).await.unwrap();
    for (file, records) in files.iter().take(2).zip([7, 0]) {
        let counted = Statistics {
            records,
            ..Statistics::default()
        };
        let slice = &file.slices[0].slice.key;
        repo.slice_uploading(slice, counted, at(50)).await.unwrap();
        if records == 0 {
            let file = &file.file.key;
            repo.file_importing(file, at(51)).await.unwrap();
        }
    }
    for file in repo.imported_files(Some(&sink)).await.unwrap() {
        repo.remove_imported(&file.key).await.unwrap();
    }
    let shown = async || {
        let statistics = repo.sink_statistics(&sink).await.unwrap();
        (
            statistics.shown_target.records,
            statistics.shown_total().records,
        )
    };
    assert_eq!(shown().await, (5, 12));
    repo.clear_statistics(&sink, &stamp(60)).await.unwrap();
    assert_eq!(shown().await, (0, 7));
}

/// More sinks than fit into one transaction: their total number over time is not limited.
#[tokio::test]
async fn a_source_with_thousands_of_deleted_sinks_can_be_purged() {
    let (repo, _dir) = with_sink().await;
    let (source, sink) = (source_key("src"), sink_key("src", "snk"));
    repo.delete_settled(&source, &stamp(2)).await.unwrap();
    import_all(&repo, &sink, 3).await;
    let deleted = repo.all_deleted_sinks(&source).await.unwrap().remove(0);
    let state = repo
        .store()
        .get(&StoreKey::SinkState(&sink).to_string())
        .await;
    let state = state.unwrap().unwrap().value;
    for some in (0..3_000).collect::<Vec<_>>().chunks(60) {
        let mut txn = Txn::new();
        for i in some {
            let mut sink = deleted.clone();
            sink.key = sink_key("src", &format!("snk{i}"));
            txn.put(StoreKey::DeletedSink(&sink.key), sink.encode().unwrap());
            txn.put(StoreKey::SinkState(&sink.key), state.clone());
        }
        repo.store().txn(txn).await.unwrap();
    }
    repo.purge_source(&source, &stamp(9)).await.unwrap();
    let none = repo.deleted_sinks(&source, "", 10).await.unwrap();
    assert_eq!(none.total, 0);
    for id in ["snk", "snk0", "snk2999"] {
        let state = StoreKey::SinkState(&sink_key("src", id)).to_string();
        let state = repo.store().get(&state).await.unwrap().unwrap();
        let state = SinkState::decode(&state.value).unwrap();
        assert_eq!(state.cleared.map(|c| c.up_to), state.last_opened_at, "{id}");
    }
}
