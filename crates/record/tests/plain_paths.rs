//! Paths that do not start with `$`: selections and invalid paths.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use bytes::Bytes;
use forebay_record::json::JsonDocument;
use forebay_record::path::{CompiledPath, OwnedSelection, PathSelection, PathSet, quoted};

const TEXT: &str = r#"{"a":{"b":[1,[2,3]],"first name":4,"x-y":5,"0":6,"é":7},"utm.source":"x","":8,"a[0]":9,
"@odata.nextLink":"n","$ref":10,"'q'":11,"back\\slash":12,"/p":13,"00":14,"*":15,"@id":16,"b*":17,"it's":18}"#;

fn found(path: &str) -> Option<String> {
    let compiled = CompiledPath::compile(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert!(compiled.is_singular(), "{path}");
    let document = JsonDocument::parse(Bytes::from_static(TEXT.as_bytes())).unwrap();
    match compiled.select(&document).unwrap() {
        OwnedSelection::One(node) => Some(String::from_utf8(document.text(node).to_vec()).unwrap()),
        OwnedSelection::Nothing => None,
        OwnedSelection::Many(_) => panic!("{path}"),
    }
}

#[test]
fn the_plain_form_matches_the_reference_service() {
    for (path, wanted) in [
        ("a.b[0]", "1"),
        ("a.b.0", "1"),
        ("a.b[1][1]", "3"),
        ("a.b.1.1", "3"),
        ("a[b][1].0", "2"),
        ("a.first name", "4"),
        ("a.x-y", "5"),
        ("a.0", "6"),
        ("a[0]", "6"),
        ("a.é", "7"),
        // Empty steps are skipped.
        ("a..b.0", "1"),
        (".a.b[0]", "1"),
        ("a.b.0.", "1"),
        ("a.[b].[0]", "1"),
        ("00", "14"),
        ("@id", "16"),
        ("b*", "17"),
        ("it's", "18"),
    ] {
        assert_eq!(found(path).as_deref(), Some(wanted), "{path}");
    }
    assert_eq!(found("").as_deref(), Some(TEXT));
    for missing in [
        "b",
        "a.c",
        "a.b[2]",
        "a.b.c",
        "a.b[0].x",
        "a.é.x",
        "a.b[99999999999999999999999999]",
    ] {
        assert_eq!(found(missing), None, "{missing}");
    }
}

#[test]
fn quoted_keys_reach_every_key() {
    for (path, wanted) in [
        (r#"["utm.source"]"#, r#""x""#),
        ("['utm.source']", r#""x""#),
        (r#"a["b"][0]"#, "1"),
        (r#"['a']["b"].1"#, "[2,3]"),
        ("a[ 'b' ][0]", "1"),
        ("['a'].b[0]", "1"),
        ("a['0']", "6"),
        (r#"[""]"#, "8"),
        ("['a[0]']", "9"),
        (r#"["@odata.nextLink"]"#, r#""n""#),
        (r#"["$ref"]"#, "10"),
        ("['$ref']", "10"),
        (r#"["'q'"]"#, "11"),
        (r"['\'q\'']", "11"),
        (r#"["back\\slash"]"#, "12"),
        (r#"["/p"]"#, "13"),
        (r#"["\/p"]"#, "13"),
        (r#"a["\u00e9"]"#, "7"),
        (r#"["*"]"#, "15"),
    ] {
        assert_eq!(found(path).as_deref(), Some(wanted), "{path}");
    }
    // A quoted key is not an index.
    assert_eq!(found("a.b['0']"), None);
    assert_eq!(quoted("a\"b\\"), r#"["a\"b\\"]"#);
}

#[test]
fn invalid_paths_are_rejected_with_their_position() {
    for (path, at, expected) in [
        ("a[0", 2, "not closed"),
        ("a[", 2, "not closed"),
        ("a]", 2, "closes no ["),
        ("a[0]]", 5, "closes no ["),
        ("a[]", 3, "an index or a key in quotes"),
        ("a[*]", 3, "$.a[*]"),
        ("a[-1]", 3, "$.a[-1]"),
        ("a[1:2]", 3, "JSONPath begins with $"),
        ("a[?(@.x==1)]", 3, "JSONPath begins with $"),
        ("a[0,1]", 3, "JSONPath begins with $"),
        ("a[b.c]", 3, "a key in quotes"),
        ("a[ 0 ]", 3, "an index"),
        ("a[@id]", 3, "a key in quotes"),
        ("a[0]b", 5, "expected . or ["),
        ("a[\"b\"]c", 7, "expected . or ["),
        ("a[\"b", 3, "not closed"),
        ("a[\"b\"", 6, "expected ]"),
        ("a['b'x]", 6, "expected ] behind the quoted key"),
        ("é['b'x]", 6, "expected ]"),
        ("a['\\q']", 5, "behind a backslash"),
        ("a['\\ud800']", 4, "second half"),
        ("*", 1, "JSONPath begins with $"),
        ("a.*", 3, "JSONPath begins with $"),
        ("@.a", 1, "begin it with a key"),
        ("\"host.name\"", 1, "[\"a.b\"]"),
        ("a.'b.c'", 3, "stands in brackets"),
        ("utm\\.source", 4, "no escape with a backslash"),
        ("/a/b", 1, "[\"/a/b\"]"),
        ("#/a/b", 1, "slashes"),
        (" a", 1, "a space"),
        ("a.b ", 4, "a space"),
        ("a\n", 2, "a space"),
        (" $.a", 1, "a space"),
        ("a.b\u{7}c", 4, "control character"),
    ] {
        let error = CompiledPath::compile(path).expect_err(path);
        assert_eq!(error.at, at, "{path}: {error}");
        assert!(error.message.contains(expected), "{path}: {error}");
        assert!(error.to_string().starts_with(&format!("character {at}: ")));
    }
}

#[test]
fn paths_of_all_forms_are_looked_up_together() {
    let document = JsonDocument::parse(Bytes::from_static(
        br#"{"0":{"x":1},"l":[{"x":2},{"x":3},{"x":4}],"l":[]}"#,
    ))
    .unwrap();
    let paths = [
        ("0.x", "1"),
        ("['0'].x", "1"),
        ("l.0.x", "2"),
        ("$.l[0].x", "2"),
        ("$.l[-1].x", "4"),
        ("l[2]", r#"{"x":4}"#),
        ("$.l[-3]", r#"{"x":2}"#),
        ("l['0']", "-"),
        ("$['0'].x", "1"),
        ("$[0]", "-"),
        ("$.l[-4]", "-"),
        ("$..x", "many 4"),
        ("$.l[?@.x>2].x", "many 2"),
        ("$..y", "-"),
    ];
    let compiled: Vec<CompiledPath> = paths
        .iter()
        .map(|(p, _)| CompiledPath::compile(p).unwrap())
        .collect();
    let set = PathSet::new(&compiled);
    assert!(set.has_queries());
    let found = set.find(&document);
    for (i, (path, wanted)) in paths.iter().enumerate() {
        let got = match set.get(&found, i).unwrap() {
            PathSelection::Nothing => "-".to_owned(),
            PathSelection::One(node) => String::from_utf8(document.text(node).to_vec()).unwrap(),
            PathSelection::Many(nodes) => format!("many {}", nodes.len()),
        };
        assert_eq!(got, *wanted, "{path}");
    }
}
