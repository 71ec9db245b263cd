//! Columns, paths and CSV against measured facts of the reference service (stream-semantics,
//! sections 2 and 3), except for its defects.

mod common;

use common::*;
use forebay_model::{ByteSize, ColumnKind};
use forebay_record::{CompiledMapping, RecordErrorKind, RowLimits};

const DOCUMENT: &str = r#"{ "a": {"b": [10, {"c": "x\u00e9\n"}, null], "d e-f": 1.50 },
  "0": "zero", "big": 12345678901234567890, "e": 1e3, "s": "q\"uote", "n": null, "t": true,
  "dup": 1, "dup": 2, "z": 1, "y": 2, "k\u0065y": "esc", "o": { }, "l": [ ] }"#;

#[test]
fn paths_match_the_reference_service() {
    let record = json(DOCUMENT);
    for (at, expected) in [
        ("big", "12345678901234567890"),
        ("a.d e-f", "1.50"),
        ("e", "1e3"),
        ("a.b[0]", "10"),
        ("a.b.0", "10"),
        ("a.b[1].c", r#""x\u00e9\n""#),
        ("a[b][1][c]", r#""x\u00e9\n""#),
        ("a..b[1]..c", r#""x\u00e9\n""#),
        (".a.b.0", "10"),
        ("a.b.0.", "10"),
        ("0", r#""zero""#),
        ("[0]", r#""zero""#),
        ("s", r#""q\"uote""#),
        ("n", "null"),
        ("t", "true"),
        ("dup", "1"),
        ("key", r#""esc""#),
        ("a", r#"{"b":[10,{"c":"x\u00e9\n"},null],"d e-f":1.50}"#),
        ("a.b[2]", "null"),
        ("o", "{}"),
        ("l", "[]"),
    ] {
        assert_eq!(
            cell(path(at, None, false), &record).unwrap(),
            expected,
            "{at}"
        );
    }
    let whole = cell(path("", None, false), &record).unwrap();
    assert!(
        whole.starts_with(r#"{"a":{"b":[10,"#) && !whole.contains("  "),
        "{whole}"
    );
    assert!(whole.contains(r#""dup":1,"dup":2,"z":1,"y":2"#), "{whole}");
}

#[test]
fn quoted_keys_and_json_path_return_values_as_sent() {
    let record = json(DOCUMENT);
    for (at, expected) in [
        ("a['b'][0]", "10"),
        (r#"["a"]["d e-f"]"#, "1.50"),
        ("$.a.b[0]", "10"),
        ("$.a.b[-1]", "null"),
        ("$.big", "12345678901234567890"),
        ("$.a.b[1]", r#"{"c":"x\u00e9\n"}"#),
        ("$.dup", "1"),
        // A query selects a list, which may be empty.
        ("$.a.b[*]", r#"[10,{"c":"x\u00e9\n"},null]"#),
        ("$..c", r#"["x\u00e9\n"]"#),
        ("$.a.b[?@.c].c", r#"["x\u00e9\n"]"#),
        ("$['big','e']", "[12345678901234567890,1e3]"),
        ("$.zz[*]", "[]"),
        ("$.l[*]", "[]"),
        ("$[?@ == 'none']", "[]"),
    ] {
        let found = cell(path(at, None, false), &record).unwrap();
        assert_eq!(found, expected, "{at}");
    }
    // A list is JSON even with rawString; the default replaces an empty one.
    assert_eq!(
        cell(path("$..c", Some("x"), true), &record).unwrap(),
        r#"["x\u00e9\n"]"#
    );
    assert_eq!(
        cell(path("$.zz[*]", Some("none"), true), &record).unwrap(),
        "none"
    );
    assert_eq!(
        cell(path("$.zz[*]", Some("none"), false), &record).unwrap(),
        "\"none\""
    );
    let template = |content| cell(template(content, false), &record);
    assert_eq!(template("Body('$.a.b[0]')").unwrap(), "10");
    assert_eq!(template("Body('$..b[0]')").unwrap(), "[10]");
    assert_eq!(template("Body('$..zz')").unwrap(), "[]");
    assert_eq!(template("Body('$..zz', 7)").unwrap(), "7");
    assert_eq!(template("Body('a[\"d e-f\"]')").unwrap(), "1.5");
    let error = template("Body('a' + '[*]')").unwrap_err();
    assert_eq!(error.kind, RecordErrorKind::Template);
    assert!(
        error
            .to_string()
            .contains("path \"a[*]\" is invalid: character 3"),
        "{error}"
    );
}

#[test]
fn an_invalid_path_is_rejected_with_its_column() {
    let kinds = [
        path("a", None, false),
        path("a[*]", None, false),
        template("Body(", false),
        path("$.a[", Some("x"), true),
    ];
    let errors = CompiledMapping::compile(&mapping(kinds.clone()), &RowLimits::default());
    let errors: Vec<_> = errors.unwrap_err();
    let columns: Vec<_> = errors.iter().map(|e| (e.column.as_str(), e.kind)).collect();
    assert_eq!(
        columns,
        [("c1", "path"), ("c2", "template"), ("c3", "path")]
    );
    let text = errors[2].to_string();
    assert!(
        text.starts_with("Column \"c3\" path is invalid: character 5: "),
        "{text}"
    );
    // An invalid path that passed all checks rejects records, even with a default.
    let stored = mapping([kinds[3].clone()]);
    let stored = CompiledMapping::compile_checked(&stored, &RowLimits::default());
    let error = stored
        .render_cells(&json("{}"), NO_TEMPLATES, &mut || 7)
        .unwrap_err();
    assert!(error.message.contains("is invalid"), "{error}");
}

#[test]
fn a_query_beyond_its_steps_rejects_its_record() {
    let body = format!("[{}]", vec!["[1,2]"; 3000].join(","));
    let error = cell(path("$..[?count($..*)>1]", Some("x"), false), &json(&body)).unwrap_err();
    assert_eq!(error.kind, RecordErrorKind::PathLimit);
    assert_eq!((error.kind.status(), error.kind.name()), (422, "pathLimit"));
    assert!(error.message.contains("takes more than"), "{error}");
}

#[test]
fn paths_that_find_nothing_are_counted() {
    let mapping = compiled([
        path("a", Some("x"), false),
        path("$.b", Some("x"), false),
        path("$.c[*]", None, false),
        path("must", None, false),
        path("late", Some("x"), false),
    ]);
    assert_eq!(
        (mapping.path_use().records, mapping.path_use().since),
        (0, None)
    );
    assert_eq!(mapping.path_use().never_found().count(), 0);
    for body in [r#"{"must":1}"#, r#"{"must":1,"a":null}"#, r#"{"a":1}"#] {
        let mut out = Vec::new();
        drop(mapping.render(&json(body), NO_TEMPLATES, &mut || 7, &mut out));
    }
    let found = mapping.path_use();
    let missed: Vec<_> = found
        .columns
        .iter()
        .map(|c| (c.column.as_str(), c.missed))
        .collect();
    assert_eq!(missed, [("c0", 1), ("c1", 3), ("c2", 3), ("c4", 2)]);
    assert_eq!((found.records, found.since), (3, Some(now())));
    let never: Vec<_> = found.never_found().map(|c| c.path.as_str()).collect();
    assert_eq!(never, ["$.b", "$.c[*]", "late"]);
}

#[test]
fn raw_string_changes_strings_only() {
    let record = json(DOCUMENT);
    for (at, expected) in [
        ("s", "q\"uote"),
        ("a.b[1].c", "xé\n"),
        ("big", "12345678901234567890"),
        ("n", "null"),
        ("a.b[1]", r#"{"c":"x\u00e9\n"}"#),
    ] {
        assert_eq!(
            cell(path(at, None, true), &record).unwrap(),
            expected,
            "{at}"
        );
    }
    let pair = json(r#"["\ud83d\ude00", "\ud83d", "\/\b\f\n\r\t\"\\"]"#);
    assert_eq!(cell(path("0", None, true), &pair).unwrap(), "😀");
    assert_eq!(cell(path("1", None, true), &pair).unwrap(), "\u{FFFD}");
    assert_eq!(
        cell(path("2", None, true), &pair).unwrap(),
        "/\u{8}\u{c}\n\r\t\"\\"
    );
}

#[test]
fn whole_documents_may_be_scalars_and_arrays() {
    for (body, expected) in [
        ("[1 , 2]", "[1,2]"),
        ("\"x\"", "\"x\""),
        ("null", "null"),
        (" 7 ", "7"),
    ] {
        assert_eq!(cell(path("", None, false), &json(body)).unwrap(), expected);
    }
}

#[test]
fn a_missing_path_takes_the_default_or_is_an_error() {
    let record = json(DOCUMENT);
    for at in [
        "zz",
        "a.zz",
        "a.b[9]",
        "s.x",
        "n.x",
        "t[0]",
        "a.b[x]",
        "a.b['0']",
        "$.a.zz",
        "$.a.b[-4]",
        "$['zz']",
    ] {
        let error = cell(path(at, None, false), &record).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::PathNotFound);
        assert_eq!(error.kind.status(), 422);
        let expected = format!("Column \"c0\": path \"{at}\" not found in the body.");
        assert_eq!(error.to_string(), expected);
        let value = cell(path(at, Some("un\"known"), false), &record).unwrap();
        assert_eq!(value, r#""un\"known""#);
        assert_eq!(
            cell(path(at, Some("un\"known"), true), &record).unwrap(),
            "un\"known"
        );
        assert_eq!(cell(path(at, Some(""), true), &record).unwrap(), "");
    }
}

#[test]
fn content_types_decide_whether_a_body_is_parsed() {
    for fine in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.api-1+json",
        "application/cloudevents+JSON ;x=y",
    ] {
        assert_eq!(
            cell(path("a", None, false), &record(fine, r#"{"a":1}"#)).unwrap(),
            "1",
            "{fine}"
        );
    }
    for other in [
        "text/plain",
        "application/+json",
        "json",
        "",
        "application/xml",
    ] {
        // A JSON body is read as JSON, whatever its content type.
        let cell_of =
            |body: &str| cell(path("a", Some("d"), false), &record(other, body.to_owned()));
        assert_eq!(cell_of(" {\"a\":1}").unwrap(), "1", "{other}");
        // A default does not apply to an unparsed body.
        for body in ["<a>1</a>", "1", "\"a\"", ""] {
            let error = cell_of(body).unwrap_err();
            assert_eq!(error.kind.status(), 415, "{other}");
            let text = format!(
                "unsupported content type \"{other}\", supported types: application/json and application/x-www-form-urlencoded"
            );
            assert_eq!(error.message, text);
        }
        let error = cell_of("{\"a\":1,}").unwrap_err();
        let text = "; the body looks like JSON, but is not: expected a key in double quotes at line 1, column 8 (byte 7)";
        assert!(error.message.ends_with(text), "{error}");
    }
}

#[test]
fn invalid_bodies_are_rejected_with_their_position() {
    for (body, expected) in [
        ("", "the body is empty"),
        ("  ", "the body is empty"),
        (
            "{",
            "unexpected end of the body at line 1, column 2 (byte 1)",
        ),
        (
            "{\"a\":1} x",
            "unexpected text after the end of the value at line 1, column 9 (byte 8)",
        ),
        (
            "{\"a\":\n  tru}",
            "expected a value at line 2, column 3 (byte 8)",
        ),
        (
            "{a:1}",
            "expected a key in double quotes at line 1, column 2 (byte 1)",
        ),
        (
            "{\"é\" 1}",
            "expected ':' after the key at line 1, column 6 (byte 6)",
        ),
        ("[1 2]", "expected ',' or ']' at line 1, column 4 (byte 3)"),
        (
            "{\"a\":1 \"b\"}",
            "expected ',' or '}' at line 1, column 8 (byte 7)",
        ),
        ("[1,]", "expected a value at line 1, column 4 (byte 3)"),
        (
            "{\"a\":1,}",
            "expected a key in double quotes at line 1, column 8 (byte 7)",
        ),
        ("[01]", "not a number at line 1, column 3 (byte 2)"),
        ("[1.]", "not a number at line 1, column 4 (byte 3)"),
        ("[-]", "not a number at line 1, column 3 (byte 2)"),
        (
            "[\"\\x\"]",
            "unknown escape in a string at line 1, column 3 (byte 2)",
        ),
        (
            "[\"\\u12g4\"]",
            "unknown escape in a string at line 1, column 3 (byte 2)",
        ),
        (
            "[\"a\nb\"]",
            "control character in a string, it must be escaped at line 1, column 4 (byte 3)",
        ),
        (
            "[\"abc",
            "unexpected end of the body at line 1, column 6 (byte 5)",
        ),
        ("NaN", "expected a value at line 1, column 1 (byte 0)"),
    ] {
        let error = cell(path("a", Some("d"), true), &json(body)).unwrap_err();
        assert_eq!(
            (error.kind, error.kind.status()),
            (RecordErrorKind::Body, 400)
        );
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.starts_with("Column \"c0\": the body is"),
            "{body}: {text}"
        );
    }
}

#[test]
fn invalid_utf_8_in_json_is_rejected_with_its_position() {
    let bytes = b"{\"a\":\"\xff\"}".to_vec();
    let error = cell(path("a", None, true), &record("application/json", bytes)).unwrap_err();
    assert_eq!(
        error.message,
        "the body is not valid JSON: not valid UTF-8 at line 1, column 7 (byte 6)"
    );
}

#[test]
fn excessive_nesting_is_rejected_and_the_deepest_allowed_works() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let error = cell(path("a", None, false), &json(&deep)).unwrap_err();
    assert!(
        error
            .message
            .contains("nested deeper than 300 levels at line 1, column 301"),
        "{error}"
    );
    let objects = "{\"a\":".repeat(100_000);
    assert!(cell(path("a", None, false), &json(&objects)).is_err());
    let fine = "{\"a\":".repeat(300) + "1" + &"}".repeat(300);
    let at = vec!["a"; 300].join(".");
    assert_eq!(cell(path(&at, None, false), &json(&fine)).unwrap(), "1");
}

#[test]
fn forms_are_nested_values_with_string_leaves() {
    for (body, expected) in [
        ("a=1&b=x+y%21", r#"{"a":"1","b":"x y!"}"#),
        ("a=1&a=2", r#"{"a":"2"}"#),
        ("a[b]=1&a[c]=2", r#"{"a":{"b":"1","c":"2"}}"#),
        ("a[]=1&a[]=2", r#"{"a":["1","2"]}"#),
        ("a[0][x]=1&a[1][x]=2", r#"{"a":[{"x":"1"},{"x":"2"}]}"#),
        ("a[1]=x", r#"{"a":{"1":"x"}}"#),
        ("a[5]=x&a[]=y", r#"{"a":{"5":"x","6":"y"}}"#),
        ("a=1&a[b]=2&a[b]=3", r#"{"a":{"b":"3"}}"#),
        ("a[b]=2&a=1", r#"{"a":"1"}"#),
        ("a[b]=1&a=2&a[c]=3", r#"{"a":{"c":"3"}}"#),
        ("a[b=1&c]=2&[=3", r#"{"a[b":"1","c]":"2","[":"3"}"#),
        ("0=a&1=b", r#"{"0":"a","1":"b"}"#),
        ("x&&y=&=z", r#"{"x":"","y":"","":"z"}"#),
        ("q=%22%0A%00", r#"{"q":"\"\n\u0000"}"#),
    ] {
        let record = record("application/x-www-form-urlencoded; charset=utf-8", body);
        assert_eq!(
            cell(path("", None, false), &record).unwrap(),
            expected,
            "{body}"
        );
    }
    let nested = record("application/x-www-form-urlencoded", "a[b][]=1&a[b][]=2");
    assert_eq!(cell(path("a.b[1]", None, true), &nested).unwrap(), "2");
    for (body, expected) in [
        ("", "the body is empty"),
        (
            "a=1&b=%zz",
            "the body is not a valid form: a percent sign without two hex digits in the field at byte 4",
        ),
        (
            "a=%ff",
            "the body is not a valid form: invalid UTF-8 in the field at byte 0",
        ),
    ] {
        let record = record("application/x-www-form-urlencoded", body);
        let error = cell(path("a", Some("d"), false), &record).unwrap_err();
        assert_eq!(
            (error.kind.status(), error.message.as_str()),
            (400, expected)
        );
    }
    let deep = format!("a{}=1", "[x]".repeat(100_000));
    assert!(
        cell(
            path("a", None, false),
            &record("application/x-www-form-urlencoded", deep)
        )
        .is_err()
    );
}

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

#[test]
fn wide_documents_take_linear_time() {
    // 100 columns and 100,000 keys with many duplicates: a quadratic lookup would take minutes.
    let mut body = String::from("{");
    for i in 0..100_000 {
        body.push_str(&format!("\"k{}\":{i},", i % 50_000));
    }
    body.push_str("\"last\":1}");
    let kinds = (0..99).map(|i| path(&format!("m{i}"), Some(""), true));
    let mapping = compiled(kinds.chain([path("last", None, false)]));
    let mut row = Vec::new();
    mapping
        .render(&json(&body), NO_TEMPLATES, &mut || 0, &mut row)
        .unwrap();
    assert!(row.ends_with(b"\"1\"\n"));
    let form = (0..100_000)
        .map(|i| format!("a[k{i}]=1&"))
        .collect::<String>();
    let record = record("application/x-www-form-urlencoded", form);
    assert_eq!(cell(path("a.k99999", None, true), &record).unwrap(), "1");
}
