//! Rendering of records as messages of a topic.

use std::sync::Arc;

use forebay_model::{ColumnKind, MessageMapping, MessageValue, TopicKind, TopicSink};

use crate::content_type;
use crate::context::RecordContext;
use crate::error::{RecordError, TemplateError};
use crate::json::write_string;
use crate::row::{CompiledMapping, RowLimits};

/// A compiled message mapping.
#[derive(Clone, Debug)]
pub struct CompiledMessage {
    /// Mapping whose columns are the parts of the message.
    mapping: Arc<CompiledMapping>,
    /// Part of the message for each column, in order.
    parts: Vec<MessagePart>,
    is_object: bool,
    content_type: ContentTypeHeader,
}

/// The `content-type` header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentTypeHeader {
    /// No header.
    Unset,
    Json,
    /// The value is the record's body: the record's content type.
    OfRecord,
}

impl ContentTypeHeader {
    const NAME: &str = "content-type";
    const JSON: &[u8] = b"application/json";

    /// Only for messages that are separate HTTP requests, unless the mapping has the header.
    fn for_topic(topic: &TopicSink) -> Self {
        let mut headers = topic.message.headers.iter();
        let is_set = headers.any(|h| h.name.eq_ignore_ascii_case(Self::NAME));
        if topic.kind != TopicKind::Http || topic.batches || is_set {
            return Self::Unset;
        }
        match &topic.message.value {
            MessageValue::Object(_) => Self::Json,
            MessageValue::Part(ColumnKind::Body) => Self::OfRecord,
            MessageValue::Part(kind) if is_json(kind) => Self::Json,
            MessageValue::Part(_) => Self::Unset,
        }
    }

    fn value(self, record: &RecordContext) -> Option<Vec<u8>> {
        match self {
            Self::Unset => None,
            Self::Json => Some(Self::JSON.to_vec()),
            // A record of a batch is JSON, whatever the batch's content type.
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
    /// A field of the value: the text before it, and whether its cell is JSON.
    Field(Vec<u8>, bool),
    Key,
    Header(Arc<str>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RenderedMessage {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// In the order of the mapping.
    pub headers: Vec<(Arc<str>, Vec<u8>)>,
}

impl CompiledMessage {
    /// Compiles a mapping that was checked before it was stored.
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
            content_type: ContentTypeHeader::Unset,
        }
    }

    /// Compiles the mapping of a topic; HTTP topics add a `content-type` header.
    pub fn for_topic(topic: &TopicSink, limits: &RowLimits) -> Self {
        Self {
            content_type: ContentTypeHeader::for_topic(topic),
            ..Self::compile_checked(&topic.message, limits)
        }
    }

    /// The parts as a row. The caller evaluates its templates before [`Self::render`].
    pub fn mapping(&self) -> &Arc<CompiledMapping> {
        &self.mapping
    }

    /// Renders a record. `templates` and `random` are as in [`CompiledMapping::render`].
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
        MappingColumn::new(name, kind)
    }

    fn render(message: &MessageMapping, body: &str) -> Result<RenderedMessage, RecordError> {
        let limits = RowLimits {
            row_size: ByteSize(60),
        };
        let none: [Result<Vec<u8>, TemplateError>; 0] = [];
        CompiledMessage::compile_checked(message, &limits).render(&record(body), &none, &mut || 0)
    }

    #[test]
    fn the_default_message_is_the_body_unchanged() {
        let rendered = render(&MessageMapping::default(), "{ \"a\":1 }").unwrap();
        assert_eq!(rendered.value, b"{ \"a\":1 }");
        assert_eq!((rendered.key, rendered.headers.len()), (None, 0));
    }

    #[test]
    fn an_object_has_json_unchanged_and_other_cells_as_strings() {
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
    fn http_messages_have_a_content_type() {
        let limits = RowLimits {
            row_size: ByteSize(60),
        };
        let rendered =
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
        assert_eq!(rendered(fields(), &[], http, false, &json), as_json);
        assert_eq!(rendered(body(), &[], http, false, &json), as_json);
        assert_eq!(rendered(body(), &[], http, false, &of_batch), as_json);
        let path_of = |raw| MessageValue::Part(path("a", raw));
        assert_eq!(rendered(path_of(false), &[], http, false, &json), as_json);
        assert_eq!(rendered(path_of(true), &[], http, false, &json), "");
        let as_sent = "content-type: text/plain; charset=UTF-8";
        assert_eq!(rendered(body(), &[], http, false, &text), as_sent);
        let own = rendered(fields(), &["Content-Type"], http, false, &json);
        assert_eq!(own, "Content-Type: 127.0.0.1");
        assert_eq!(rendered(fields(), &[], http, true, &json), "");
        assert_eq!(rendered(fields(), &[], kafka, false, &json), "");
    }

    #[test]
    fn missing_and_oversized_parts_are_rejected() {
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
