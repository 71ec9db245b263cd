//! Paths, the JSON scanner and forms against slow, naive implementations.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use bytes::Bytes;
use common::*;
use forebay_record::form;
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use forebay_record::path::{CompiledPath, OwnedSelection, PathSelection, PathSet, normalized};
use proptest::prelude::*;
use serde_json::Value;

/// JSON texts with common keys, escapes, odd numbers, duplicates and spaces.
fn json_text() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("0".to_owned()),
        Just("1".to_owned()),
        Just("\\u0061".to_owned()),
        Just("k\\n".to_owned()),
        Just("".to_owned()),
        "[a-c é]{0,3}",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("1.50".to_owned()),
        Just("-0".to_owned()),
        Just("1e3".to_owned()),
        Just("12345678901234567890123".to_owned()),
        Just("\"\\ud83d\\ude00\\\"\"".to_owned()),
        "\"[a-z{}\\[\\],: é]{0,6}\"",
        any::<i32>().prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let space = "[ \n\t\r]{0,2}";
        let array = (proptest::collection::vec(inner.clone(), 0..5), space)
            .prop_map(|(items, s)| format!("[{s}{}{s}]", items.join(&format!("{s},{s}"))));
        let object = (proptest::collection::vec((key.clone(), inner), 0..5), space).prop_map(
            |(entries, s)| {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(k, v)| format!("\"{k}\"{s}:{s}{v}"))
                    .collect();
                format!("{{{s}{}{s}}}", entries.join(&format!("{s},{s}")))
            },
        );
        prop_oneof![array, object]
    })
}

fn path_text() -> impl Strategy<Value = String> {
    let first = prop_oneof![Just(""), Just("a")];
    let step = prop_oneof![
        Just(".a".to_owned()),
        Just(".b".to_owned()),
        Just("[0]".to_owned()),
        Just(".0".to_owned()),
        Just("[1]".to_owned()),
        Just(".1".to_owned()),
        Just(".".to_owned()),
        Just(".00".to_owned()),
        "\\.[a-cé]( ?[a-cé]){0,2}",
        Just("[b]".to_owned()),
    ];
    (first, proptest::collection::vec(step, 0..5))
        .prop_map(|(first, rest)| first.to_owned() + &rest.concat())
}

/// Valid and invalid parts of JSONPath.
fn query_part() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        ".a",
        "..b",
        "..*",
        ".*",
        "[*]",
        "[0]",
        "[-1]",
        "['a']",
        "[\"k\\n\"]",
        "[1:2]",
        "[::-1]",
        "[?",
        "@.a",
        "@",
        "$",
        "==",
        "!=",
        "<",
        "&&",
        "||",
        "!",
        "(",
        ")",
        "]",
        "[",
        ",",
        " ",
        "1",
        "-0",
        "1e3",
        "'a'",
        "true",
        "null",
        "length(",
        "count(",
        "value(",
        "match(",
        "search(",
        "@.*",
        "'a.*'",
        "[?@.a]",
        "[?@>1]",
        "[?@..a=='x']",
        "é",
        "\\",
        "\u{0}",
        "[?length(@)==2]",
        "[?match(@,'a.*')]",
    ])
}

/// A naive lookup of a plain path.
fn naive(document: &JsonDocument, path: &str) -> Option<JsonNodeId> {
    let mut at = document.root();
    for step in path.replace('[', ".[").split('.') {
        let step = step
            .strip_prefix('[')
            .map_or(step, |s| s.strip_suffix(']').unwrap_or(s));
        if step.is_empty() {
            continue;
        }
        let members: Vec<_> = document.members(at).collect();
        at = match document.kind(at) {
            JsonKind::Array => *members.get(step.parse::<usize>().ok()?)?,
            JsonKind::Object => {
                let pair = members
                    .chunks(2)
                    .find(|pair| plain(document, pair[0]) == step)?;
                pair[1]
            }
            _ => return None,
        };
    }
    Some(at)
}

fn plain(document: &JsonDocument, string: JsonNodeId) -> String {
    let mut out = Vec::new();
    unescape(document.string(string).0, |part| {
        out.extend_from_slice(part)
    });
    String::from_utf8(out).unwrap()
}

fn compact(document: &JsonDocument, at: JsonNodeId) -> Vec<u8> {
    let mut out = Vec::new();
    document.compact(at, |part| out.extend_from_slice(part));
    out
}

fn parse(text: &str) -> JsonDocument {
    JsonDocument::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn single_and_set_lookups_match_a_naive_lookup(
        text in json_text(),
        paths in proptest::collection::vec(path_text(), 1..20),
    ) {
        let document = parse(&text);
        let compiled: Vec<CompiledPath> = paths.iter().map(|p| CompiledPath::compile(p).unwrap()).collect();
        let set = PathSet::new(&compiled);
        let found = set.find(&document);
        for (i, path) in paths.iter().enumerate() {
            let expected = naive(&document, path);
            let together = expected.map_or(PathSelection::Nothing, PathSelection::One);
            prop_assert_eq!(set.get(&found, i), Ok(together), "{} in {}", path, text);
            let alone = expected.map_or(OwnedSelection::Nothing, OwnedSelection::One);
            prop_assert_eq!(compiled[i].select(&document), Ok(alone));
        }
    }

    #[test]
    fn compacting_removes_only_spaces(text in json_text()) {
        let document = parse(&text);
        let short = compact(&document, document.root());
        let short = String::from_utf8(short).unwrap();
        let (a, b): (Value, Value) = (serde_json::from_str(&text).unwrap(), serde_json::from_str(&short).unwrap());
        prop_assert_eq!(a, b);
        let again = parse(&short);
        prop_assert_eq!(compact(&again, again.root()), short.as_bytes());
        prop_assert!(!again.has_space(again.root()));
    }

    #[test]
    fn the_scanner_accepts_the_same_texts_as_serde(text in json_text(), at in any::<prop::sample::Index>(), byte in "[\\[\\]{}:,\"\\\\0-9a-z.+\\- \n]?") {
        // One character replaced, removed or inserted: most of these texts are invalid.
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        chars.splice(at..=at, byte.chars());
        let text: String = chars.into_iter().collect();
        let ours = JsonDocument::parse(Bytes::from(text.clone()));
        match serde_json::from_str::<&serde_json::value::RawValue>(&text) {
            Ok(_) => prop_assert!(ours.is_ok(), "{} {:?}", text, ours),
            Err(e) => prop_assert!(ours.is_err(), "{} {}", text, e),
        }
    }

    #[test]
    fn arbitrary_bytes_are_json_or_an_error_within_them(bytes: Vec<u8>) {
        match JsonDocument::parse(Bytes::from(bytes.clone())) {
            Ok(document) => prop_assert!(serde_json::from_slice::<Value>(document.text(document.root())).is_ok()),
            Err(e) => prop_assert!(e.offset <= bytes.len() && e.line >= 1 && e.column >= 1),
        }
    }

    #[test]
    fn strings_unescape_as_in_serde(text: String) {
        let quoted = serde_json::to_string(&text).unwrap();
        let mut own = Vec::new();
        forebay_record::json::write_string(&text, &mut own);
        prop_assert_eq!(std::str::from_utf8(&own).unwrap(), &quoted);
        let document = parse(&quoted);
        prop_assert_eq!(plain(&document, document.root()), text);
    }

    #[test]
    fn forms_are_always_json(body in "[a-c\\[\\]=&%0-9+é.]{0,40}") {
        if let Ok(json) = form::to_json(body.as_bytes()) {
            let value: Value = serde_json::from_slice(&json).unwrap();
            prop_assert!(value.is_object());
        }
    }

    #[test]
    fn flat_forms_keep_every_field(fields in proptest::collection::btree_map("[a-z]{1,4}", ".{0,8}", 1..6)) {
        let encode = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
        let body: Vec<_> = fields.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        let json = form::to_json(body.join("&").as_bytes()).unwrap();
        let back: std::collections::BTreeMap<String, String> = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(back, fields);
    }

    #[test]
    fn any_text_is_a_path_or_an_error_within_it(path: String, text in json_text()) {
        let document = parse(&text);
        match CompiledPath::compile(&path) {
            Ok(compiled) if !path.starts_with('$') => {
                let expected = naive(&document, &path).map_or(OwnedSelection::Nothing, OwnedSelection::One);
                prop_assert_eq!(compiled.select(&document), Ok(expected));
            }
            Ok(_) => {}
            Err(e) => prop_assert!(e.at >= 1 && e.at <= path.chars().count() + 1, "{} {}", path, e),
        }
    }

    #[test]
    fn any_query_is_a_path_or_an_error_within_it(
        parts in proptest::collection::vec(query_part(), 0..12),
        text in json_text(),
    ) {
        let path = format!("${}", parts.concat());
        match CompiledPath::compile(&path) {
            Ok(compiled) => drop(compiled.select(&parse(&text))),
            Err(e) => prop_assert!(e.at >= 1 && e.at <= path.chars().count() + 1, "{} {}", path, e),
        }
    }

    #[test]
    fn a_normalized_path_finds_its_value(text in json_text(), at in any::<prop::sample::Index>()) {
        let document = parse(&text);
        let mut values = vec![(document.root(), true)];
        let mut next = 0;
        while let Some((value, is_first)) = values.get(next).copied() {
            next += 1;
            let mut seen = std::collections::HashSet::new();
            let members: Vec<JsonNodeId> = document.members(value).collect();
            if document.kind(value) == JsonKind::Object {
                values.extend(members.chunks(2).map(|pair| {
                    (pair[1], is_first & seen.insert(plain(&document, pair[0])))
                }));
            } else {
                values.extend(members.iter().map(|m| (*m, is_first)));
            }
        }
        // A value of a duplicate key has the path of the first.
        values.retain(|(_, is_first)| *is_first);
        let (value, _) = values[at.index(values.len())];
        let path = normalized(&document, value);
        let compiled = CompiledPath::compile(&path).unwrap();
        prop_assert!(compiled.is_singular());
        prop_assert_eq!(compiled.select(&document), Ok(OwnedSelection::One(value)), "{} in {}", path, text);
        let set = PathSet::new([&compiled]);
        let found = set.find(&document);
        prop_assert_eq!(set.get(&found, 0), Ok(PathSelection::One(value)));
        // Evaluated as a query, the path selects the same value.
        let (head, tail) = path.rsplit_once('[').unwrap_or(("", ""));
        if !tail.is_empty() && !tail.contains('\'') {
            let index = tail.trim_end_matches(']');
            let twice = format!("{head}[{index},{index}]");
            let selected = CompiledPath::compile(&twice).unwrap().select(&document);
            prop_assert_eq!(selected, Ok(OwnedSelection::Many(vec![value, value])));
        }
    }

    #[test]
    fn every_key_has_a_path(key: String) {
        let text = format!("{{{}:{{\"x\":[7]}}}}", serde_json::to_string(&key).unwrap());
        let document = parse(&text);
        let quoted = forebay_record::path::quoted(&key);
        for path in [format!("{quoted}.x[0]"), format!("{quoted}[\"x\"].0"), format!("${quoted}.x[-1]")] {
            let selected = CompiledPath::compile(&path).unwrap().select(&document).unwrap();
            let OwnedSelection::One(found) = selected else {
                return Err(TestCaseError::fail(path));
            };
            prop_assert_eq!(document.text(found), b"7");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn checking_any_text_terminates(source in "[a-z(){}\\[\\]:;,.'\"|=+*/ 0-9\n$!-]{0,200}") {
        drop(check(&source));
    }
}
