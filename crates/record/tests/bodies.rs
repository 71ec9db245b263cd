//! Reading of bodies: content types, JSON sent as a form, charsets, headers, lines with several
//! values.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod common;

use std::fmt::Write;

use bytes::Bytes;
use common::{cell, json, path, record, request, template};
use forebay_model::ColumnKind;
use forebay_record::body::split;
use forebay_record::{BodyMode, BodyPart, DecodeError, RecordContext, SplitError};
use proptest::prelude::*;

const FORM: &str = "application/x-www-form-urlencoded";

fn whole(record: &RecordContext) -> String {
    cell(path("", None, false), record).unwrap()
}

#[test]
fn json_with_a_form_content_type_is_json() {
    for body in [
        r#"{"user":{"id":"ada & eve=1"}}"#,
        " [1]",
        "\u{feff}{\"a\":\"100%\"}",
        "{}",
    ] {
        assert_eq!(
            whole(&record(FORM, body)),
            body.trim_start_matches(['\u{feff}', ' '])
        );
    }
    for (body, form) in [
        ("{a=1&b=2", r#"{"{a":"1","b":"2"}"#),
        ("[a]=1", r#"{"":{"a":"1"}}"#),
        ("{\"a\":1}=x", r#"{"{\"a\":1}":"x"}"#),
        ("{\"a\":1}&b=2", r#"{"{\"a\":1}":"","b":"2"}"#),
        ("5", r#"{"5":""}"#),
        ("\"x\"", r#"{"\"x\"":""}"#),
        ("null", r#"{"null":""}"#),
        ("%7B%22a%22%3A1%7D", r#"{"{\"a\":1}":""}"#),
    ] {
        assert_eq!(whole(&record(FORM, body)), form, "{body}");
    }
}

#[test]
fn a_missing_value_reports_how_the_body_was_read() {
    let missing =
        |record: RecordContext| cell(path("id", None, true), &record).unwrap_err().message;
    let name = "path \"id\" not found in the body";
    assert_eq!(missing(json("{}")), name);
    assert_eq!(missing(record(FORM, "{}")), name);
    assert_eq!(
        missing(json("[{}]")),
        format!(
            "{name}; the body is an array and one record, with ?batch each of its elements is one"
        )
    );
    assert_eq!(
        missing(record(FORM, "a=1")),
        format!("{name}, which was read as application/x-www-form-urlencoded")
    );
    assert_eq!(
        missing(record(FORM, "{\"id\":1,}")),
        format!(
            "{name}, which was read as application/x-www-form-urlencoded; it looks like JSON, but is not: expected a key in double quotes at line 1, column 9 (byte 8); JSON is sent with Content-Type: application/json"
        )
    );
    assert_eq!(
        missing(record("text/plain", "{}")),
        format!("{name}, which was read as JSON (its content type is \"text/plain\")")
    );
    let template = cell(template("Body('id')", true), &record("", "{}")).unwrap_err();
    assert!(
        template.message.contains("(its content type is \"\")"),
        "{template}"
    );
    let lines = cell(
        path("id", None, true),
        &record("", "{\"id\":1}\n{\"id\":2}"),
    )
    .unwrap_err();
    assert!(
        lines
            .message
            .ends_with("several values are application/x-ndjson"),
        "{lines}"
    );
}

#[test]
fn body_all_returns_all_values_of_a_field_or_key() {
    for (content_type, body, name, all) in [
        (FORM, "a=1&b=x&a=2&%61=+3", "a", r#"["1","2"," 3"]"#),
        (FORM, "a[]=1&a[]=2&a=3", "a[]", r#"["1","2"]"#),
        (FORM, "a[b]=1&a%5Bb%5D=2", "a[b]", r#"["1","2"]"#),
        (FORM, "a&a=", "a", r#"["",""]"#),
        (FORM, "b=1", "a", "[]"),
        (
            "application/json",
            r#"{"a":1,"b":{"a":5},"\u0061":[2]}"#,
            "a",
            "[1,[2]]",
        ),
        ("application/json", "[1]", "a", "[]"),
        (FORM, r#"{"a":1,"a":2}"#, "a", "[1,2]"),
    ] {
        let source = format!("BodyAll('{name}')");
        let found = cell(template(&source, false), &record(content_type, body)).unwrap();
        assert_eq!(found, all, "{body}");
    }
    // A path still selects one value.
    assert_eq!(
        cell(path("a", None, true), &record(FORM, "a=1&a=2")).unwrap(),
        "2"
    );
    assert_eq!(
        cell(path("a", None, true), &json(r#"{"a":1,"a":2}"#)).unwrap(),
        "1"
    );
    assert_eq!(
        cell(template("Body('a')", true), &json(r#"{"a":1,"a":2}"#)).unwrap(),
        "1"
    );
    assert_eq!(
        cell(template("Body().a", true), &json(r#"{"a":1,"a":2}"#)).unwrap(),
        "1"
    );
    for broken in ["BodyAll()", "BodyAll(1)", "BodyAll('a', 1)"] {
        assert!(
            cell(template(broken, true), &json("{}")).is_err(),
            "{broken}"
        );
    }
}

fn received(content_type: &str, body: &[u8], max: usize) -> Result<RecordContext, DecodeError> {
    let request = request(&[("content-type", content_type)]);
    RecordContext::received(request, &Bytes::copy_from_slice(body), max)
}

#[test]
fn bodies_are_converted_to_utf_8() {
    for (content_type, body, kept, at, value) in [
        (
            "application/json; charset=iso-8859-1",
            &b"{\"i\":\"\xE9\"}"[..],
            "{\"i\":\"é\"}",
            "i",
            "é",
        ),
        (
            "application/json; charset=utf-16",
            b"\xFE\xFF\0{\0\"\0i\0\"\0:\x20\xAC\0}",
            "",
            "",
            "",
        ),
        (
            "text/plain; charset=shift_jis",
            b"{\"i\":\"\x83A\"}",
            "{\"i\":\"ア\"}",
            "i",
            "ア",
        ),
        ("application/json", b"\xFF\xFE{\0}\0", "{}", "", "{}"),
        (
            "application/x-www-form-urlencoded; charset=windows-1252",
            b"first_name=J%F6rg&x=%80%26&b=a+b&raw=\xFC",
            "first_name=J%C3%B6rg&x=%E2%82%AC%26&b=a+b&raw=%C3%BC",
            "first_name",
            "Jörg",
        ),
        (
            "application/x-www-form-urlencoded; charset=shift_jis",
            b"a%5Bb%5D=%83A&%83A=1",
            "a%5Bb%5D=%E3%82%A2&%E3%82%A2=1",
            "a.b",
            "ア",
        ),
        (
            "application/x-www-form-urlencoded; charset=iso-2022-jp",
            b"a=%1B%24B%24%22%1B%28B",
            "a=%E3%81%82",
            "a",
            "あ",
        ),
        (
            "application/x-www-form-urlencoded; charset=utf-16le",
            b"a\0=\0\xE9\0",
            "a=é",
            "a",
            "é",
        ),
    ] {
        let Ok(record) = received(content_type, body, 1000) else {
            panic!("{content_type}");
        };
        if kept.is_empty() {
            // Invalid JSON, but valid text.
            assert_eq!(record.body(), "{\"i\":€}");
            continue;
        }
        assert_eq!(record.body(), kept, "{content_type}");
        assert_eq!(
            cell(path(at, None, true), &record).unwrap(),
            value,
            "{content_type}"
        );
    }
}

#[test]
fn invalid_text_in_a_charset_is_rejected() {
    for (content_type, body, wanted) in [
        (
            "application/json; charset=utf-7",
            &b"{}"[..],
            "unsupported charset \"utf-7\"",
        ),
        (
            "text/plain; charset=euc-jp",
            b"ab\xFF",
            "the body is not valid EUC-JP at byte 2",
        ),
        (
            "application/x-www-form-urlencoded; charset=shift_jis",
            b"a=1&b=%83",
            "the body is not valid Shift_JIS at byte 4",
        ),
        (
            // Without its escape sequence the text would have the percent-escape `%8b`.
            "application/x-www-form-urlencoded; charset=iso-2022-jp",
            b"a=1&b=%8\x1b(Bb",
            "the body is not valid ISO-2022-JP at byte 4",
        ),
        (
            "text/plain; charset=latin1",
            &[0xE9; 600],
            "larger than 1000 bytes as UTF-8",
        ),
        (
            "application/x-www-form-urlencoded; charset=latin1",
            &[0xE9; 600],
            "larger than 1000 bytes as UTF-8",
        ),
    ] {
        let error = received(content_type, body, 1000).unwrap_err().to_string();
        assert!(error.contains(wanted), "{content_type}: {error}");
    }
    // Invalid percent-escapes are an error of the form, as in UTF-8.
    let record = received(
        "application/x-www-form-urlencoded; charset=latin1",
        b"a=%zz\xE9",
        99,
    )
    .unwrap();
    assert_eq!(
        cell(path("a", None, true), &record)
            .unwrap_err()
            .kind
            .status(),
        400
    );
}

#[test]
fn values_of_repeated_headers_are_joined() {
    let headers = [
        ("cookie", "session=abc"),
        ("x-a", "1"),
        ("cookie", "theme=dark"),
        ("X-A", ""),
        ("x-a", "3"),
    ];
    let record = RecordContext::new(request(&headers), Bytes::new());
    assert_eq!(
        cell(ColumnKind::Headers, &record).unwrap(),
        r#"{"Cookie":"session=abc; theme=dark","X-A":"1, , 3"}"#
    );
    let header = |name: &str| cell(template(&format!("Header('{name}')"), true), &record).unwrap();
    assert_eq!(header("COOKIE"), "session=abc; theme=dark");
    assert_eq!(header("x-a"), "1, , 3");
}

fn positions(body: &[u8], mode: BodyMode) -> Vec<(String, Option<usize>, usize)> {
    let parts = split(&Bytes::copy_from_slice(body), mode, 100).unwrap();
    let text = |p: BodyPart| {
        (
            String::from_utf8_lossy(&p.body).into_owned(),
            p.line,
            p.byte,
        )
    };
    parts.iter().map(text).collect()
}

#[test]
fn lines_of_several_values_are_several_records() {
    let found = positions(
        b"{\"i\":1}\n\n {\"i\":2} {\"i\":3}[4]\r\n\"a\"\"b\"\n",
        BodyMode::Ndjson,
    );
    let found: Vec<_> = found
        .iter()
        .map(|(t, l, b)| (t.as_str(), l.unwrap(), *b))
        .collect();
    assert_eq!(
        found,
        [
            ("{\"i\":1}", 1, 0),
            ("{\"i\":2}", 3, 1),
            ("{\"i\":3}", 3, 9),
            ("[4]", 3, 16),
            ("\"a\"", 4, 0),
            ("\"b\"", 4, 3),
        ]
    );
    // An invalid line is one record, whose error has the position.
    let body = Bytes::from_static(b"{\"i\":1}\n{\"i\":2}{\"i\":}\n{\"i\":3}");
    let parts = split(&body, BodyMode::Ndjson, 100).unwrap();
    assert_eq!(parts.len(), 3);
    let broken = RecordContext::from_batch_part(request(&[]), parts.get(1).unwrap());
    let error = broken.document().unwrap_err().to_string();
    assert_eq!(
        error,
        "line 2 is not valid JSON: expected a value at character 13 (byte 12 of the line)"
    );
    let error = split(&Bytes::from_static(b"{}{}{}"), BodyMode::Ndjson, 2).unwrap_err();
    assert_eq!(error, SplitError::TooMany(2));
}

/// Each byte is read a constant number of times: otherwise this would take an hour.
#[test]
fn a_long_line_of_many_values_is_split_in_one_pass() {
    let count = 1_000_000;
    let body = Bytes::from(["\n\n", &"{}".repeat(count), "\n", "{}"].concat());
    let parts = split(&body, BodyMode::Ndjson, usize::MAX).unwrap();
    assert_eq!(parts.len(), count + 1);
    let last = parts.get(count - 1).unwrap();
    assert_eq!((last.line, last.byte), (Some(3), 2 * (count - 1)));
    let behind = parts.get(count).unwrap();
    assert_eq!((behind.line, behind.byte), (Some(4), 0));
    // Text after the last accepted record is not scanned.
    let error = split(&body, BodyMode::Ndjson, 10).unwrap_err();
    assert_eq!(error, SplitError::TooMany(10));
}

#[test]
fn sequences_are_split_at_their_separators() {
    let body = b"\x1E{\"i\":1}\n\x1E{\n \"i\":2\n}\n\x1E\n\x1E 3\n\x1E{\"i\":}\x1E{}";
    let found = positions(body, BodyMode::JsonSequence);
    let found: Vec<_> = found
        .iter()
        .map(|(t, l, b)| (t.as_str(), l.unwrap(), *b))
        .collect();
    assert_eq!(
        found,
        [
            ("{\"i\":1}", 1, 1),
            ("{\n \"i\":2\n}", 2, 1),
            ("3", 6, 2),
            ("{\"i\":}", 7, 1),
            ("{}", 7, 8),
        ]
    );
    let parts = split(&Bytes::from_static(body), BodyMode::JsonSequence, 100).unwrap();
    let broken = RecordContext::from_batch_part(request(&[]), parts.get(3).unwrap());
    assert_eq!(
        broken.document().unwrap_err().to_string(),
        "line 7 is not valid JSON: expected a value at byte 6 of the line"
    );
    assert_eq!(positions(b"\x1E\x1E\n", BodyMode::JsonSequence), []);
}

proptest! {
    #[test]
    fn adjacent_values_are_found(
        values in proptest::collection::vec("(\\{\"[a-c}{\\]\\[]{0,3}\":[0-9]{1,2}\\}|\\[\\]|\"[}{ ]{0,2}\")", 1..6),
        spaces in proptest::collection::vec("[ \t]{0,2}", 6),
    ) {
        let mut line = String::new();
        for (value, space) in values.iter().zip(&spaces) {
            write!(line, "{value}{space}").unwrap();
        }
        prop_assume!(values.iter().all(|v| v != "[01]" && !v.contains(":0")));
        let found = positions(line.as_bytes(), BodyMode::Ndjson);
        if values.len() == 1 {
            prop_assert_eq!(found.len(), 1);
        } else {
            let texts: Vec<_> = found.iter().map(|(t, ..)| t.clone()).collect();
            prop_assert_eq!(texts, values);
            for (text, _, byte) in found {
                prop_assert_eq!(&line.as_bytes()[byte..byte + text.len()], text.as_bytes());
            }
        }
    }

    /// A form is equal in every charset that can encode it.
    #[test]
    fn forms_are_equal_in_every_charset(
        fields in proptest::collection::vec(("[a-zéß&= \\[\\]%+]{0,6}", "[a-zéß&=%+ ]{0,6}"), 0..5),
        label in prop_oneof![Just("windows-1252"), Just("iso-8859-15"), Just("utf-16le"), Just("utf-8")],
        raw in any::<bool>(),
    ) {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        let escape = |text: &str, encoding: &'static encoding_rs::Encoding| {
            let (bytes, ..) = encoding.encode(text);
            let mut out = Vec::new();
            for byte in bytes.iter() {
                if byte.is_ascii_alphanumeric() || raw && *byte >= 0x80 && label != "utf-16le" {
                    out.push(*byte);
                } else {
                    out.extend_from_slice(format!("%{byte:02x}").as_bytes());
                }
            }
            out
        };
        let form = |encoding| {
            let fields: Vec<_> = fields.iter().map(|(n, v)| [escape(n, encoding), escape(v, encoding)].join(&b'=')).collect();
            fields.join(&b'&')
        };
        // Escapes in UTF-16 are UTF-8.
        let mut sent = form(if label == "utf-16le" { encoding_rs::UTF_8 } else { encoding });
        if label == "utf-16le" {
            sent = sent.iter().flat_map(|b| [*b, 0]).collect();
        }
        let read = received(&format!("{FORM}; charset={label}"), &sent, 1000).unwrap();
        let plain = record(FORM, form(encoding_rs::UTF_8));
        let cell_of = |record: &RecordContext| cell(path("", None, false), record).map_err(|e| e.kind);
        prop_assert_eq!(cell_of(&read), cell_of(&plain));
    }
}

#[test]
fn a_form_with_an_invalid_escape_is_converted_to_utf_8() {
    let body = b"id=%aj\x83A&b=%83A";
    let content_type = "application/x-www-form-urlencoded; charset=shift_jis";
    let record = received(content_type, body, 1000).unwrap();
    assert_eq!(record.body(), "id=%ajア&b=%E3%82%A2");
    let error = cell(path("id", None, true), &record).unwrap_err();
    assert!(error.message.contains("two hex digits"), "{error:?}");
    assert!(received(content_type, b"id=%aj\x83", 1000).is_err());
}
