//! Cells are stored and read back unchanged.

use futures::StreamExt;
use futures::stream;

use super::bench::{Bench, cells, count, import, import_summary, load, mapping, rows, some};
use crate::table::RowBatch;

pub(super) async fn run(bench: &dyn Bench) {
    plain_rows_and_empty_cells(bench).await;
    no_rows(bench).await;
    later_rows_replace_earlier_ones(bench).await;
    a_key_of_all_columns(bench).await;
    odd_names(bench).await;
    big_cells(bench).await;
    unsupported_bytes_are_replaced_and_counted(bench).await;
    many_rows(bench).await;
}

async fn plain_rows_and_empty_cells(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["id", "body"]));
    let odd = "a\tb\n\"c\\N\\.\r\n'--; DROP TABLE x \u{1} ěšč 🦀";
    let all = [
        vec!["1", ""],
        vec!["2", odd],
        vec!["3", "007"],
        vec!["", "NULL"],
    ];
    let loaded = load(bench, &import(&table, 1, &mapping), rows(&all)).await;
    assert_eq!(loaded, Ok(import_summary(4)));
    assert_eq!(
        cells(bench, &table, "body", "id").await,
        some(&["NULL", "", odd, "007"])
    );
    // The same rows in another file are new rows.
    let loaded = load(bench, &import(&table, 2, &mapping), rows(&all)).await;
    assert_eq!(loaded, Ok(import_summary(4)));
    assert_eq!(count(bench, &table).await, 8);
}

async fn no_rows(bench: &dyn Bench) {
    for columns in [["a"], ["a*"]] {
        let (table, mapping) = (bench.fresh_table(), mapping(&columns));
        let none: [Vec<&str>; 0] = [];
        let first = import(&table, 1, &mapping);
        assert_eq!(
            load(bench, &first, rows(&none)).await,
            Ok(import_summary(0))
        );
        assert_eq!(count(bench, &table).await, 0);
        assert_eq!(bench.table().imported(&first.id).await, Ok(Some(0)));
    }
}

async fn later_rows_replace_earlier_ones(bench: &dyn Bench) {
    let (table, mapping) = (
        bench.fresh_table(),
        mapping(&["v", "b*", "a*", "_position"]),
    );
    let first = [
        vec!["one", "1", "x", "p"],
        vec!["two", "2", "x", "p"],
        vec!["one again", "1", "x", "p"],
        vec!["case", "1", "X", "p"],
    ];
    let loaded = load(bench, &import(&table, 1, &mapping), rows(&first)).await;
    assert_eq!(loaded, Ok(import_summary(4)));
    assert_eq!(
        cells(bench, &table, "v", "v").await,
        some(&["case", "one again", "two"])
    );
    let second = [vec!["two", "2", "x", "q"], vec!["third", "1", "x", ""]];
    let loaded = load(bench, &import(&table, 2, &mapping), rows(&second)).await;
    assert_eq!(loaded, Ok(import_summary(2)));
    assert_eq!(
        cells(bench, &table, "v", "v").await,
        some(&["case", "third", "two"])
    );
    assert_eq!(
        cells(bench, &table, "_position", "v").await,
        some(&["p", "", "q"])
    );
}

async fn a_key_of_all_columns(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["a*", "b*"]));
    let all = [vec!["1", "1"], vec!["1", "2"], vec!["1", "1"]];
    for number in 1..=2 {
        let loaded = load(bench, &import(&table, number, &mapping), rows(&all)).await;
        assert_eq!(loaded, Ok(import_summary(3)));
    }
    assert_eq!(count(bench, &table).await, 2);
}

async fn odd_names(bench: &dyn Bench) {
    for key in ["", "*"] {
        let names = [
            format!("the \"id\"{key}"),
            "SELECT".to_owned(),
            "with space".to_owned(),
            "žluť 🦀".to_owned(),
            "UPPER".to_owned(),
            "a.b".to_owned(),
            "'; --".to_owned(),
            "rowid".to_owned(),
            "?1".to_owned(),
        ];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (table, mapping) = (bench.fresh_table(), mapping(&names));
        let row: Vec<String> = (0..names.len()).map(|i| format!("cell {i}")).collect();
        let loaded = load(
            bench,
            &import(&table, 1, &mapping),
            rows(std::slice::from_ref(&row)),
        )
        .await;
        assert_eq!(loaded, Ok(import_summary(1)));
        bench.table().prepare(&table, &mapping).await.unwrap();
        for (column, cell) in mapping.columns.iter().zip(row) {
            let found = cells(bench, &table, &column.name, &column.name).await;
            assert_eq!(found, [Some(cell)], "column {}", column.name);
        }
    }
}

async fn big_cells(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["id*", "body"]));
    let big = "ř".repeat(500_000);
    let all: Vec<Vec<&str>> = ["1", "2", "3", "4"]
        .iter()
        .map(|id| vec![*id, big.as_str()])
        .collect();
    let loaded = load(bench, &import(&table, 1, &mapping), rows(&all)).await;
    assert_eq!(loaded, Ok(import_summary(4)));
    assert!(cells(bench, &table, "body", "id").await == some(&[&big, &big, &big, &big]));
}

async fn unsupported_bytes_are_replaced_and_counted(bench: &dyn Bench) {
    for columns in [["id", "body"], ["id*", "body"]] {
        let (table, mapping) = (bench.fresh_table(), mapping(&columns));
        let all: [Vec<&[u8]>; 4] = [
            vec![b"1", b"a\0b"],
            vec![b"2", b"\xff\xfe|\xe2\x82"],
            vec![b"3\0", b"\xed\xa0\x80"],
            vec![b"4", "\u{fffd} was there".as_bytes()],
        ];
        let first = import(&table, 1, &mapping);
        let loaded = load(bench, &first, rows(&all)).await.unwrap();
        assert_eq!((loaded.rows, loaded.replaced_cells), (4, 4));
        assert_eq!(
            cells(bench, &table, "body", "id").await,
            some(&[
                "a\u{fffd}b",
                "\u{fffd}\u{fffd}|\u{fffd}",
                "\u{fffd}\u{fffd}\u{fffd}",
                "\u{fffd} was there"
            ])
        );
        assert_eq!(
            cells(bench, &table, "id", "id").await,
            some(&["1", "2", "3\u{fffd}", "4"])
        );
        let again = load(bench, &first, rows(&all)).await.unwrap();
        assert_eq!((again.already_done, again.replaced_cells), (true, 4));
    }
}

/// 100,000 rows of 100 bytes, generated on demand: only a few batches are in memory.
async fn many_rows(bench: &dyn Bench) {
    for columns in [["id", "body"], ["id*", "body"]] {
        let (table, mapping) = (bench.fresh_table(), mapping(&columns));
        let body = "x".repeat(90);
        let batches = stream::iter((0..100_u32).map(move |b| {
            let mut batch = RowBatch::new(2);
            for row in 0..1000 {
                batch.push_row([format!("{:08}", b * 1000 + row).as_str(), &body]);
            }
            Ok(batch)
        }));
        let first = import(&table, 1, &mapping);
        let loaded = load(bench, &first, batches.boxed()).await;
        assert_eq!(loaded, Ok(import_summary(100_000)));
        assert_eq!(count(bench, &table).await, 100_000);
    }
}
