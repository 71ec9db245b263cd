//! Sinks that are topics: what a record becomes there is a message.

use crate::column::{ColumnKind, Mapping, MappingColumn};
use crate::limits;

mod statistics;

pub use statistics::{TopicState, TopicStatistics};

/// What keeps a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKind {
    /// Apache Kafka.
    Kafka,
    /// An HTTP endpoint.
    Http,
}

impl TopicKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Kafka, Self::Http];

    /// Its name in the API and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Http => "http",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// How a message is sent over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpMethod {
    /// What most endpoints take messages with.
    #[default]
    Post,
    /// Where a message replaces what is there.
    Put,
    /// Where a message changes what is there.
    Patch,
}

impl HttpMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Post, Self::Put, Self::Patch];

    /// Its name in HTTP, in the API and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A topic, and what its messages are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSink {
    /// What keeps it.
    pub kind: TopicKind,
    /// Name of the provider in the server's configuration: addresses and secrets are there.
    pub provider: String,
    /// Its name.
    pub topic: String,
    /// Only of HTTP: many messages a request, as lines of JSON; otherwise each is a request.
    pub batches: bool,
    /// Only of HTTP: what requests are sent with.
    pub method: HttpMethod,
    /// What a record becomes.
    pub message: MessageMapping,
}

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageMapping {
    /// The content.
    pub value: MessageValue,
    /// Messages of one key stay in order in Kafka. `None`: they have no key.
    pub key: Option<ColumnKind>,
    /// By name; at most [`limits::MESSAGE_HEADERS_MAX`].
    pub headers: Vec<MappingColumn>,
}

impl Default for MessageMapping {
    /// The body as it came.
    fn default() -> Self {
        Self {
            value: MessageValue::Part(ColumnKind::Body),
            key: None,
            headers: Vec::new(),
        }
    }
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageValue {
    /// What a column of a table would hold.
    Part(ColumnKind),
    /// A JSON object with these fields.
    Object(Vec<MappingColumn>),
}

/// Name of the only column of a value that is no object.
const VALUE: &str = "value";
/// Name of the key's column.
const KEY: &str = "key";
/// Before the names of headers.
const HEADERS: &str = "headers.";

impl MessageMapping {
    /// All parts as the columns of a table: the value or the fields of its object, the key if there
    /// is one, the headers. So they are checked, compiled and rendered as those.
    #[must_use]
    pub fn columns(&self) -> Mapping {
        let named = |name: &str, kind: &ColumnKind| MappingColumn {
            name: name.to_owned(),
            primary_key: false,
            kind: kind.clone(),
        };
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
    /// Everything that is wrong, apart from what only compiling shows; empty when nothing is.
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

/// A header that HTTP would not take, or that the delivery sets itself.
fn http_header_violation(header: &MappingColumn) -> Option<String> {
    let name = &header.name;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.chars().all(token) {
        return Some(format!(
            "header \"{name}\" is none of HTTP, allowed are a-z, A-Z, 0-9 and !#$%&'*+-.^_`|~"
        ));
    }
    is_reserved_http_header(name).then(|| format!("header \"{name}\" is set by the server itself"))
}

/// Whether a header of HTTP is none that a person configures for all requests: each has its own, or
/// its connection needs it.
#[must_use]
pub fn is_own_http_header(name: &str) -> bool {
    let may_be_set = ["authorization", "host", "proxy-authorization"];
    is_reserved_http_header(name) && !may_be_set.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// Whether a header of HTTP is set by the delivery itself or belongs to the connection: no message
/// has it.
#[must_use]
pub fn is_reserved_http_header(name: &str) -> bool {
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
        MappingColumn {
            name: name.to_owned(),
            primary_key: false,
            kind: ColumnKind::Ip,
        }
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
    fn a_fine_topic_has_no_problems() {
        let mut fine = sink(TopicKind::Kafka);
        fine.message.headers = vec![header("client"), header("x y")];
        assert_eq!(fine.violations(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named() {
        let mut bad = sink(TopicKind::Http);
        bad.topic = "a b".to_owned();
        bad.message.value = MessageValue::Object(Vec::new());
        bad.message.headers = vec![header("x y"), header("Authorization"), header("x Y")];
        let problems = bad.violations().join("\n");
        for said in [
            "topic is \"a b\", allowed are 1 to 249 characters",
            "value: the mapping has 0 columns, allowed are 1 to 1600",
            "headers: column name \"x Y\" is used more than once",
            "header \"x y\" is none of HTTP",
            "header \"Authorization\" is set by the server itself",
        ] {
            assert!(problems.contains(said), "{said}: {problems}");
        }
        let mut batches = sink(TopicKind::Kafka);
        batches.batches = true;
        assert_eq!(batches.violations(), ["batches is only for the type http"]);
        let mut method = sink(TopicKind::Kafka);
        method.method = HttpMethod::Put;
        let problem = "method is \"PUT\", it is only for the type http";
        assert_eq!(method.violations(), [problem]);
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
