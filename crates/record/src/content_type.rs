//! `Content-Type`: the format of a body, whether it is a batch, and its charset.

use crate::charset::{Charset, CharsetError};

/// Names of JSON with a record per line, without `x-`. None is registered, so tools differ.
const LINES: [&str; 8] = [
    "ndjson",
    "nd-json",
    "jsonl",
    "jsonlines",
    "json-lines",
    "ldjson",
    "ld-json-stream",
    "json-stream",
];
/// The name in Spring.
const SPRING_LINES: &str = "application/stream+json";
/// The batched content mode of `CloudEvents`: an array of events.
const CLOUDEVENTS_BATCH: &str = "application/cloudevents-batch+json";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// Format of one record.
    pub format: BodyFormat,
    /// Set if the type declares a batch.
    pub batch: Option<BodyMode>,
    pub charset: Charset,
}

impl ContentType {
    /// Reads the header's value, ignoring letter case; `None`: no header.
    pub fn from_header(sent: Option<&[u8]>) -> Result<Self, CharsetError> {
        let sent = sent.unwrap_or_default();
        if sent == b"application/json" {
            return Ok(Self::json());
        }
        let text = String::from_utf8_lossy(sent);
        let (format, batch) = classify(&text);
        let is_text = !matches!(format, BodyFormat::Other(_))
            || batch.is_some()
            || begins_with(essence(&text), "text/");
        let charset = match charset_label(&text) {
            // Each part declares its own.
            _ if begins_with(essence(&text), "multipart/") => Charset::Bytes,
            Some(label) => Charset::from_label(&label)?,
            None if is_text => Charset::Utf8,
            None => Charset::Bytes,
        };
        Ok(Self {
            format,
            batch,
            charset,
        })
    }

    fn json() -> Self {
        Self {
            format: BodyFormat::Json,
            batch: None,
            charset: Charset::Utf8,
        }
    }
}

/// The content type of a body received with `sent`, after its conversion to UTF-8.
pub(crate) fn as_utf8(sent: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(sent);
    let charset = ContentType::from_header(Some(sent)).map(|t| t.charset);
    let is_other = charset.is_ok_and(Charset::is_not_utf8);
    if !is_other {
        return sent.to_vec();
    }
    let mut utf8_type = essence(&text).to_owned();
    for (name, value) in parameters(&text) {
        if name.eq_ignore_ascii_case("charset") {
            continue;
        }
        utf8_type.extend(["; ", name, "=", value]);
    }
    utf8_type.push_str("; charset=utf-8");
    utf8_type.into_bytes()
}

fn begins_with(text: &str, start: &str) -> bool {
    let head = text.get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Type and subtype. A comma ends them too: the value of a second header follows.
fn essence(text: &str) -> &str {
    text.split([';', ',']).next().unwrap_or_default().trim()
}

/// Format of a body, and how to split it if its type declares a batch.
pub(crate) fn classify(sent: &str) -> (BodyFormat, Option<BodyMode>) {
    let essence = essence(sent).to_ascii_lowercase();
    let other = || BodyFormat::Other(sent.to_owned());
    match essence.as_str() {
        "application/x-www-form-urlencoded" => return (BodyFormat::Form, None),
        CLOUDEVENTS_BATCH => return (BodyFormat::Json, Some(BodyMode::JsonArray)),
        SPRING_LINES => return (other(), Some(BodyMode::Ndjson)),
        _ => {}
    }
    let Some((_, subtype)) = essence
        .split_once('/')
        .filter(|(kind, subtype)| is_token(kind) && is_token(subtype))
    else {
        return (other(), None);
    };
    let (before, name) = match subtype.rsplit_once('+') {
        Some((before, name)) => (Some(before), name),
        None => (None, subtype),
    };
    if before == Some("") {
        return (other(), None);
    }
    match name.strip_prefix("x-").unwrap_or(name) {
        "json" => (BodyFormat::Json, None),
        "json-seq" => (other(), Some(BodyMode::JsonSequence)),
        lines if LINES.contains(&lines) => (other(), Some(BodyMode::Ndjson)),
        _ => (other(), None),
    }
}

/// Characters of a token (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let special = |b: u8| b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || special(b))
}

/// Names and values of the parameters; values as sent, with quotes.
fn parameters(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = end_of_parameter(rest);
            let (parameter, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if let Some((name, value)) = parameter.split_once('=') {
                return Some((name.trim(), value.trim()));
            }
        }
        None
    })
}

/// Position of the next semicolon or comma outside quotes.
fn end_of_parameter(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' | b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// The first `charset` without quotes; an empty one is ignored.
fn charset_label(text: &str) -> Option<String> {
    let (_, value) = parameters(text).find(|(n, _)| n.eq_ignore_ascii_case("charset"))?;
    let label = value.trim_matches(['"', '\'']).replace('\\', "");
    let label = label.trim();
    (!label.is_empty()).then(|| label.to_owned())
}

/// How one record is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// A JSON content type.
    Json,
    /// `application/x-www-form-urlencoded`; also JSON sent with that type, the default of curl.
    Form,
    /// Another content type (as sent), or none (empty). The body is parsed if it is JSON.
    Other(String),
}

impl BodyFormat {
    /// Reads a `Content-Type` value, ignoring letter case and parameters.
    pub fn from_content_type(content_type: Option<&[u8]>) -> Self {
        let sent = content_type.unwrap_or_default();
        if sent == b"application/json" {
            return Self::Json;
        }
        classify(&String::from_utf8_lossy(sent)).0
    }
}

/// How a body is split into records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// One record, even if it is an array.
    #[default]
    Single,
    /// One record per value of each line; empty lines don't count.
    Ndjson,
    /// One record per value after a record separator (RFC 7464); values may span lines.
    JsonSequence,
    /// One record per element of a JSON array.
    JsonArray,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ContentType {
        ContentType::from_header(Some(text.as_bytes())).unwrap()
    }

    #[test]
    fn json_types_are_recognized() {
        for text in [
            "application/json",
            "Application/JSON ; charset=UTF-8",
            "text/json",
            "text/x-json",
            "application/x-json",
            "application/vnd.api+json",
            "application/vnd.some_api-1.0+JSON;version=2",
            "application/problem+json, text/plain",
            "model/gltf+json",
            "application/cloudevents+json",
        ] {
            assert_eq!(
                (of(text).format, of(text).batch),
                (BodyFormat::Json, None),
                "{text}"
            );
        }
        for text in [
            "",
            "json",
            "/json",
            "application/",
            "application/+json",
            "application/json5",
            "application/jsonp",
            "application/a b+json",
            "text/plain",
            "application/xml",
        ] {
            let found = (of(text).format, of(text).batch);
            assert_eq!(found, (BodyFormat::Other(text.to_owned()), None), "{text}");
        }
    }

    #[test]
    fn batch_types_are_recognized() {
        for text in [
            "application/x-ndjson",
            "application/ndjson",
            "text/x-ndjson",
            "application/jsonl",
            "Application/X-JSONL",
            "application/jsonlines; charset=utf-8",
            "application/x-jsonlines",
            "application/json-lines",
            "application/x-ldjson",
            "application/stream+json",
            "application/vnd.elasticsearch+x-ndjson; compatible-with=7",
            "application/vnd.x+ndjson",
        ] {
            assert_eq!(of(text).batch, Some(BodyMode::Ndjson), "{text}");
        }
        for text in ["application/json-seq", "application/geo+json-seq"] {
            assert_eq!(of(text).batch, Some(BodyMode::JsonSequence), "{text}");
        }
        let batch = of("application/cloudevents-batch+json; charset=utf-8").batch;
        assert_eq!(batch, Some(BodyMode::JsonArray));
    }

    #[test]
    fn charsets_are_found_in_all_spellings() {
        for text in [
            "application/json;charset=windows-1252",
            "application/json; x=\";charset=utf-8\"; Charset = \"Windows-1252\"",
            "text/plain; charset='cp1252'",
            "application/xml ; charset=ISO-8859-1 ;",
            "application/x-www-form-urlencoded; charset=latin1, text/plain",
        ] {
            let Charset::Other(encoding) = of(text).charset else {
                panic!("{text}");
            };
            assert_eq!(encoding.name(), "windows-1252", "{text}");
        }
        assert_eq!(of("application/json; charset=").charset, Charset::Utf8);
        assert_eq!(of("application/octet-stream").charset, Charset::Bytes);
        assert_eq!(
            of("multipart/form-data; charset=latin1; boundary=x").charset,
            Charset::Bytes
        );
        let unknown =
            ContentType::from_header(Some(b"application/json; charset=utf-7")).unwrap_err();
        assert_eq!(unknown, CharsetError::Unknown("utf-7".to_owned()));
    }

    #[test]
    fn bodies_stored_as_utf_8_declare_it() {
        for (sent, kept) in [
            ("application/json", "application/json"),
            ("text/plain; charset=UTF-8", "text/plain; charset=UTF-8"),
            ("text/plain; charset=latin1", "text/plain; charset=utf-8"),
            ("multipart/x; charset=latin1", "multipart/x; charset=latin1"),
            (
                "application/x+json; charset=\"utf-16\"; v=\"1;2\"",
                "application/x+json; v=\"1;2\"; charset=utf-8",
            ),
        ] {
            assert_eq!(as_utf8(sent.as_bytes()), kept.as_bytes(), "{sent}");
        }
    }
}
