//! The other columns, whole rows, and records that threads share.

use forebay_model::{ByteSize, ColumnKind};
use forebay_record::{CompiledMapping, RowLimits};

use crate::DOCUMENT;
use crate::common::*;

#[test]
fn the_other_columns() {
    let headers = request(&[
        ("x-FOO-bar", "one"),
        ("x-foo-bar", "two"),
        ("host", "h"),
        ("accept", "<a>&\"b\""),
        ("content-type", "text/plain"),
    ]);
    let bytes = b"any \xff\x00 \"bytes\"\n".to_vec();
    let record = forebay_record::RecordContext::new(headers, bytes.clone().into());
    assert_eq!(
        cell(ColumnKind::Datetime, &record).unwrap(),
        "2026-11-21T17:57:09.043Z"
    );
    assert_eq!(cell(ColumnKind::Ip, &record).unwrap(), "1.2.3.4");
    assert_eq!(
        cell(ColumnKind::Headers, &record).unwrap(),
        r#"{"Accept":"\u003ca\u003e\u0026\"b\"","Content-Type":"text/plain","Host":"h","X-Foo-Bar":"one, two"}"#
    );
    let text = ColumnKind::Static {
        value: "st\"atic".to_owned(),
    };
    assert_eq!(cell(text, &record).unwrap(), "st\"atic");
    let cells = compiled([ColumnKind::Body])
        .render_cells(&record, NO_TEMPLATES, &mut || 0)
        .unwrap();
    assert_eq!(cells, [bytes]);
}

#[test]
fn uuids_are_of_version_7_and_new_for_each_column() {
    let mut next = 0;
    let mut random = || {
        next += 1;
        u128::MAX / next
    };
    let mapping = compiled([ColumnKind::Uuid, ColumnKind::Uuid]);
    let cells = mapping
        .render_cells(&json("{}"), NO_TEMPLATES, &mut random)
        .unwrap();
    assert_ne!(cells[0], cells[1]);
    for cell in cells {
        let id = uuid::Uuid::try_parse_ascii(&cell).unwrap();
        assert_eq!(id.get_version(), Some(uuid::Version::SortRand));
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(
            seconds * 1000 + u64::from(nanos) / 1_000_000,
            u64::try_from(now().as_millis()).unwrap()
        );
    }
}

#[test]
fn rows_are_quoted_and_joined() {
    let mapping = compiled([
        ColumnKind::Static {
            value: "a,\"b\"\n".to_owned(),
        },
        path("x", None, true),
        ColumnKind::Static {
            value: String::new(),
        },
        path("x", None, false),
    ]);
    let mut out = b"before\n".to_vec();
    mapping
        .render(
            &json(r#"{"x":"q\"\r\n"}"#),
            NO_TEMPLATES,
            &mut || 0,
            &mut out,
        )
        .unwrap();
    let expected = "before\n\"a,\"\"b\"\"\n\",\"q\"\"\r\n\",\"\",\"\"\"q\\\"\"\\r\\n\"\"\"\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_oversized_row_names_the_column_and_writes_nothing() {
    let kinds = [ColumnKind::Ip, ColumnKind::Body, ColumnKind::Ip];
    let limits = RowLimits {
        row_size: ByteSize(100),
    };
    let mapping = CompiledMapping::compile(&mapping(kinds), &limits).unwrap();
    let others = "\"1.2.3.4\",".len() * 2;
    let room = 100 - others - "\"\"\n".len();
    let mut out = b"kept".to_vec();
    let fine = record("", "x".repeat(room));
    mapping
        .render(&fine, NO_TEMPLATES, &mut || 0, &mut out)
        .unwrap();
    assert_eq!(out.len(), 104);
    // One more byte exceeds the limit; quotes count twice.
    for body in [
        "x".repeat(room + 1),
        "\"".repeat(room / 2 + 1),
        "x".repeat(10_000),
    ] {
        let mut out = b"kept".to_vec();
        let error = mapping
            .render(&record("", body.clone()), NO_TEMPLATES, &mut || 0, &mut out)
            .unwrap_err();
        assert_eq!(error.kind.status(), 413);
        let column = if body.len() > room + 1 { "c1" } else { "c2" };
        let column = if body.starts_with('"') { "c2" } else { column };
        assert_eq!(error.column, column);
        assert_eq!(error.message, "the CSV row is over the row size limit 100B");
        assert_eq!(out, b"kept");
    }
}

#[test]
fn an_error_in_a_later_column_removes_the_row() {
    let mapping = compiled([ColumnKind::Ip, path("nope", None, false)]);
    let mut rows = Vec::new();
    let mut render = |body: &str| {
        mapping
            .render(&json(body), NO_TEMPLATES, &mut || 0, &mut rows)
            .is_ok()
    };
    assert!(render(r#"{"nope":1}"#));
    assert!(!render("{}"));
    assert!(render(r#"{"nope":2}"#));
    assert_eq!(rows, b"\"1.2.3.4\",\"1\"\n\"1.2.3.4\",\"2\"\n");
}

#[test]
fn contexts_on_many_threads_never_mix() {
    let mapping = compiled([
        path("id", None, false),
        path("a.b", None, true),
        ColumnKind::Body,
    ]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let mapping = &mapping;
            scope.spawn(move || {
                for i in 0..2_000 {
                    let id = thread * 1_000_000 + i;
                    let body = format!(r#"{{"id":{id},"a":{{"b":"v{id}"}}}}"#);
                    let mut row = Vec::new();
                    mapping
                        .render(&json(&body), NO_TEMPLATES, &mut || 0, &mut row)
                        .unwrap();
                    let quoted = body.replace('"', "\"\"");
                    let expected = format!("\"{id}\",\"v{id}\",\"{quoted}\"\n");
                    assert_eq!(String::from_utf8(row).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn one_context_shared_by_threads_parses_once_and_agrees() {
    let record = json(DOCUMENT);
    let mapping = compiled([path("a.b[1].c", None, false), path("zz", Some("d"), false)]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut row = Vec::new();
                mapping
                    .render(&record, NO_TEMPLATES, &mut || 0, &mut row)
                    .unwrap();
                assert_eq!(row, b"\"\"\"x\\u00e9\\n\"\"\",\"\"\"d\"\"\"\n");
            });
        }
    });
}
