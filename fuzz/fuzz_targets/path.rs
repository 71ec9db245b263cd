//! Paths (lines before the first NUL) into a document (after it): evaluated one by one and together,
//! with their normalized paths, and JSONPath compared with another library.
#![no_main]

use std::collections::HashSet;

use bytes::Bytes;
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId};
use forebay_record::path::{CompiledPath, PathSet, OwnedSelection, PathSelection, normalized};
use libfuzzer_sys::fuzz_target;
use serde_json_path::JsonPath;

fuzz_target!(|data: &[u8]| {
    let Some(split) = data.iter().position(|b| *b == 0) else {
        return;
    };
    let Ok(paths) = std::str::from_utf8(&data[..split]) else {
        return;
    };
    let Ok(document) = JsonDocument::parse(Bytes::copy_from_slice(&data[split + 1..])) else {
        return;
    };
    let mut texts = Vec::new();
    let mut compiled = Vec::new();
    for text in paths.lines() {
        match CompiledPath::compile(text) {
            Ok(path) => {
                texts.push(text);
                compiled.push(path);
            }
            Err(e) => assert!(e.at >= 1 && e.at <= text.chars().count() + 1, "{text}: {e}"),
        }
    }
    let value = plain(&document);
    let set = PathSet::new(&compiled);
    let found = set.find(&document);
    for (i, (text, path)) in texts.iter().zip(&compiled).enumerate() {
        let alone = path.select(&document);
        match (&alone, set.get(&found, i)) {
            (Ok(OwnedSelection::Nothing), Ok(PathSelection::Nothing)) => {}
            (Ok(OwnedSelection::One(a)), Ok(PathSelection::One(b))) => assert_eq!(*a, b, "{text}"),
            (Ok(OwnedSelection::Many(a)), Ok(PathSelection::Many(b))) => assert_eq!(a, b, "{text}"),
            // Together they share their steps.
            (_, Err(_)) => {}
            (alone, together) => panic!("{text}: {alone:?}, {together:?}"),
        }
        let nodes = match alone {
            Ok(OwnedSelection::Nothing) => Vec::new(),
            Ok(OwnedSelection::One(node)) => vec![node],
            Ok(OwnedSelection::Many(nodes)) => nodes,
            Err(_) => continue,
        };
        assert!(!path.is_singular() || nodes.len() <= 1, "{text}");
        let Some(value) = &value else { continue };
        for node in &nodes {
            let normal = normalized(&document, *node);
            let again = CompiledPath::compile(&normal).expect("a normalized path is a path");
            assert_eq!(again.select(&document), Ok(OwnedSelection::One(*node)), "{normal}");
        }
        agree(text, value, &document, &nodes);
    }
});

/// The document for the other library, if it can represent it: no duplicate keys, no lone surrogates.
fn plain(document: &JsonDocument) -> Option<serde_json::Value> {
    let mut values = vec![document.root()];
    while let Some(value) = values.pop() {
        let members: Vec<JsonNodeId> = document.members(value).collect();
        if document.kind(value) == JsonKind::Object {
            let keys = members.iter().step_by(2).map(|k| document.text(*k));
            let mut seen = HashSet::new();
            // Keys with escapes may be equal though their texts differ.
            if !keys.into_iter().all(|k| !k.contains(&b'\\') && seen.insert(k)) {
                return None;
            }
        }
        values.extend(document.values(value));
    }
    serde_json::from_slice(document.text(document.root())).ok()
}

/// Without filters both find the same nodes in the same order.
fn agree(text: &str, value: &serde_json::Value, document: &JsonDocument, nodes: &[JsonNodeId]) {
    if !text.starts_with('$') || text.contains('?') {
        return;
    }
    let Ok(other) = JsonPath::parse(text) else {
        return;
    };
    let theirs: Vec<&serde_json::Value> = other.query(value).all();
    let ours = nodes.iter().map(|n| serde_json::from_slice(document.text(*n)));
    let ours: Vec<serde_json::Value> = ours.collect::<Result<_, _>>().expect("a value is JSON");
    assert_eq!(ours.iter().collect::<Vec<_>>(), theirs, "{text}");
}
