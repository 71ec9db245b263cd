use super::*;

fn converter() -> RowConverter {
    let table = serde_json::json!({
        "store": { "type": "sqlite", "path": "x.db" },
        "table": "products",
        "cache": { "type": "embedded" },
        "columns": [
            { "name": "id", "type": "integer", "key": true },
            { "name": "name" },
            { "name": "price", "type": "double", "path": "price.amount" },
            { "name": "ok", "type": "boolean", "required": true },
            { "name": "at", "type": "timestamp" },
            { "name": "tags", "type": "json" },
            { "name": "whole", "type": "json", "path": "" }
        ]
    });
    RowConverter::new(&serde_json::from_value(table).unwrap(), &Arc::default())
}

fn row(text: &str) -> Result<TypedRows, String> {
    let converter = converter();
    let mut builder = converter.row_builder();
    builder.add(Bytes::from(text.to_owned()))?;
    Ok(builder.finish())
}

fn cells(table: &TypedRows) -> Vec<ValueRef<'_>> {
    table.rows.get(0).unwrap().cells().collect()
}

#[test]
fn values_are_converted_to_column_types() {
    let text = r#"{"id":7,"name":"a\u0000\u00e9","price":{"amount":1.50},"ok":false,"at":"2026-11-21T08:00:00.123456Z","tags":[1, "x y"]}"#;
    let table = row(text).unwrap();
    let cells = cells(&table);
    assert_eq!(
        cells[..6],
        [
            ValueRef::Integer(7),
            ValueRef::Text("a\u{fffd}é"),
            ValueRef::Double(1.5),
            ValueRef::Boolean(false),
            ValueRef::Timestamp("2026-11-21T08:00:00.123456Z".parse().unwrap()),
            ValueRef::Json(r#"[1,"x y"]"#),
        ]
    );
    let ValueRef::Json(whole) = cells[6] else {
        panic!("{cells:?}")
    };
    assert!(whole.starts_with(r#"{"id":7,"#), "{whole}");
}

#[test]
fn whole_numbers_are_parsed_in_any_notation() {
    for (text, id) in [
        ("7.0", 7),
        ("1e3", 1000),
        ("-0", 0),
        ("-9223372036854775808", i64::MIN),
    ] {
        let table = row(&format!(r#"{{"id":{text},"ok":true}}"#)).unwrap();
        assert_eq!(cells(&table)[0], ValueRef::Integer(id), "{text}");
    }
}

#[test]
fn a_key_is_never_truncated() {
    let table = serde_json::json!({
        "store": { "type": "sqlite", "path": "x.db" },
        "table": "t",
        "columns": [{ "name": "at", "type": "timestamp", "key": true, "unit": "ns" }]
    });
    let table = serde_json::from_value(table).unwrap();
    let converter = RowConverter::new(&table, &Arc::default());
    let add = |text: &'static str| {
        let mut builder = converter.row_builder();
        let added = builder.add(Bytes::from_static(text.as_bytes()));
        builder.finish();
        added
    };
    assert_eq!(add(r#"{"at":1704067200123456000}"#), Ok(()));
    assert_eq!(add(r#"{"at":"2024-01-01T00:00:00.123456Z"}"#), Ok(()));
    for text in [
        r#"{"at":1704067200123456789}"#,
        r#"{"at":"2024-01-01T00:00:00.1234567Z"}"#,
    ] {
        let message = add(text).unwrap_err();
        assert!(
            message.ends_with("a time to the microsecond, as it is a key"),
            "{message}"
        );
    }
}

#[test]
fn all_path_forms_select_values() {
    let table = serde_json::json!({
        "store": { "type": "sqlite", "path": "x.db" },
        "table": "t",
        "columns": [
            { "name": "host", "path": "['host.name']" },
            { "name": "last", "type": "integer", "path": "$.l[-1].n" },
            { "name": "all", "type": "json", "path": "$.l[*].n", "required": true },
            { "name": "none", "type": "json", "path": "$..none" }
        ]
    });
    let progress = Arc::default();
    let converter = RowConverter::new(&serde_json::from_value(table).unwrap(), &progress);
    let mut builder = converter.row_builder();
    for text in [
        r#"{"host.name":"web-1","l":[{"n":1},{"n":12345678901234567890},{"n": 3}]}"#,
        "{}",
    ] {
        builder.add(Bytes::from_static(text.as_bytes())).unwrap();
    }
    let typed = builder.finish();
    assert_eq!(
        cells(&typed),
        [
            ValueRef::Text("web-1"),
            ValueRef::Integer(3),
            ValueRef::Json("[1,12345678901234567890,3]"),
            ValueRef::Json("[]"),
        ]
    );
    let second: Vec<_> = typed.rows.get(1).unwrap().cells().collect();
    let empty = || ValueRef::Json("[]");
    assert_eq!(second, [ValueRef::Null, ValueRef::Null, empty(), empty()]);
    let summary = progress.summary(std::time::Duration::from_secs(1));
    let never = summary.never_found.iter();
    let never: Vec<_> = never.map(|c| (c.column.as_str(), c.records)).collect();
    assert_eq!(never, [("none", 2)]);
}

#[test]
fn hashes_cover_the_key_and_the_whole_row() {
    let hashes = |text: &str| row(text).unwrap().hashes;
    let first = hashes(r#"{"id":1,"ok":true,"name":"a"}"#);
    assert_eq!(hashes(r#"{"id":1, "ok": true,"name":"a" }"#), first);
    let other = hashes(r#"{"id":1,"ok":true,"name":"b"}"#);
    assert_eq!(other[0].0, first[0].0, "the same key");
    assert_ne!(other[0].1, first[0].1);
    assert_ne!(hashes(r#"{"id":2,"ok":true,"name":"a"}"#)[0].0, first[0].0);
}

#[test]
fn paths_that_no_record_has_are_reported() {
    let converter = converter();
    let not_found = || {
        let summary = converter
            .progress
            .summary(std::time::Duration::from_secs(1));
        let paths = summary.never_found.into_iter().map(|c| c.path);
        paths.collect::<Vec<_>>()
    };
    assert!(not_found().is_empty(), "no record was examined");
    let read = |text: &'static str| {
        let mut builder = converter.row_builder();
        drop(builder.add(Bytes::from(text)));
        builder.finish();
    };
    read(r#"{"id":1,"ok":true,"name":null}"#);
    assert_eq!(
        not_found(),
        ["price.amount", "at", "tags"],
        "null is a value"
    );
    // A record that is not a valid row counts too.
    read(r#"{"at":1,"price":{"amount":"x"}}"#);
    read("no JSON");
    assert_eq!(not_found(), ["tags"]);
}

#[test]
fn missing_values_are_null_or_rejected() {
    let name = |text, name: Option<&str>| {
        let table = row(text).unwrap();
        let expected = name.map_or(ValueRef::Null, ValueRef::Text);
        assert_eq!(cells(&table)[1], expected, "{text}");
    };
    name(r#"{"id":1,"ok":true}"#, None);
    name(r#"{"id":1,"ok":true,"name":null}"#, None);
    name(r#"{"id":1,"ok":true,"name":12.0}"#, Some("12.0"));
    for (text, message) in [
        (
            r#"{"ok":true}"#,
            "column \"id\": the record has no value at `id`",
        ),
        (r#"{"id":null,"ok":true}"#, "no value at `id`"),
        (
            r#"{"id":"7","ok":true}"#,
            "`id` is \"7\", it has to be a whole number",
        ),
        (r#"{"id":7.5,"ok":true}"#, "is 7.5"),
        (
            r#"{"id":99999999999999999999,"ok":true}"#,
            "from -9223372036854775808 to 9223372036854775807",
        ),
        (r#"{"id":9.3e18,"ok":true}"#, "is 9.3e18"),
        (r#"{"id":1e-1,"ok":true}"#, "is 1e-1"),
        (r#"{"id":1}"#, "no value at `ok`"),
        (r#"{"id":1,"ok":1}"#, "true or false"),
        (r#"{"id":1,"ok":true,"name":{}}"#, "`name` is {}"),
        (
            r#"{"id":1,"ok":true,"at":"soon"}"#,
            "like 2006-01-02T15:04:05Z",
        ),
        (
            r#"{"id":1,"ok":true,"at":"1704067200"}"#,
            "is \"1704067200\", it",
        ),
        (r#"{"id":1,"ok":true,"at":true}"#, "a number of seconds"),
        (r#"{"id":1,"ok":true,"at":1e30}"#, "years 0001 to 9999"),
        (
            r#"{"id":1,"ok":true,"at":157766400000}"#,
            "one of s or of ms",
        ),
        (
            r#"{"id":1,"ok":true,"at":"+010000-01-01T00:00:00Z"}"#,
            "years 0001",
        ),
        (r#"{"id":1,"ok":true,"price":{"amount":1e999}}"#, "a number"),
        (r#"[]"#, "no value at `id`"),
        (r#"{"id":1"#, "not JSON: unexpected end of the text"),
        ("", "not JSON"),
    ] {
        let error = row(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}
