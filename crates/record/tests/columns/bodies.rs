//! Which bodies are parsed, and where invalid ones are wrong.

use forebay_record::RecordErrorKind;

use crate::common::*;

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
