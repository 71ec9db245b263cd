//! Topics: sinks whose records become messages.

use serde::{Deserialize, Serialize};

use crate::column::{ColumnKind, Mapping, MappingColumn};
use crate::limits;

mod statistics;

pub use statistics::{TopicState, TopicStatistics};

/// Type of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKind {
    /// Apache Kafka.
    Kafka,
    /// An HTTP endpoint.
    Http,
}

impl TopicKind {
    /// All types.
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Http];

    /// Name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Http => "http",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// HTTP method of a request with messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMethod {
    /// Accepted by most endpoints.
    #[default]
    Post,
    /// The message replaces the resource.
    Put,
    /// The message changes the resource.
    Patch,
}

impl HttpMethod {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Post, Self::Put, Self::Patch];

    /// Name in HTTP, in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The method with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A topic with its mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSink {
    /// Type of the topic.
    pub kind: TopicKind,
    /// Name of the provider in the server's configuration, which has addresses and secrets.
    pub provider: String,
    /// Name of the topic.
    pub topic: String,
    /// HTTP only: many messages per request, as lines of JSON; otherwise one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batches: bool,
    /// HTTP only: the method of the requests.
    #[serde(default, skip_serializing_if = "HttpMethod::is_default")]
    pub method: HttpMethod,
    /// Mapping of records to messages.
    #[serde(flatten)]
    pub message: MessageMapping,
}

/// Mapping of a record to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageMapping {
    /// The content of the message.
    pub value: MessageValue,
    /// Kafka keeps messages with the same key in order. `None`: no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ColumnKind>,
    /// Headers by name; at most [`limits::MESSAGE_HEADERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<MappingColumn>,
}

impl Default for MessageMapping {
    /// The unchanged request body.
    fn default() -> Self {
        Self {
            value: MessageValue::Part(ColumnKind::Body),
            key: None,
            headers: Vec::new(),
        }
    }
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MessageValue {
    /// The content of a table column.
    Part(ColumnKind),
    /// A JSON object with these fields.
    Object(Vec<MappingColumn>),
}

/// Column name of a value that is no object.
const VALUE: &str = "value";
/// Column name of the key.
const KEY: &str = "key";
/// Prefix of the column names of headers.
const HEADERS: &str = "headers.";

impl MessageMapping {
    /// All parts as the columns of a table, which are validated, compiled and rendered like those:
    /// the value or the fields of its object, the key if there is one, the headers.
    pub fn columns(&self) -> Mapping {
        let named = |name: &str, kind: &ColumnKind| MappingColumn::new(name, kind.clone());
        let mut columns = match &self.value {
            MessageValue::Part(kind) => vec![named(VALUE, kind)],
            MessageValue::Object(fields) => fields
                .iter()
                .map(|c| named(&format!("{VALUE}.{}", c.name), &c.kind))
                .collect(),
        };
        columns.extend(self.key.as_ref().map(|kind| named(KEY, kind)));
        let headers = self.headers.iter();
        columns.extend(headers.map(|c| named(&format!("{HEADERS}{}", c.name), &c.kind)));
        Mapping { columns }
    }
}

impl TopicSink {
    /// All violations, apart from those that only compiling finds; empty when it is valid.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let topic = &self.topic;
        let dots = matches!(topic.as_str(), "." | "..");
        let fits = (1..=limits::TOPIC_CHARS_MAX).contains(&topic.len());
        if !fits || dots || !topic.chars().all(allowed) {
            violations.push(format!(
                "topic is \"{topic}\", allowed are 1 to {} characters of a-z, A-Z, 0-9, \".\", \"_\" and \"-\", but not \".\" and \"..\"",
                limits::TOPIC_CHARS_MAX
            ));
        }
        if self.batches && self.kind != TopicKind::Http {
            violations.push("batches is only for the type http".to_owned());
        }
        if self.method != HttpMethod::default() && self.kind != TopicKind::Http {
            let given = self.method.name();
            violations.push(format!(
                "method is \"{given}\", it is only for the type http"
            ));
        }
        if self.message.headers.len() > limits::MESSAGE_HEADERS_MAX {
            violations.push(format!(
                "the message has {} headers, allowed are 0 to {}",
                self.message.headers.len(),
                limits::MESSAGE_HEADERS_MAX
            ));
        }
        if let MessageValue::Object(fields) = &self.message.value {
            let violation = |p: crate::MappingViolation| format!("value: {p}");
            let fields = Mapping {
                columns: fields.clone(),
            };
            violations.extend(fields.violations().into_iter().map(violation));
        }
        if !self.message.headers.is_empty() {
            let headers = Mapping {
                columns: self.message.headers.clone(),
            };
            let violation = |p: crate::MappingViolation| format!("headers: {p}");
            violations.extend(headers.violations().into_iter().map(violation));
        }
        if self.kind == TopicKind::Http {
            violations.extend(
                self.message
                    .headers
                    .iter()
                    .filter_map(http_header_violation),
            );
        }
        violations
    }
}

/// Reports a header that is invalid in HTTP, or that the delivery itself sets.
fn http_header_violation(header: &MappingColumn) -> Option<String> {
    let name = &header.name;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.chars().all(token) {
        return Some(format!(
            "header \"{name}\" is not a valid HTTP header, allowed are a-z, A-Z, 0-9 and !#$%&'*+-.^_`|~"
        ));
    }
    is_reserved_http_header(name).then(|| format!("header \"{name}\" is set by the server itself"))
}

/// Whether an HTTP header can't be configured for all requests: each request has its own, or the
/// connection needs it.
pub fn is_own_http_header(name: &str) -> bool {
    let may_be_set = ["authorization", "host", "proxy-authorization"];
    is_reserved_http_header(name) && !may_be_set.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// Whether an HTTP header is set by the delivery itself or belongs to the connection: messages
/// can't set it.
pub(crate) fn is_reserved_http_header(name: &str) -> bool {
    let reserved = [
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "message-key",
        "message-topic",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    reserved.iter().any(|r| r.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str) -> MappingColumn {
        MappingColumn::new(name, ColumnKind::Ip)
    }

    fn sink(kind: TopicKind) -> TopicSink {
        TopicSink {
            kind,
            provider: "main".to_owned(),
            topic: "orders.v1".to_owned(),
            batches: false,
            method: HttpMethod::default(),
            message: MessageMapping::default(),
        }
    }

    #[test]
    fn a_valid_topic_has_no_violations() {
        let mut valid = sink(TopicKind::Kafka);
        valid.message.headers = vec![header("client"), header("x y")];
        assert_eq!(valid.violations(), Vec::<String>::new());
    }

    #[test]
    fn every_violation_is_named() {
        let mut bad = sink(TopicKind::Http);
        bad.topic = "a b".to_owned();
        bad.message.value = MessageValue::Object(Vec::new());
        bad.message.headers = vec![header("x y"), header("Authorization"), header("x Y")];
        let violations = bad.violations().join("\n");
        for expected in [
            "topic is \"a b\", allowed are 1 to 249 characters",
            "value: the mapping has 0 columns, allowed are 1 to 1600",
            "headers: column name \"x Y\" is used more than once",
            "header \"x y\" is not a valid HTTP header",
            "header \"Authorization\" is set by the server itself",
        ] {
            assert!(violations.contains(expected), "{expected}: {violations}");
        }
        let mut batches = sink(TopicKind::Kafka);
        batches.batches = true;
        assert_eq!(batches.violations(), ["batches is only for the type http"]);
        let mut method = sink(TopicKind::Kafka);
        method.method = HttpMethod::Put;
        let violation = "method is \"PUT\", it is only for the type http";
        assert_eq!(method.violations(), [violation]);
    }

    #[test]
    fn parts_become_columns_in_their_order() {
        let mapping = MessageMapping {
            value: MessageValue::Object(vec![header("a"), header("key")]),
            key: Some(ColumnKind::Uuid),
            headers: vec![header("key")],
        };
        let columns = mapping.columns();
        let names: Vec<_> = columns.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["value.a", "value.key", "key", "headers.key"]);
        assert_eq!(columns.violations(), []);
    }
}
