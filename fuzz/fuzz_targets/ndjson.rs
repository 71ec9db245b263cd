//! Batches: parts lie within the body, in order, and are what a record is made of.
#![no_main]

use bytes::Bytes;
use forebay_record::BodyMode;
use forebay_record::body::split;
use forebay_record::json::Document;
use libfuzzer_sys::fuzz_target;

/// Whether nothing but whitespace of JSON and byte order marks is on a line.
fn is_blank(line: &[u8]) -> bool {
    match line {
        [] => true,
        [b' ' | b'\t' | b'\r', rest @ ..] | [0xEF, 0xBB, 0xBF, rest @ ..] => is_blank(rest),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    if let Ok(parts) = split(&body, BodyMode::Ndjson, 100) {
        let mut line = 0;
        for part in parts.iter() {
            assert!(part.line > Some(line) && !part.body.contains(&b'\n'));
            line = part.line.unwrap_or_default();
        }
        let lines = data.split(|b| *b == b'\n').filter(|line| !is_blank(line));
        assert_eq!(parts.len(), lines.count());
    }
    if let Ok(parts) = split(&body, BodyMode::JsonArray, 100) {
        for part in parts.iter() {
            Document::parse(part.body).expect("an element is a document");
        }
    }
});
