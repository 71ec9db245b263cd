//! Inspection of a table changes nothing.

use super::bench::{Bench, cells, import, load, mapping, rows, some};
use crate::table::TableInspection;

pub(super) async fn run(bench: &dyn Bench) {
    a_missing_table_fits(bench).await;
    an_existing_table_is_compared(bench).await;
    all_mismatches_are_reported(bench).await;
    inspection_and_prepare_agree(bench).await;
    views_are_not_tables(bench).await;
}

async fn a_missing_table_fits(bench: &dyn Bench) {
    let (table, mapping) = (
        bench.fresh_table(),
        mapping(&["id*", "odd \"name\"", "select"]),
    );
    assert!(bench.table().check_names(&table, &mapping).is_empty());
    for _ in 0..2 {
        let found = bench.table().inspect(&table, &mapping).await;
        assert_eq!(
            found,
            Ok(TableInspection::default()),
            "the table is not created"
        );
    }
}

async fn an_existing_table_is_compared(bench: &dyn Bench) {
    let (table, narrow) = (bench.fresh_table(), mapping(&["id*", "a"]));
    let first = import(&table, 1, &narrow);
    load(bench, &first, rows(&[vec!["1", "x"]])).await.unwrap();
    let fits = TableInspection {
        exists: true,
        findings: Vec::new(),
    };
    for wanted in [&["id*", "a"][..], &["A", "ID*"], &["id*", "new"]] {
        let found = bench.table().inspect(&table, &mapping(wanted)).await;
        assert_eq!(found.as_ref(), Ok(&fits), "{wanted:?}");
    }
    assert_eq!(cells(bench, &table, "a", "id").await, some(&["x"]));
    let found = bench.table().inspect(&table, &mapping(&["id", "a"])).await;
    let found = found.unwrap();
    assert!(found.exists && found.findings.len() == 1, "{found:?}");
    assert!(
        found.findings[0].message.contains("primary key"),
        "{found:?}"
    );
    assert_eq!(found.findings[0].column, None);
}

async fn all_mismatches_are_reported(bench: &dyn Bench) {
    let table = bench.fresh_table();
    bench.execute(&bench.before_create(&table)).await;
    let name = bench.sql_name(&table);
    let columns = "\"n\" integer, \"t\" text, \"needed\" text NOT NULL,
        \"made\" text GENERATED ALWAYS AS (\"t\") STORED";
    bench
        .execute(&format!("CREATE TABLE {name} ({columns})"))
        .await;
    let mapping = mapping(&["t", "n", "made"]);
    let found = bench.table().inspect(&table, &mapping).await.unwrap();
    assert!(found.exists);
    let found: Vec<_> = found
        .findings
        .iter()
        .map(|f| (f.column, f.message.as_str()))
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    for ((column, message), (wanted, words)) in found.into_iter().zip([
        (Some(1), "column \"n\" has type"),
        (Some(2), "column \"made\" is generated"),
        (None, "column \"needed\" must have a value"),
    ]) {
        assert_eq!(column, wanted, "{message}");
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&table.to_string()), "{message}");
    }
}

async fn inspection_and_prepare_agree(bench: &dyn Bench) {
    // In bytes, for names that only one backend accepts.
    for (length, name) in [(63, "x"), (64, "x"), (64, "\u{e4}")] {
        let name = name.repeat(length / name.len());
        for columns in [
            &[name.as_str()][..],
            &["ctid"],
            &["rowid", "_rowid_", "oid2"],
        ] {
            let (table, mapping) = (bench.fresh_table(), mapping(columns));
            let found = bench.table().inspect(&table, &mapping).await.unwrap();
            assert_eq!(found.findings, bench.table().check_names(&table, &mapping));
            let prepared = bench.table().prepare(&table, &mapping).await;
            assert_eq!(prepared.is_ok(), found.findings.is_empty(), "{columns:?}");
        }
    }
}

async fn views_are_not_tables(bench: &dyn Bench) {
    let table = bench.fresh_table();
    bench.execute(&bench.before_create(&table)).await;
    let name = bench.sql_name(&table);
    bench
        .execute(&format!("CREATE VIEW {name} AS SELECT 'x' AS a"))
        .await;
    let found = bench
        .table()
        .inspect(&table, &mapping(&["a"]))
        .await
        .unwrap();
    assert!(found.exists && found.findings.len() == 1, "{found:?}");
}
