//! Request headers as cells and templates see them: canonical names, sorted, one value each.
//!
//! Of a name that was sent more than once the values are joined with a comma, which says the same
//! (RFC 9110, 5.3), and those of `Cookie`, which HTTP/2 may divide, with a semicolon (RFC 9113, 8.2.3).

use std::sync::OnceLock;

use http::HeaderMap;
use http::header::{COOKIE, HeaderName};

/// The headers of a request, shown lazily: a mapping without a `headers` column pays nothing.
#[derive(Debug, Default)]
pub struct RequestHeaders {
    map: HeaderMap,
    sorted: OnceLock<Vec<(String, String)>>,
    json: OnceLock<Vec<u8>>,
}

impl From<HeaderMap> for RequestHeaders {
    fn from(map: HeaderMap) -> Self {
        Self {
            map,
            ..Self::default()
        }
    }
}

impl RequestHeaders {
    /// From names and values as [`Self::entries`] gives them.
    pub fn from_entries(entries: Vec<(String, String)>) -> Self {
        let headers = Self::default();
        headers.sorted.get_or_init(|| entries);
        headers
    }

    /// The map that they came from; empty after [`Self::from_entries`].
    pub fn map(&self) -> &HeaderMap {
        &self.map
    }

    /// Canonical names (`X-Foo`) and values, sorted by name. Bytes that are not UTF-8 become U+FFFD.
    pub fn entries(&self) -> &[(String, String)] {
        self.sorted.get_or_init(|| {
            let mut entries: Vec<_> = self
                .map
                .keys()
                .map(|name| (canonical(name.as_str()), self.joined(name)))
                .collect();
            entries.sort_unstable();
            entries
        })
    }

    fn joined(&self, name: &HeaderName) -> String {
        let comma = if name == COOKIE { "; " } else { ", " };
        let mut joined = String::new();
        for (number, value) in self.map.get_all(name).iter().enumerate() {
            if number > 0 {
                joined.push_str(comma);
            }
            joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
        joined
    }

    /// The value of a header; letter case does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        let entries = self.entries();
        let i = entries.binary_search_by(|(n, _)| n.cmp(&name)).ok()?;
        Some(&entries[i].1)
    }

    /// The `headers` column: a JSON object, `<`, `>` and `&` escaped so that it can stand in HTML.
    pub fn json(&self) -> &[u8] {
        self.json.get_or_init(|| {
            let mut out = Vec::with_capacity(512);
            out.push(b'{');
            for (i, (name, value)) in self.entries().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_html_safe(name, &mut out);
                out.push(b':');
                write_html_safe(value, &mut out);
            }
            out.push(b'}');
            out
        })
    }

    /// Lines `Name: value`, sorted, each with its line end.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for (name, value) in self.entries() {
            out.extend([name, ": ", value, "\n"]);
        }
        out
    }
}

/// `x-foo` as `X-Foo`: the form in which Go's net/http keeps header names.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let shown = if upper {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            };
            upper = c == '-';
            shown
        })
        .collect()
}

/// A JSON string as Go's `encoding/json` writes it: what HTML or JavaScript would take for markup
/// or for a line end is escaped.
fn write_html_safe(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    crate::json::write_string(text, out);
    let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if text.contains(special) {
        let plain = out.split_off(start);
        for c in String::from_utf8_lossy(&plain).chars() {
            if special(c) {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}
