//! Batches: parts lie within the body, in order, and are what a record is made of.
#![no_main]

use bytes::Bytes;
use forebay_record::BodyMode;
use forebay_record::body::split;
use forebay_record::json::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    if let Ok(parts) = split(&body, BodyMode::Ndjson, 100) {
        let mut line = 0;
        for part in parts.iter() {
            assert!(part.line > Some(line) && !part.body.contains(&b'\n'));
            line = part.line.unwrap_or_default();
        }
        if !data.starts_with(b"\xEF\xBB\xBF") {
            let text = |l: &[u8]| !l.iter().all(|b| b" \t\r".contains(b));
            assert_eq!(
                parts.len(),
                data.split(|b| *b == b'\n').filter(|l| text(l)).count()
            );
        }
    }
    if let Ok(parts) = split(&body, BodyMode::JsonArray, 100) {
        for part in parts.iter() {
            Document::parse(part.body).expect("an element is a document");
        }
    }
});
