//! Request headers for cells and templates: canonical names, sorted, one value each.
//!
//! Values of a repeated name are joined with a comma (RFC 9110, 5.3), those of `Cookie` with a
//! semicolon (RFC 9113, 8.2.3).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::OnceLock;

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue};

/// The headers of a request, converted lazily: without a `headers` column at no cost.
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
    /// From the names and values of [`Self::entries`].
    pub fn from_entries(entries: Vec<(String, String)>) -> Self {
        let headers = Self::default();
        headers.sorted.get_or_init(|| entries);
        headers
    }

    /// From names in any letter case and values.
    ///
    /// # Errors
    /// The first name or value that no header can have.
    pub fn from_texts(headers: &BTreeMap<String, String>) -> Result<Self, String> {
        let map: Result<HeaderMap, String> = headers
            .iter()
            .map(|(name, value)| {
                let invalid = |e: &dyn Display| format!("header \"{name}\": {e}");
                let key: HeaderName = name.parse().map_err(|e| invalid(&e))?;
                let value = HeaderValue::from_bytes(value.as_bytes());
                let value = value.map_err(|e| invalid(&e))?;
                Ok((key, value))
            })
            .collect();
        // As entries, in which every reader finds them.
        Ok(Self::from_entries(Self::from(map?).entries().to_vec()))
    }

    /// The original map; empty after [`Self::from_entries`].
    pub fn map(&self) -> &HeaderMap {
        &self.map
    }

    /// Canonical names (`X-Foo`) and values, sorted by name. Bytes that are not UTF-8 become
    /// U+FFFD.
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

    /// The value of a header, ignoring letter case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        let entries = self.entries();
        let i = entries.binary_search_by(|(n, _)| n.cmp(&name)).ok()?;
        Some(&entries[i].1)
    }

    /// The `headers` column: a JSON object with `<`, `>` and `&` escaped for HTML.
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

    /// Sorted lines `Name: value`, each with a line end.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for (name, value) in self.entries() {
            out.extend([name, ": ", value, "\n"]);
        }
        out
    }
}

/// `x-foo` as `X-Foo`: the form of Go's net/http.
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

/// A JSON string as Go's `encoding/json` writes it: with markup and the line ends of JavaScript
/// escaped.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_canonical_headers_or_are_rejected_by_name() {
        let of = |name: &str, value: &str| {
            RequestHeaders::from_texts(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        for value in ["text/plain", "ž", ""] {
            let headers = of("content-TYPE", value).unwrap();
            assert_eq!(headers.get("Content-Type"), Some(value));
        }
        for (name, value) in [("a b", "x"), ("", "x"), ("a", "x\ny")] {
            let error = of(name, value).unwrap_err();
            assert!(
                error.starts_with(&format!("header \"{name}\": ")),
                "{error}"
            );
        }
    }
}
