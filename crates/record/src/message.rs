//! Messages that a topic's mapping makes of records.

use std::sync::Arc;

use forebay_model::{ColumnKind, MessageMapping, MessageValue, TopicKind, TopicSink};

use crate::content_type;
use crate::context::RecordContext;
use crate::error::{RecordError, TemplateError};
use crate::json::write_string;
use crate::row::{CompiledMapping, RowLimits};

/// What a topic makes of a record, ready to be used.
#[derive(Clone, Debug)]
pub struct CompiledMessage {
    /// Of all parts.
    mapping: Arc<CompiledMapping>,
    /// What each of its columns becomes, in order.
    parts: Vec<MessagePart>,
    is_object: bool,
    content_type: ContentTypeHeader,
}

/// What says what a message's value is, as a header of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentTypeHeader {
    /// Nothing.
    Unsaid,
    /// It is JSON.
    Json,
    /// The value is the record's body: what the record says of that.
    OfRecord,
}

impl ContentTypeHeader {
    const NAME: &str = "content-type";
    const JSON: &[u8] = b"application/json";

    /// For messages that are requests of their own, unless the mapping has the header.
    fn for_topic(topic: &TopicSink) -> Self {
        let mut headers = topic.message.headers.iter();
        let is_said = headers.any(|h| h.name.eq_ignore_ascii_case(Self::NAME));
        if topic.kind != TopicKind::Http || topic.batches || is_said {
            return Self::Unsaid;
        }
        match &topic.message.value {
            MessageValue::Object(_) => Self::Json,
            MessageValue::Part(ColumnKind::Body) => Self::OfRecord,
            MessageValue::Part(kind) if is_json(kind) => Self::Json,
            MessageValue::Part(_) => Self::Unsaid,
        }
    }

    fn value(self, record: &RecordContext) -> Option<Vec<u8>> {
        match self {
            Self::Unsaid => None,
            Self::Json => Some(Self::JSON.to_vec()),
            // One of a batch is JSON, whatever the batch says of itself.
            Self::OfRecord if record.is_of_batch() => Some(Self::JSON.to_vec()),
            Self::OfRecord => {
                let headers = record.request().headers.map();
                let value = headers.get(http::header::CONTENT_TYPE)?;
                Some(content_type::as_utf8(value.as_bytes()))
            }
        }
    }
}

#[derive(Clone, Debug)]
enum MessagePart {
    Value,
    /// A field of the value: the text before its content, and whether the content is JSON already.
    Field(Vec<u8>, bool),
    Key,
    Header(Arc<str>),
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedMessage {
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its content.
    pub value: Vec<u8>,
    /// In the order of the mapping.
    pub headers: Vec<(Arc<str>, Vec<u8>)>,
}

impl CompiledMessage {
    /// Compiles a mapping that was checked before, as those in the metadata store are.
    pub fn compile_checked(message: &MessageMapping, limits: &RowLimits) -> Self {
        let mut parts = Vec::new();
        let is_object = match &message.value {
            MessageValue::Part(_) => {
                parts.push(MessagePart::Value);
                false
            }
            MessageValue::Object(fields) => {
                for (i, field) in fields.iter().enumerate() {
                    let mut before = if i == 0 { b"{".to_vec() } else { b",".to_vec() };
                    write_string(&field.name, &mut before);
                    before.push(b':');
                    parts.push(MessagePart::Field(before, is_json(&field.kind)));
                }
                true
            }
        };
        parts.extend(message.key.as_ref().map(|_| MessagePart::Key));
        let headers = message.headers.iter();
        parts.extend(headers.map(|h| MessagePart::Header(Arc::from(h.name.as_str()))));
        Self {
            mapping: Arc::new(CompiledMapping::compile_checked(&message.columns(), limits)),
            parts,
            is_object,
            content_type: ContentTypeHeader::Unsaid,
        }
    }

    /// The messages of a topic, with what the topic itself says of them: over HTTP a `Content-Type`.
    pub fn for_topic(topic: &TopicSink, limits: &RowLimits) -> Self {
        Self {
            content_type: ContentTypeHeader::for_topic(topic),
            ..Self::compile_checked(&topic.message, limits)
        }
    }

    /// Its parts as a row: whoever renders a message evaluates the templates of it first.
    pub fn mapping(&self) -> &Arc<CompiledMapping> {
        &self.mapping
    }

    /// The record's message. `templates` and `random` are as in [`CompiledMapping::render`].
    ///
    /// # Errors
    /// The first part that can't be made, or with which the message outgrows its limit.
    pub fn render(
        &self,
        record: &RecordContext,
        templates: &[Result<impl AsRef<[u8]>, TemplateError>],
        random: &mut dyn FnMut() -> u128,
    ) -> Result<RenderedMessage, RecordError> {
        let mut message = RenderedMessage::default();
        self.mapping
            .each_cell(record, templates, random, |i, cell| {
                match self.parts.get(i) {
                    Some(MessagePart::Value) | None => message.value = cell,
                    Some(MessagePart::Field(before, is_json)) => {
                        message.value.extend_from_slice(before);
                        if *is_json {
                            message.value.extend_from_slice(&cell);
                        } else {
                            let text = String::from_utf8_lossy(&cell);
                            write_string(&text, &mut message.value);
                        }
                    }
                    Some(MessagePart::Key) => message.key = Some(cell),
                    Some(MessagePart::Header(name)) => {
                        message.headers.push((Arc::clone(name), cell))
                    }
                }
            })?;
        if self.is_object {
            message.value.push(b'}');
        }
        if let Some(value) = self.content_type.value(record) {
            message
                .headers
                .push((Arc::from(ContentTypeHeader::NAME), value));
        }
        Ok(message)
    }
}

/// Whether the cells of a column are JSON; others become JSON strings.
fn is_json(kind: &ColumnKind) -> bool {
    match kind {
        ColumnKind::Headers => true,
        ColumnKind::Path(path) => !path.raw_string,
        ColumnKind::Template(template) => !template.raw_string,
        ColumnKind::Uuid
        | ColumnKind::Datetime
        | ColumnKind::Ip
        | ColumnKind::Body
        | ColumnKind::Static { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{ByteSize, MappingColumn, PathColumn, Timestamp};

    use super::*;
    use crate::context::RequestInfo;
    use crate::error::RecordErrorKind;

    fn record(body: &str) -> RecordContext {
        let json = http::HeaderValue::from_static("application/json");
        let headers: http::HeaderMap = [(http::header::CONTENT_TYPE, json)].into_iter().collect();
        let request = RequestInfo {
            received: Timestamp::from_millis(0),
            client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            headers: headers.into(),
        };
        RecordContext::new(Arc::new(request), body.as_bytes().to_vec().into())
    }

    fn path(path: &str, raw_string: bool) -> ColumnKind {
        ColumnKind::Path(PathColumn {
            path: path.to_owned(),
            default_value: None,
            raw_string,
        })
    }

    fn column(name: &str, kind: ColumnKind) -> MappingColumn {
        MappingColumn {
            name: name.to_owned(),
            primary_key: false,
            kind,
        }
    }

    fn render(message: &MessageMapping, body: &str) -> Result<RenderedMessage, RecordError> {
        let limits = RowLimits {
            row_size: ByteSize(60),
        };
        let none: [Result<Vec<u8>, TemplateError>; 0] = [];
        CompiledMessage::compile_checked(message, &limits).render(&record(body), &none, &mut || 0)
    }

    #[test]
    fn a_message_is_the_body_as_it_came() {
        let rendered = render(&MessageMapping::default(), "{ \"a\":1 }").unwrap();
        assert_eq!(rendered.value, b"{ \"a\":1 }");
        assert_eq!((rendered.key, rendered.headers.len()), (None, 0));
    }

    #[test]
    fn an_object_has_json_as_it_is_and_the_rest_as_text() {
        let message = MessageMapping {
            value: MessageValue::Object(vec![
                column("n", path("a", false)),
                column("say \"s\"", path("s", true)),
                column("ip", ColumnKind::Ip),
            ]),
            key: Some(path("s", true)),
            headers: vec![column("h", path("a", false))],
        };
        let rendered = render(&message, "{\"a\":{\"b\":[1]},\"s\":\"x\\\"y\"}").unwrap();
        let value: serde_json::Value = serde_json::from_slice(&rendered.value).unwrap();
        let wanted = serde_json::json!({"n": {"b": [1]}, "say \"s\"": "x\"y", "ip": "127.0.0.1"});
        assert_eq!(value, wanted);
        assert_eq!(rendered.key.as_deref(), Some(&b"x\"y"[..]));
        assert_eq!(
            rendered.headers,
            [(Arc::from("h"), b"{\"b\":[1]}".to_vec())]
        );
    }

    #[test]
    fn over_http_a_message_says_what_its_value_is() {
        let limits = RowLimits {
            row_size: ByteSize(60),
        };
        let said =
            |value: MessageValue, headers: &[&str], kind, batches, record: &RecordContext| {
                let topic = TopicSink {
                    kind,
                    provider: "p".to_owned(),
                    topic: "t".to_owned(),
                    batches,
                    method: forebay_model::HttpMethod::Post,
                    message: MessageMapping {
                        value,
                        key: None,
                        headers: headers.iter().map(|h| column(h, ColumnKind::Ip)).collect(),
                    },
                };
                let none: [Result<Vec<u8>, TemplateError>; 0] = [];
                let message = CompiledMessage::for_topic(&topic, &limits);
                let message = message.render(record, &none, &mut || 0).unwrap();
                let headers = message.headers.into_iter();
                let headers = headers.map(|(n, v)| format!("{n}: {}", String::from_utf8_lossy(&v)));
                headers.collect::<Vec<_>>().join(", ")
            };
        let plain = http::HeaderValue::from_static("text/plain; charset=UTF-8");
        let headers: http::HeaderMap = [(http::header::CONTENT_TYPE, plain)].into_iter().collect();
        let request = Arc::new(RequestInfo {
            received: Timestamp::from_millis(0),
            client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            headers: headers.into(),
        });
        let text = RecordContext::new(Arc::clone(&request), b"x".to_vec().into());
        let part = crate::body::BodyPart {
            line: Some(1),
            byte: 0,
            body: b"{}".to_vec().into(),
        };
        let of_batch = RecordContext::from_batch_part(request, part);
        let (http, kafka, json) = (TopicKind::Http, TopicKind::Kafka, record("{\"a\":1}"));
        let body = || MessageValue::Part(ColumnKind::Body);
        let fields = || MessageValue::Object(vec![column("a", path("a", false))]);
        let as_json = "content-type: application/json";
        assert_eq!(said(fields(), &[], http, false, &json), as_json);
        assert_eq!(said(body(), &[], http, false, &json), as_json);
        assert_eq!(said(body(), &[], http, false, &of_batch), as_json);
        let path_of = |raw| MessageValue::Part(path("a", raw));
        assert_eq!(said(path_of(false), &[], http, false, &json), as_json);
        assert_eq!(said(path_of(true), &[], http, false, &json), "");
        let as_sent = "content-type: text/plain; charset=UTF-8";
        assert_eq!(said(body(), &[], http, false, &text), as_sent);
        let own = said(fields(), &["Content-Type"], http, false, &json);
        assert_eq!(own, "Content-Type: 127.0.0.1");
        assert_eq!(said(fields(), &[], http, true, &json), "");
        assert_eq!(said(fields(), &[], kafka, false, &json), "");
    }

    #[test]
    fn what_is_missing_or_too_large_is_named() {
        let message = MessageMapping {
            key: Some(path("a", false)),
            ..MessageMapping::default()
        };
        let error = render(&message, "{}").unwrap_err();
        let found = (error.kind, error.column.as_str());
        assert_eq!(found, (RecordErrorKind::PathNotFound, "key"));
        let large = format!("\"{}\"", "x".repeat(59));
        let error = render(&MessageMapping::default(), &large).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::TooLarge);
    }
}
