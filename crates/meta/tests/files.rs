//! Files and slices in the repository, step by step.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{SettledChanges as _, at, sink_key, stamp, volumes, with_sink};
use forebay_meta::catalog::slices::StepFailure;
use forebay_meta::catalog::{Repo, SLICES_MAX};
use forebay_meta::kv::store::StoreEntry;
use forebay_meta::{FileError, catalog::keys};
use forebay_model::{
    Backoff, File, FileKey, FileState, NodeId, Reconciliation, SinkKey, SliceKey, SliceState,
    Statistics,
};

fn sink() -> SinkKey {
    sink_key("src", "snk")
}

fn counted(records: u64) -> Statistics {
    Statistics {
        records,
        uncompressed_bytes: records * 100,
        compressed_bytes: records * 10,
        ..Statistics::default()
    }
}

/// The sink's open file and its slices.
async fn open_file(repo: &Repo) -> (File, Vec<SliceKey>) {
    let files = repo.active_files(Some(&sink())).await.unwrap();
    let mut open = files
        .into_iter()
        .filter(|f| f.file.state == FileState::Writing);
    let file = open.next().unwrap();
    assert!(open.next().is_none());
    let slices = file.slices.iter().map(|s| s.slice.key.clone()).collect();
    (file.file.value, slices)
}

/// Uploads a closing slice.
async fn upload(repo: &Repo, slice: &SliceKey, records: u64) {
    repo.slice_uploading(slice, counted(records), at(100))
        .await
        .unwrap();
    if records > 0 {
        repo.slice_uploaded(slice, common::staged(records * 9), 0, at(101))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_record_passes_all_states() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    let rotated = repo.rotate_slice(&slices[0], at(10)).await.unwrap();
    assert_eq!(rotated.closed.state, SliceState::Closing);
    assert_eq!(rotated.closed.revision, rotated.opened.revision);
    assert!(rotated.opened.key.opened_at > slices[0].opened_at);
    upload(&repo, &slices[0], 5).await;
    let rotation = repo
        .rotate_file(&file.key, &volumes(1), at(20))
        .await
        .unwrap();
    assert_eq!(rotation.closed.state, FileState::Closing);
    let next = rotation.opened.unwrap();
    assert!(next.file.key.opened_at > file.key.opened_at);
    let left = repo.file_importing(&file.key, at(30)).await.unwrap_err();
    assert_eq!(
        left,
        FileError::SlicesNotUploaded {
            file: file.key.clone(),
            left: 1
        }
    );
    upload(&repo, &rotated.opened.key, 0).await;
    let statistics = repo.sink_statistics(&sink()).await.unwrap();
    assert_eq!(
        (statistics.local, statistics.staging),
        (counted(0), counted(5))
    );
    let exists = async || repo.slice_exists(&slices[0]).await.unwrap();
    assert!(exists().await, "active");
    let importing = repo.file_importing(&file.key, at(30)).await.unwrap();
    assert_eq!(
        (importing.state, importing.is_empty),
        (FileState::Importing, false)
    );
    let imported = repo.file_imported(&file.key, 5, at(40)).await.unwrap();
    assert_eq!(
        (imported.state, imported.imported_rows),
        (FileState::Imported, 5)
    );
    assert_eq!(imported.imported_at, Some(at(40)));
    let error = repo.file(&file.key).await.unwrap_err();
    assert_eq!(error, FileError::FileNotFound(file.key.clone()));
    assert_eq!(
        repo.imported_file(&file.key).await.unwrap().value.file,
        imported.value
    );
    let expected = Reconciliation {
        accepted: 5,
        imported: 5,
        ..Reconciliation::default()
    };
    assert_eq!(repo.reconciliation(&sink()).await.unwrap(), expected);
    assert!(exists().await, "imported");
    repo.remove_imported(&file.key).await.unwrap();
    assert!(!exists().await, "removed");
    assert_eq!(repo.reconciliation(&sink()).await.unwrap(), expected);
    assert_eq!(
        repo.removed_up_to(&sink()).await.unwrap(),
        Some(file.key.opened_at)
    );
    for prefix in [keys::IMPORTED_FILES, keys::SLICES, keys::STATISTICS] {
        let prefix = keys::below(prefix, &sink());
        let page = repo.store().range(&prefix, None, 9).await.unwrap();
        let of_it = |e: &&StoreEntry| e.key.contains(&file.key.to_string());
        assert_eq!(page.entries.iter().find(of_it), None, "{prefix}");
    }
}

#[tokio::test]
async fn files_and_slices_without_records_need_no_object_and_no_import() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    repo.rotate_file(&file.key, &volumes(1), at(1))
        .await
        .unwrap();
    let slice = repo
        .slice_uploading(&slices[0], counted(0), at(2))
        .await
        .unwrap();
    assert_eq!((slice.state, slice.is_empty), (SliceState::Uploaded, true));
    let file = repo.file_importing(&file.key, at(3)).await.unwrap();
    assert_eq!((file.state, file.is_empty), (FileState::Imported, true));
    assert_eq!(repo.imported_files(Some(&sink())).await.unwrap().len(), 1);
}

#[tokio::test]
async fn records_lost_since_the_upload_are_counted_as_lost() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    let slice = &slices[0];
    let again = repo.slice_reuploaded(slice, common::staged(10), 2).await;
    assert_eq!(again, Err(FileError::SliceNotFound(slice.clone())));
    repo.rotate_file(&file.key, &volumes(1), at(1))
        .await
        .unwrap();
    upload(&repo, slice, 5).await;
    repo.file_importing(&file.key, at(102)).await.unwrap();
    let again = repo
        .slice_reuploaded(slice, common::staged(10), 2)
        .await
        .unwrap();
    assert_eq!(
        (again.statistics.records, again.statistics.lost_records),
        (3, 2)
    );
    assert_eq!(
        (again.state, again.staging_bytes),
        (SliceState::Uploaded, 10)
    );
    repo.file_imported(&file.key, 3, at(103)).await.unwrap();
    let balance = repo.reconciliation(&sink()).await.unwrap();
    assert_eq!(
        (balance.accepted, balance.imported, balance.lost),
        (5, 3, 2)
    );
    assert!(balance.holds());
}

#[tokio::test]
async fn only_the_next_transition_is_allowed() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    let slice = &slices[0];
    let is_invalid = |e: FileError| matches!(e, FileError::InvalidTransition(_));
    assert!(is_invalid(
        repo.slice_uploading(slice, counted(1), at(1))
            .await
            .unwrap_err()
    ));
    assert!(is_invalid(
        repo.slice_uploaded(slice, common::staged(1), 0, at(1))
            .await
            .unwrap_err()
    ));
    assert!(is_invalid(
        repo.file_importing(&file.key, at(1)).await.unwrap_err()
    ));
    assert!(is_invalid(
        repo.file_imported(&file.key, 1, at(1)).await.unwrap_err()
    ));
    repo.rotate_file(&file.key, &volumes(1), at(1))
        .await
        .unwrap();
    let twice = repo.rotate_file(&file.key, &volumes(1), at(1)).await;
    assert!(is_invalid(twice.unwrap_err()));
    assert!(is_invalid(
        repo.rotate_slice(slice, at(1)).await.unwrap_err()
    ));
    assert!(matches!(
        repo.remove_imported(&file.key).await,
        Err(FileError::FileNotFound(_))
    ));
    // None of the rejected calls had an effect.
    let files = repo.active_files(Some(&sink())).await.unwrap();
    assert_eq!(files.iter().map(|f| f.slices.len()).sum::<usize>(), 2);
}

#[tokio::test]
async fn opening_times_increase_whatever_the_clock_does() {
    let (repo, _dir) = with_sink().await;
    let mut seen: Vec<FileKey> = Vec::new();
    for now in [50, 50, 10, -10_000, 60, 60] {
        let (file, slices) = open_file(&repo).await;
        let rotated = repo.rotate_slice(&slices[0], at(now)).await.unwrap();
        assert!(rotated.opened.key.opened_at > slices[0].opened_at);
        repo.rotate_file(&file.key, &volumes(1), at(now))
            .await
            .unwrap();
        seen.push(file.key);
    }
    assert!(seen.is_sorted());
    seen.dedup();
    assert_eq!(seen.len(), 6);
    // Also if all earlier files were removed, and the sink is recreated.
    repo.delete_sink(&sink(), &stamp(70)).await.unwrap();
    for file in repo.active_files(Some(&sink())).await.unwrap() {
        for slice in &file.slices {
            upload(&repo, &slice.slice.key, 0).await;
        }
        repo.file_importing(&file.file.key, at(80)).await.unwrap();
        repo.remove_imported(&file.file.key).await.unwrap();
    }
    assert!(repo.file_statistics(&sink()).await.unwrap().is_empty());
    let before = repo.removed_up_to(&sink()).await.unwrap().unwrap();
    repo.undelete_sink(&sink(), &volumes(1), &stamp(-99_000))
        .await
        .unwrap();
    assert!(open_file(&repo).await.0.key.opened_at > before);
}

#[tokio::test]
async fn a_failure_is_recorded_until_the_step_succeeds() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    repo.rotate_file(&file.key, &volumes(1), at(0))
        .await
        .unwrap();
    let failure = StepFailure {
        reason: "no route".to_owned(),
        terminal: false,
        backoff: Backoff::default(),
        random: 100,
    };
    repo.slice_uploading(&slices[0], counted(1), at(1))
        .await
        .unwrap();
    repo.slice_failed(&slices[0], &failure, at(2))
        .await
        .unwrap();
    let failed = repo
        .slice_failed(&slices[0], &failure, at(3))
        .await
        .unwrap();
    assert_eq!(
        (failed.retry.attempt, failed.state),
        (2, SliceState::Uploading)
    );
    assert_eq!(
        failed.retry.retry_after,
        Some(at(3).plus(Duration::from_secs(2)))
    );
    let uploaded = repo
        .slice_uploaded(&slices[0], common::staged(9), 0, at(4))
        .await
        .unwrap();
    assert_eq!(uploaded.retry, forebay_model::RetryState::default());
    repo.file_importing(&file.key, at(5)).await.unwrap();
    let parked = StepFailure {
        terminal: true,
        ..failure
    };
    let failed = repo.file_failed(&file.key, &parked, at(6)).await.unwrap();
    assert!(failed.retry.parked);
    assert_eq!(failed.state, FileState::Importing);
}

#[tokio::test]
async fn reports_count_until_the_final_counts_are_stored() {
    let (repo, _dir) = with_sink().await;
    let (_, slices) = open_file(&repo).await;
    let (n1, n2) = (NodeId("n1".to_owned()), NodeId("n2".to_owned()));
    let report = |records| [(slices[0].clone(), counted(records))];
    repo.report_statistics(&n1, &report(3)).await.unwrap();
    repo.report_statistics(&n1, &report(4)).await.unwrap();
    repo.report_statistics(&n2, &report(2)).await.unwrap();
    let local = repo.sink_statistics(&sink()).await.unwrap().local;
    assert_eq!(local, counted(6));
    repo.rotate_slice(&slices[0], at(1)).await.unwrap();
    repo.slice_uploading(&slices[0], counted(7), at(2))
        .await
        .unwrap();
    assert!(repo.reported_statistics(None).await.unwrap().is_empty());
    // A late report has no effect, and is removed by the import.
    repo.report_statistics(&n1, &report(4)).await.unwrap();
    let local = repo.sink_statistics(&sink()).await.unwrap().local;
    assert_eq!(local, counted(7));
    repo.slice_uploaded(&slices[0], common::staged(9), 0, at(3))
        .await
        .unwrap();
    let rotated = repo.rotate_file(&slices[0].file, &volumes(1), at(4)).await;
    let closed = rotated.unwrap().closed.key.clone();
    for file in repo.active_files(Some(&sink())).await.unwrap() {
        for slice in file.slices {
            if slice.slice.state == SliceState::Closing {
                upload(&repo, &slice.slice.key, 0).await;
            }
        }
    }
    repo.file_importing(&closed, at(5)).await.unwrap();
    assert_eq!(repo.reported_statistics(None).await.unwrap().len(), 1);
    repo.file_imported(&closed, 7, at(6)).await.unwrap();
    assert!(repo.reported_statistics(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn reports_of_unknown_slices_are_skipped() {
    let (repo, _dir) = with_sink().await;
    let (_, slices) = open_file(&repo).await;
    let unknown = |i: i64| SliceKey {
        opened_at: at(i),
        ..slices[0].clone()
    };
    let mut reports: Vec<_> = (1000..1010).map(|i| (unknown(i), counted(1))).collect();
    reports.insert(5, (slices[0].clone(), counted(3)));
    let node = NodeId("n1".to_owned());
    repo.report_statistics(&node, &reports).await.unwrap();
    let reported = repo.reported_statistics(Some(&sink())).await.unwrap();
    assert_eq!(
        reported.into_iter().collect::<Vec<_>>(),
        [(slices[0].clone(), counted(3))]
    );
}

#[tokio::test]
async fn slices_are_limited_and_imported_in_one_transaction() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    let mut last = slices[0].clone();
    for i in 1..i64::try_from(SLICES_MAX).unwrap() {
        let rotated = repo.rotate_slice(&last, at(i)).await.unwrap();
        upload(&repo, &last, 1).await;
        last = rotated.opened.key.clone();
    }
    let more = repo.rotate_slice(&last, at(1000)).await.unwrap_err();
    assert_eq!(more, FileError::SliceLimit(file.key.clone()));
    repo.rotate_file(&file.key, &volumes(1), at(1001))
        .await
        .unwrap();
    upload(&repo, &last, 1).await;
    repo.file_importing(&file.key, at(1002)).await.unwrap();
    repo.file_imported(&file.key, 149, at(1003)).await.unwrap();
    let balance = repo.reconciliation(&sink()).await.unwrap();
    assert_eq!((balance.accepted, balance.imported), (149, 149));
}

#[tokio::test]
async fn lost_records_are_accepted_and_reported() {
    let (repo, _dir) = with_sink().await;
    let (file, slices) = open_file(&repo).await;
    repo.rotate_file(&file.key, &volumes(1), at(1))
        .await
        .unwrap();
    let damaged = Statistics {
        lost_records: 2,
        ..counted(5)
    };
    repo.slice_uploading(&slices[0], damaged, at(2))
        .await
        .unwrap();
    let balance = repo.reconciliation(&sink()).await.unwrap();
    assert_eq!(
        (balance.accepted, balance.lost, balance.in_flight),
        (7, 2, 5)
    );
    assert!(balance.holds());
    repo.slice_uploaded(&slices[0], common::staged(1), 0, at(3))
        .await
        .unwrap();
    repo.file_importing(&file.key, at(4)).await.unwrap();
    // The reconciliation shows a table that accepted fewer rows.
    repo.file_imported(&file.key, 4, at(5)).await.unwrap();
    assert!(!repo.reconciliation(&sink()).await.unwrap().holds());
}

/// Whichever wins: afterwards a deleted sink has no open file, and an existing one has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_rotation_and_deletion_leave_no_open_file() {
    let (repo, _dir) = with_sink().await;
    for round in 0..100 {
        let (file, slices) = open_file(&repo).await;
        let now = round * 10;
        let (rotate, other) = (repo.clone(), repo.clone());
        let file_rotation =
            tokio::spawn(async move { rotate.rotate_file(&file.key, &volumes(1), at(now)).await });
        let slice_rotation =
            tokio::spawn(async move { other.rotate_slice(&slices[0], at(now)).await });
        let deletion = if round % 2 == 0 {
            repo.delete_sink(&sink(), &stamp(now)).await
        } else {
            repo.delete_settled(&sink().source, &stamp(now)).await
        };
        deletion.unwrap();
        // Each happened before the deletion or was rejected by the state after it.
        let rejected = |e: &FileError| matches!(e, FileError::InvalidTransition(_));
        if let Err(e) = file_rotation.await.unwrap() {
            assert!(rejected(&e), "{e}");
        }
        if let Err(e) = slice_rotation.await.unwrap() {
            assert!(rejected(&e), "{e}");
        }
        for file in repo.active_files(Some(&sink())).await.unwrap() {
            assert_ne!(file.file.state, FileState::Writing);
            for slice in &file.slices {
                assert_ne!(slice.slice.state, SliceState::Writing);
            }
        }
        if round % 2 == 0 {
            repo.undelete_sink(&sink(), &volumes(1), &stamp(now))
                .await
                .unwrap();
        } else {
            let source = sink().source;
            repo.undelete_settled(&source, &volumes(1), &stamp(now))
                .await
                .unwrap();
        }
    }
}
