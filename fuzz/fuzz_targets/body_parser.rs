//! JSON, form and gzip bodies: an error or a document whose parts lie within the text.
#![no_main]

use bytes::Bytes;
use forebay_record::body::inflate;
use forebay_record::charset::Charset;
use forebay_record::form;
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use libfuzzer_sys::fuzz_target;

fn visit(document: &JsonDocument, at: JsonNodeId) {
    let mut compact = Vec::new();
    document.compact(at, |part| compact.extend_from_slice(part));
    assert!(compact.len() <= document.text(at).len());
    if document.kind(at) == JsonKind::String {
        let mut plain = Vec::new();
        unescape(document.string(at).0, |part| plain.extend_from_slice(part));
        assert!(std::str::from_utf8(&plain).is_ok());
    }
    for member in document.members(at) {
        visit(document, member);
    }
}

fuzz_target!(|data: &[u8]| {
    match JsonDocument::parse(Bytes::copy_from_slice(data)) {
        Ok(document) => {
            visit(&document, document.root());
            let mut compact = Vec::new();
            document.compact(document.root(), |part| compact.extend_from_slice(part));
            JsonDocument::parse(compact.into()).expect("compacting keeps the document");
        }
        Err(e) => assert!(e.offset <= data.len()),
    }
    if let Ok(json) = form::to_json(data) {
        JsonDocument::parse(json.into()).expect("a form is JSON");
    }
    // A form in another charset has the same content in UTF-8, or is rejected.
    for label in ["windows-1252", "shift_jis", "iso-2022-jp", "gb18030"] {
        let Ok(Charset::Other(encoding)) = Charset::from_label(label) else {
            panic!("a known charset");
        };
        if let Ok(text) = form::to_utf8(data, encoding, 1 << 16)
            && let Err(error) = form::to_json(&text)
        {
            assert!(!error.to_string().contains("UTF-8"), "{error}");
        }
    }
    if let Ok(body) = inflate(data, 1 << 16) {
        assert!(body.len() <= 1 << 16);
    }
});
