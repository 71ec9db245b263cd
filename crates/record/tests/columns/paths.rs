//! Paths into a body, their defaults and their misses.

use forebay_record::{CompiledMapping, RecordErrorKind, RowLimits};

use crate::DOCUMENT;
use crate::common::*;

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
