//! Batches: parts lie within the body, in order, and contain the records.
#![no_main]

use bytes::Bytes;
use forebay_record::BodyMode;
use forebay_record::body::split;
use forebay_record::json::JsonDocument;
use forebay_record::line::{may_hold_several, values};
use libfuzzer_sys::fuzz_target;

/// Whether a line has only JSON whitespace and byte order marks.
fn is_blank(line: &[u8]) -> bool {
    match line {
        [] => true,
        [b' ' | b'\t' | b'\r', rest @ ..] | [0xEF, 0xBB, 0xBF, rest @ ..] => is_blank(rest),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    for mode in [BodyMode::Ndjson, BodyMode::JsonSequence] {
        let Ok(parts) = split(&body, mode, 100) else {
            continue;
        };
        let starts: Vec<_> = data.iter().enumerate().filter(|(_, b)| **b == b'\n').collect();
        let mut before = 0;
        let mut lines = std::collections::BTreeSet::new();
        for part in parts.iter() {
            let start = part.body.as_ptr() as usize - body.as_ptr() as usize;
            assert!(start >= before, "in order, without duplicates");
            before = start + part.body.len();
            let line = part.line.expect("it has a line");
            let line_start = if line == 1 { 0 } else { starts[line - 2].0 + 1 };
            assert_eq!(line_start + part.byte, start);
            assert!(mode == BodyMode::JsonSequence || !part.body.contains(&b'\n'));
            lines.insert(line);
        }
        if mode == BodyMode::Ndjson {
            let filled = data.split(|b| *b == b'\n').filter(|line| !is_blank(line));
            assert_eq!(lines.len(), filled.count(), "no line is skipped");
        }
    }
    // A body with certainly one value never has several.
    if !may_hold_several(data) {
        assert!(values(data).map_or(true, |values| values.len() <= 1));
    }
    if let Ok(found) = values(data) {
        for range in found {
            JsonDocument::parse(body.slice(range)).expect("a value is a document");
        }
    }
    if let Ok(parts) = split(&body, BodyMode::JsonArray, 100) {
        for part in parts.iter() {
            JsonDocument::parse(part.body).expect("an element is a document");
        }
    }
});
