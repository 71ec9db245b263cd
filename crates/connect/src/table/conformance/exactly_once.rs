//! An import applies once or not at all, whatever happens concurrently.

use futures::{FutureExt, StreamExt, stream};

use super::bench::{
    Bench, assert_terminal, count, import, import_summary, load, mapping, rows, rows_then_failure,
};
use crate::table::{ImportSummary, TableError};

pub(super) async fn run(bench: &dyn Bench) {
    for columns in [["id", "body"], ["id*", "body"]] {
        a_replay_is_skipped(bench, &columns).await;
        concurrent_imports_apply_once(bench, &columns).await;
        a_failed_stream_imports_nothing(bench, &columns).await;
        a_dropped_import_is_rolled_back(bench, &columns).await;
        rows_of_another_width_are_rejected(bench, &columns).await;
    }
    forgotten_imports_are_removed(bench).await;
    an_import_without_a_table_is_retried(bench).await;
    a_deleted_table_is_not_refilled(bench).await;
}

async fn a_deleted_table_is_not_refilled(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["id", "body"]));
    assert_eq!(
        bench.table().delete(&table).await,
        Ok(()),
        "a missing table"
    );
    let first = import(&table, 1, &mapping);
    load(bench, &first, rows(&[vec!["1", "a"]])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.table().delete(&table).await, Ok(()));
    }
    // A completed import is not repeated into a new table of the same name.
    let recorded = ImportSummary {
        already_done: true,
        ..import_summary(1)
    };
    let again = load(bench, &first, rows(&[vec!["1", "a"]])).await;
    assert_eq!(again, Ok(recorded));
    assert_eq!(count(bench, &table).await, 0);
}

async fn a_replay_is_skipped(bench: &dyn Bench, columns: &[&str]) {
    let (table, mapping) = (bench.fresh_table(), mapping(columns));
    let first = import(&table, 1, &mapping);
    assert_eq!(bench.table().imported(&first.id).await, Ok(None));
    let loaded = load(bench, &first, rows(&[vec!["1", "a"], vec!["2", "b"]])).await;
    assert_eq!(loaded, Ok(import_summary(2)));
    // The content of a replay is ignored, even a failure.
    let recorded = ImportSummary {
        already_done: true,
        ..import_summary(2)
    };
    for again in [
        rows(&[vec!["1", "a"], vec!["2", "b"]]),
        rows(&[vec!["3", "c"]]),
        stream::pending().boxed(),
    ] {
        assert_eq!(load(bench, &first, again).await, Ok(recorded));
    }
    assert_eq!(count(bench, &table).await, 2);
    assert_eq!(bench.table().imported(&first.id).await, Ok(Some(2)));
}

async fn concurrent_imports_apply_once(bench: &dyn Bench, columns: &[&str]) {
    let (table, mapping) = (bench.fresh_table(), mapping(columns));
    bench.table().prepare(&table, &mapping).await.unwrap();
    let first = import(&table, 1, &mapping);
    let all: Vec<Vec<String>> = (0..500)
        .map(|i| vec![i.to_string(), "x".repeat(100)])
        .collect();
    let race = (0..4).map(|_| bench.table().import(&first, rows(&all)));
    let results = futures::future::join_all(race).await;
    let applied = results
        .iter()
        .filter(|r| !r.as_ref().unwrap().already_done)
        .count();
    assert_eq!(applied, 1, "{results:?}");
    assert!(results.iter().all(|r| r.as_ref().unwrap().rows == 500));
    assert_eq!(count(bench, &table).await, 500);
}

async fn a_failed_stream_imports_nothing(bench: &dyn Bench, columns: &[&str]) {
    let (table, mapping) = (bench.fresh_table(), mapping(columns));
    let first = import(&table, 1, &mapping);
    let good: Vec<Vec<&str>> = vec![vec!["1", "a"]; 10];
    for retryable in [true, false] {
        let error = load(bench, &first, rows_then_failure(&good, retryable))
            .await
            .unwrap_err();
        assert_eq!(error.is_retryable(), retryable);
        assert!(error.to_string().contains("staging object x"));
        assert_eq!(count(bench, &table).await, 0);
        assert_eq!(bench.table().imported(&first.id).await, Ok(None));
    }
    let loaded = load(bench, &first, rows(&[vec!["1", "a"]])).await;
    assert_eq!(loaded, Ok(import_summary(1)));
}

async fn a_dropped_import_is_rolled_back(bench: &dyn Bench, columns: &[&str]) {
    let (table, mapping) = (bench.fresh_table(), mapping(columns));
    let first = import(&table, 1, &mapping);
    bench.table().prepare(&table, &mapping).await.unwrap();
    // A stream that ends only when it is dropped: the signal reports that some rows were read.
    let (reading, signal) = tokio::sync::oneshot::channel();
    let mut reading = Some(reading);
    let endless = rows(&[vec!["1", "a"]]).chain(stream::poll_fn(move |_| {
        reading.take().map(|t| t.send(()));
        std::task::Poll::Pending
    }));
    let importing = bench.table().import(&first, endless.boxed());
    let stopped = async {
        signal.await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    futures::select_biased! {
        result = importing.fuse() => panic!("the import ended: {result:?}"),
        () = stopped.fuse() => {}
    }
    let loaded = load(bench, &first, rows(&[vec!["2", "b"]])).await;
    assert_eq!(loaded, Ok(import_summary(1)));
    assert_eq!(count(bench, &table).await, 1);
}

async fn rows_of_another_width_are_rejected(bench: &dyn Bench, columns: &[&str]) {
    let (table, mapping) = (bench.fresh_table(), mapping(columns));
    let first = import(&table, 1, &mapping);
    let wide = rows(&[vec!["1", "a", "extra"]]);
    assert_terminal(
        load(bench, &first, wide).await,
        &[&table.to_string(), "3 cells", "2 columns"],
    );
    assert_eq!(count(bench, &table).await, 0);
    assert_eq!(bench.table().imported(&first.id).await, Ok(None));
}

async fn forgotten_imports_are_removed(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["id", "body"]));
    let imports: Vec<_> = (1..=3).map(|n| import(&table, n, &mapping)).collect();
    for import in &imports {
        load(bench, import, rows(&[vec!["1", "a"]])).await.unwrap();
    }
    let forget: Vec<String> = vec![
        imports[0].id.clone(),
        "never/there".to_owned(),
        imports[2].id.clone(),
    ];
    bench.table().forget(&forget).await.unwrap();
    bench.table().forget(&[]).await.unwrap();
    let mut left = Vec::new();
    for import in &imports {
        left.push(bench.table().imported(&import.id).await.unwrap());
    }
    assert_eq!(left, [None, Some(1), None]);
    let ids: Vec<String> = imports.iter().map(|i| i.id.clone()).collect();
    let lacking = bench.table().missing_imports(&ids).await.unwrap();
    assert_eq!(lacking, [ids[0].clone(), ids[2].clone()]);
    assert_eq!(bench.table().missing_imports(&[]).await, Ok(Vec::new()));
    for (id, rows) in [(&ids[0], None), (&ids[1], Some(1))] {
        assert_eq!(
            bench.table().resolve_import(id).await,
            Ok(rows),
            "resolving leaves no entry"
        );
        assert_eq!(bench.table().resolve_import(id).await, Ok(rows));
    }
    let (mut all, mut after) = (Vec::new(), String::new());
    while let Some(last) = {
        let page = bench.table().ledger(&after, 2).await.unwrap();
        assert!(page.len() <= 2);
        all.extend(page.clone());
        page.last().cloned()
    } {
        after = last;
    }
    let occurrences = |id: &String| all.iter().filter(|i| *i == id).count();
    assert_eq!(ids.iter().map(occurrences).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(count(bench, &table).await, 3);
}

async fn an_import_without_a_table_is_retried(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["id", "body"]));
    let first = import(&table, 1, &mapping);
    let unprepared = bench
        .table()
        .import(&first, rows(&[vec!["1", "a"]]))
        .await
        .unwrap_err();
    assert!(matches!(unprepared, TableError::Retryable(_)));
    // A table dropped while Forebay runs is recreated, empty.
    load(bench, &first, rows(&[vec!["1", "a"]])).await.unwrap();
    bench
        .execute(&format!("DROP TABLE {}", bench.sql_name(&table)))
        .await;
    let second = import(&table, 2, &mapping);
    load(bench, &second, rows(&[vec!["2", "b"]])).await.unwrap();
    assert_eq!(count(bench, &table).await, 1);
}
