//! Paths (lines before the first NUL) into a document (behind it): one by one as together.
#![no_main]

use bytes::Bytes;
use forebay_record::json::Document;
use forebay_record::path::{Path, PathSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(split) = data.iter().position(|b| *b == 0) else {
        return;
    };
    let Ok(paths) = std::str::from_utf8(&data[..split]) else {
        return;
    };
    let Ok(document) = Document::parse(Bytes::copy_from_slice(&data[split + 1..])) else {
        return;
    };
    let set = PathSet::compile(paths.lines());
    let found = set.find(&document);
    for (i, path) in paths.lines().enumerate() {
        assert_eq!(
            set.get(&found, i),
            Path::compile(path).find(&document),
            "{path}"
        );
    }
});
