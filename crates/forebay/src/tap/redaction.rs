//! Hides secrets and chosen values in samples.
//!
//! A hidden value is removed where it is known to be, and its text wherever else it appears: a column or
//! an error message may repeat it.

use bytes::Bytes;
use forebay_ingest::tap::RecordSample;
use forebay_record::json::JsonDocument;
use forebay_record::path::CompiledPath;

use super::filter::{context, selected, split, text};

const HIDDEN: &str = "[redacted]";
/// Instead of a text in which values can't be found.
const NOT_JSON: &[u8] = b"[redacted: not whole JSON]";
/// Shorter texts are hidden only as a whole cell: everything contains them.
const PART_MIN: usize = 6;
/// Parts of the names of headers whose values are always hidden.
const SECRET_NAMES: [&str; 10] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "signature",
    "password",
    "api-key",
    "apikey",
    "access-key",
    "credential",
];

/// Values to hide, besides secrets in headers.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    paths: Vec<CompiledPath>,
}

impl Redaction {
    pub(super) fn parse(given: &str) -> Result<Self, String> {
        let paths = split(given, "redact")?.into_iter();
        let paths = paths.map(|path| {
            CompiledPath::compile(path).map_err(|e| format!("redact path \"{path}\": {e}"))
        });
        Ok(Self {
            paths: paths.collect::<Result<_, _>>()?,
        })
    }

    /// What is hidden of a sample.
    pub(super) fn of(&self, sample: &RecordSample) -> RedactedSample<'_> {
        let mut texts = Vec::new();
        for (name, value) in sample.request.headers.entries() {
            if is_secret(name) {
                texts.push(value.clone());
                // Without its scheme, and each cookie.
                let parts = value.split([' ', ';', '=', ',']);
                texts.extend(parts.filter(|p| p.len() >= PART_MIN).map(str::to_owned));
            }
        }
        let mut body = sample.body.clone();
        if !self.paths.is_empty() {
            let document = JsonDocument::parse(body.clone());
            body = match document
                .ok()
                .and_then(|d| self.hide_values(&d, &body, &mut texts))
            {
                Some(body) => body,
                None => {
                    self.collect_values(sample, &mut texts);
                    Bytes::from_static(NOT_JSON)
                }
            };
        }
        let mut hidden = RedactedSample {
            redaction: self,
            texts: Vec::new(),
            body,
        };
        for text in texts {
            hidden.add(text);
        }
        // The longest first: it may contain others.
        hidden
            .texts
            .sort_by_key(|text| std::cmp::Reverse(text.len()));
        let text = std::str::from_utf8(&hidden.body).ok();
        let replaced = text.map(|text| Bytes::from(hidden.text(text)));
        if let Some(body) = replaced {
            hidden.body = body;
        }
        hidden
    }

    /// The body with the values of the paths replaced; `None` if a path is too costly.
    fn hide_values(
        &self,
        document: &JsonDocument,
        body: &Bytes,
        texts: &mut Vec<String>,
    ) -> Option<Bytes> {
        let mut ranges = Vec::new();
        for path in &self.paths {
            for node in selected(path, document)? {
                let start = document.offset(node);
                ranges.push((start, start + document.text(node).len()));
                texts.push(text(document, node));
            }
        }
        ranges.sort_unstable();
        let mut out = Vec::with_capacity(body.len());
        let mut at = 0;
        for (start, end) in ranges {
            // A value inside of a hidden one is hidden with it.
            if start < at {
                continue;
            }
            out.extend_from_slice(body.get(at..start)?);
            out.extend_from_slice(format!("\"{HIDDEN}\"").as_bytes());
            at = end;
        }
        out.extend_from_slice(body.get(at..)?);
        Some(Bytes::from(out))
    }

    /// The values in a body that is no JSON, such as a form, for the cells of its row.
    fn collect_values(&self, sample: &RecordSample, texts: &mut Vec<String>) {
        let record = context(sample);
        let Ok(document) = record.document() else {
            return;
        };
        let found = self
            .paths
            .iter()
            .filter_map(|path| selected(path, document));
        texts.extend(found.flatten().map(|node| text(document, node)));
    }
}

fn is_secret(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// A sample without what is hidden.
pub(super) struct RedactedSample<'r> {
    redaction: &'r Redaction,
    /// Texts to hide, the longest first.
    texts: Vec<String>,
    body: Bytes,
}

impl RedactedSample<'_> {
    fn add(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        // As it appears in JSON, and in JSON that is safe in HTML.
        if let Ok(json) = serde_json::to_string(&text) {
            let json = json.trim_matches('"').to_owned();
            let html = json.replace('<', "\\u003c");
            let html = html.replace('>', "\\u003e").replace('&', "\\u0026");
            for form in [json, html] {
                if form != text && !self.texts.contains(&form) {
                    self.texts.push(form);
                }
            }
        }
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    pub(super) fn header(&self, name: &str, value: &str) -> String {
        if is_secret(name) {
            HIDDEN.to_owned()
        } else {
            self.text(value)
        }
    }

    /// A text without hidden ones.
    pub(super) fn text(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for hidden in &self.texts {
            if shown == *hidden {
                return HIDDEN.to_owned();
            }
            if hidden.len() >= PART_MIN && shown.contains(hidden.as_str()) {
                shown = shown.replace(hidden.as_str(), HIDDEN);
            }
        }
        shown
    }

    /// A cell without what is hidden. One that repeats the body has the same values at the same paths.
    pub(super) fn cell(&self, cell: &[u8]) -> String {
        let is_body = matches!(cell.first(), Some(b'{' | b'['));
        if self.redaction.paths.is_empty() || !is_body {
            return self.text(&String::from_utf8_lossy(cell));
        }
        let cell = Bytes::copy_from_slice(cell);
        let document = JsonDocument::parse(cell.clone()).ok();
        let values = document.and_then(|d| self.redaction.hide_values(&d, &cell, &mut Vec::new()));
        let cell = values.unwrap_or(Bytes::from_static(NOT_JSON));
        self.text(&String::from_utf8_lossy(&cell))
    }
}
