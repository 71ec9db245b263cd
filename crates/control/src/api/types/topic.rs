//! Topic sinks.

use forebay_model::{MessageMapping, MessageValue, Timestamp, TopicSink};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::mapping::{part_view, view};
use super::sink::{ColumnRequest, ColumnTemplate, ColumnType, ColumnView};
use forebay_model::{TopicState, TopicStatistics};

/// The topic of a new sink.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TopicSinkCreate)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicCreate {
    /// Name of a provider in the server's configuration (`providers`).
    #[schema(min_length = 1, max_length = 64, example = "main")]
    pub(crate) provider: String,
    /// Name of the topic; the sink's id by default.
    #[schema(min_length = 1, max_length = 249, nullable = false, example = "orders")]
    pub(crate) topic: Option<String>,
    /// Only for type `http`: send several messages per request, as JSON lines; otherwise one per
    /// request.
    #[schema(nullable = false)]
    pub(crate) batches: Option<bool>,
    /// Only for type `http`: method of requests; `POST` by default.
    #[schema(nullable = false)]
    pub(crate) method: Option<HttpMethodName>,
    /// By default the body as received.
    #[schema(nullable = false)]
    pub(crate) message: Option<MessageRequest>,
}

/// Changes of a sink's topic; absent fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TopicSinkUpdate)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicUpdate {
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    pub(crate) provider: Option<String>,
    #[schema(min_length = 1, max_length = 249, nullable = false)]
    pub(crate) topic: Option<String>,
    #[schema(nullable = false)]
    pub(crate) batches: Option<bool>,
    #[schema(nullable = false)]
    pub(crate) method: Option<HttpMethodName>,
    /// Replaces the whole message.
    #[schema(nullable = false)]
    pub(crate) message: Option<MessageRequest>,
}

/// Method of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicHttpMethod)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum HttpMethodName {
    Post,
    Put,
    Patch,
}

impl From<HttpMethodName> for forebay_model::HttpMethod {
    fn from(method: HttpMethodName) -> Self {
        match method {
            HttpMethodName::Post => Self::Post,
            HttpMethodName::Put => Self::Put,
            HttpMethodName::Patch => Self::Patch,
        }
    }
}

impl From<forebay_model::HttpMethod> for HttpMethodName {
    fn from(method: forebay_model::HttpMethod) -> Self {
        match method {
            forebay_model::HttpMethod::Post => Self::Post,
            forebay_model::HttpMethod::Put => Self::Put,
            forebay_model::HttpMethod::Patch => Self::Patch,
        }
    }
}

/// Mapping of a record to a message.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TopicMessageRequest)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageRequest {
    /// The content; the body as received if both it and `fields` are absent.
    #[schema(nullable = false)]
    pub(crate) value: Option<MessagePartRequest>,
    /// The content as a JSON object with these fields.
    #[schema(min_items = 1, max_items = 100, nullable = false)]
    pub(crate) fields: Option<Vec<ColumnRequest>>,
    /// Messages with the same key stay in order in Kafka.
    #[schema(nullable = false)]
    pub(crate) key: Option<MessagePartRequest>,
    /// Headers, by name.
    #[schema(max_items = 50, nullable = false)]
    pub(crate) headers: Option<Vec<ColumnRequest>>,
}

/// A part of a message, mapped like a column of a table. Its type determines the fields.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TopicMessagePartRequest)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePartRequest {
    r#type: ColumnType,
    /// Only for type `path`: path of a value in the body, at most 4096 characters: `user.tags[0]`;
    /// with quoted keys `["utm.source"]`; or JSONPath (RFC 9535) if it begins with `$`, like
    /// `$.items[*].id`, where a path that can select many values returns a JSON array. Empty for
    /// the whole body.
    #[schema(nullable = false, example = "user.id")]
    path: Option<String>,
    /// Only for type `path`: text if the body has no value there. Without it such a record is
    /// rejected; a path that can select many values returns `[]`.
    #[schema(nullable = false)]
    default_value: Option<String>,
    /// Only for types `path` and `template`: strings without their JSON quotes. Default: the
    /// server's `api.rawString`, which is true; in the fields of a message false.
    #[schema(nullable = false)]
    raw_string: Option<bool>,
    /// Only for type `template`.
    #[schema(nullable = false)]
    template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[schema(nullable = false)]
    value: Option<String>,
}

impl MessagePartRequest {
    /// Converts it to a column with a name.
    pub(crate) fn named(self, name: &str) -> ColumnRequest {
        ColumnRequest {
            r#type: self.r#type,
            name: name.to_owned(),
            path: self.path,
            default_value: self.default_value,
            raw_string: self.raw_string,
            template: self.template,
            value: self.value,
            primary_key: None,
        }
    }
}

/// The topic of a sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicSink)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicSinkView {
    /// Name of a provider in the server's configuration.
    provider: String,
    topic: String,
    /// Only for type `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    batches: Option<bool>,
    /// Only for type `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    method: Option<HttpMethodName>,
    message: TopicMessageView,
}

/// Mapping of a record to a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicMessage)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TopicMessageView {
    /// The content; alternative to `fields`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    value: Option<MessagePartView>,
    /// The content as a JSON object with these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    fields: Option<Vec<ColumnView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<MessagePartView>,
    headers: Vec<ColumnView>,
}

/// A part of a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopicMessagePart)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagePartView {
    pub(crate) r#type: ColumnType,
    /// Only for type `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) path: Option<String>,
    /// Only for type `path`, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) default_value: Option<String>,
    /// Only for types `path` and `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
}

impl From<&TopicSink> for TopicSinkView {
    fn from(topic: &TopicSink) -> Self {
        let is_http = topic.kind == forebay_model::TopicKind::Http;
        Self {
            provider: topic.provider.clone(),
            topic: topic.topic.clone(),
            batches: is_http.then_some(topic.batches),
            method: is_http.then(|| topic.method.into()),
            message: (&topic.message).into(),
        }
    }
}

impl From<&MessageMapping> for TopicMessageView {
    fn from(message: &MessageMapping) -> Self {
        let (value, fields) = match &message.value {
            MessageValue::Part(kind) => (Some(part_view(kind)), None),
            MessageValue::Object(fields) => (None, Some(fields.iter().map(view).collect())),
        };
        Self {
            value,
            fields,
            key: message.key.as_ref().map(part_view),
            headers: message.headers.iter().map(view).collect(),
        }
    }
}

/// Delivery status of a topic: accepted = delivered + dead + discarded + lost + lag.records.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkDelivery)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryView {
    /// Acknowledged messages.
    accepted: u64,
    /// Messages confirmed by the provider.
    delivered: u64,
    /// Messages in the dead-letter queue.
    dead: u64,
    /// Dead letters that were discarded.
    discarded: u64,
    /// Messages lost to disk corruption.
    lost: u64,
    /// Messages sent to the provider and not yet confirmed.
    in_flight: u64,
    /// Failures after which messages were sent again, since the start of the server.
    retries: u64,
    lag: DeliveryLag,
    provider: ProviderView,
}

/// Undelivered messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkDeliveryLag)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryLag {
    records: u64,
    bytes: u64,
    /// When the oldest was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    oldest_at: Option<Timestamp>,
}

/// Whether the provider accepts messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkDeliveryProvider)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProviderView {
    name: String,
    state: ProviderStateName,
    /// Error of the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// Since when it has been unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<Timestamp>,
}

/// State of the provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SinkDeliveryState)]
#[serde(rename_all = "camelCase")]
enum ProviderStateName {
    /// No message was sent yet.
    Idle,
    /// The last message was accepted.
    Up,
    /// Messages are not accepted.
    Down,
    /// Delivery is paused.
    Paused,
}

impl ProviderView {
    pub(crate) fn new(topic: &TopicSink, state: TopicState) -> Self {
        let (state, error, since) = match state {
            TopicState::Idle => (ProviderStateName::Idle, None, None),
            TopicState::Up => (ProviderStateName::Up, None, None),
            TopicState::Down { error, since } => {
                (ProviderStateName::Down, Some(error), Some(since))
            }
            TopicState::Paused => (ProviderStateName::Paused, None, None),
        };
        Self {
            name: topic.provider.clone(),
            state,
            error,
            since,
        }
    }
}

impl DeliveryView {
    pub(crate) fn new(topic: &TopicSink, counts: TopicStatistics) -> Self {
        Self {
            accepted: counts.accepted,
            delivered: counts.delivered,
            dead: counts.dead,
            discarded: counts.discarded,
            lost: counts.lost,
            in_flight: counts.in_flight,
            retries: counts.retries,
            lag: DeliveryLag {
                records: counts.waiting,
                bytes: counts.waiting_bytes,
                oldest_at: counts.oldest_at,
            },
            provider: ProviderView::new(topic, counts.state),
        }
    }
}
