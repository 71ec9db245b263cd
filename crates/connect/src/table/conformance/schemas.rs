//! Tables are created, extended, and left unchanged when they don't fit.

use forebay_model::TableId;

use super::bench::{
    Bench, assert_terminal, cells, import, import_summary, load, mapping, rows, some,
};

pub(super) async fn run(bench: &dyn Bench) {
    prepare_is_idempotent_and_concurrent(bench).await;
    columns_are_added(bench).await;
    columns_removed_from_the_mapping_are_kept(bench).await;
    names_in_another_case_are_the_same_column(bench).await;
    tables_created_by_sql_are_used(bench).await;
    another_key_is_rejected(bench).await;
    columns_that_do_not_fit_are_rejected(bench).await;
    views_are_rejected(bench).await;
    invalid_mappings_are_rejected(bench).await;
}

async fn create_by_sql(bench: &dyn Bench, table: &TableId, columns: &str) {
    bench.execute(&bench.before_create(table)).await;
    let name = bench.sql_name(table);
    bench
        .execute(&format!("CREATE TABLE {name} ({columns})"))
        .await;
}

async fn prepare_is_idempotent_and_concurrent(bench: &dyn Bench) {
    let (table, mapping) = (bench.fresh_table(), mapping(&["a*", "b"]));
    let race = (0..4).map(|_| bench.table().prepare(&table, &mapping));
    for result in futures::future::join_all(race).await {
        result.unwrap();
    }
    bench.table().prepare(&table, &mapping).await.unwrap();
}

async fn columns_are_added(bench: &dyn Bench) {
    for key in ["id", "id*"] {
        let table = bench.fresh_table();
        let narrow = mapping(&[key, "a"]);
        let first = import(&table, 1, &narrow);
        let loaded = load(bench, &first, rows(&[vec!["1", "x"]])).await;
        assert_eq!(loaded, Ok(import_summary(1)));
        // A new column in the middle, as a user would add it.
        let wide = mapping(&[key, "new \"one\"", "a", "b"]);
        let second = import(&table, 2, &wide);
        let loaded = load(bench, &second, rows(&[vec!["2", "n", "y", ""]])).await;
        assert_eq!(loaded, Ok(import_summary(1)));
        assert_eq!(cells(bench, &table, "a", "id").await, some(&["x", "y"]));
        assert_eq!(
            cells(bench, &table, "new \"one\"", "id").await,
            [None, Some("n".to_owned())]
        );
        // A file that was opened before the change is imported late.
        let third = import(&table, 3, &narrow);
        let loaded = load(bench, &third, rows(&[vec!["3", "z"]])).await;
        assert_eq!(loaded, Ok(import_summary(1)));
        assert_eq!(
            cells(bench, &table, "b", "id").await,
            [None, Some(String::new()), None]
        );
    }
}

async fn columns_removed_from_the_mapping_are_kept(bench: &dyn Bench) {
    let table = bench.fresh_table();
    let first = import(&table, 1, &mapping(&["id*", "a", "b"]));
    load(bench, &first, rows(&[vec!["1", "x", "y"]]))
        .await
        .unwrap();
    let second = import(&table, 2, &mapping(&["b", "id*"]));
    load(bench, &second, rows(&[vec!["new", "1"]]))
        .await
        .unwrap();
    assert_eq!(cells(bench, &table, "a", "id").await, some(&["x"]));
    assert_eq!(cells(bench, &table, "b", "id").await, some(&["new"]));
}

async fn names_in_another_case_are_the_same_column(bench: &dyn Bench) {
    let table = bench.fresh_table();
    let first = import(&table, 1, &mapping(&["id*", "Name"]));
    load(bench, &first, rows(&[vec!["1", "x"]])).await.unwrap();
    let second = import(&table, 2, &mapping(&["ID*", "NAME"]));
    load(bench, &second, rows(&[vec!["1", "y"]])).await.unwrap();
    assert_eq!(cells(bench, &table, "Name", "id").await, some(&["y"]));
}

async fn tables_created_by_sql_are_used(bench: &dyn Bench) {
    let table = bench.fresh_table();
    let columns =
        "\"extra\" text DEFAULT 'd' NOT NULL, \"v\" varchar, \"k\" text, PRIMARY KEY (\"k\")";
    create_by_sql(bench, &table, columns).await;
    let first = import(&table, 1, &mapping(&["k*", "v"]));
    let loaded = load(bench, &first, rows(&[vec!["1", "x"]])).await;
    assert_eq!(loaded, Ok(import_summary(1)));
    assert_eq!(cells(bench, &table, "extra", "k").await, some(&["d"]));
}

async fn another_key_is_rejected(bench: &dyn Bench) {
    let cases = [
        ("\"a\" text, \"b\" text", ["a*", "b"]),
        ("\"a\" text PRIMARY KEY, \"b\" text", ["a", "b"]),
        ("\"a\" text PRIMARY KEY, \"b\" text", ["a*", "b*"]),
        ("\"a\" text PRIMARY KEY, \"b\" text", ["a", "b*"]),
    ];
    for (columns, wanted) in cases {
        let table = bench.fresh_table();
        create_by_sql(bench, &table, columns).await;
        let result = bench.table().prepare(&table, &mapping(&wanted)).await;
        assert_terminal(result, &[&table.to_string(), "primary key"]);
    }
}

async fn columns_that_do_not_fit_are_rejected(bench: &dyn Bench) {
    let cases = [
        ("\"a\" integer, \"b\" text", "\"a\""),
        ("\"a\" text, \"b\" text, \"c\" text NOT NULL", "\"c\""),
        (
            "\"a\" text, \"b\" text GENERATED ALWAYS AS (\"a\") STORED",
            "\"b\"",
        ),
    ];
    for (columns, named) in cases {
        let table = bench.fresh_table();
        create_by_sql(bench, &table, columns).await;
        let result = bench.table().prepare(&table, &mapping(&["a", "b"])).await;
        assert_terminal(result, &[&table.to_string(), named]);
    }
}

async fn views_are_rejected(bench: &dyn Bench) {
    let table = bench.fresh_table();
    bench.execute(&bench.before_create(&table)).await;
    let name = bench.sql_name(&table);
    bench
        .execute(&format!("CREATE VIEW {name} AS SELECT 'x' AS a"))
        .await;
    let result = bench.table().prepare(&table, &mapping(&["a"])).await;
    assert_terminal(result, &[&table.to_string()]);
}

async fn invalid_mappings_are_rejected(bench: &dyn Bench) {
    for names in [&["a", "A"][..], &[], &["a\0"]] {
        let table = bench.fresh_table();
        let result = bench.table().prepare(&table, &mapping(names)).await;
        assert_terminal(result, &[&table.to_string()]);
    }
}
