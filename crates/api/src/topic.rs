//! Topic sinks.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mapping::{ColumnRequest, ColumnTemplate, ColumnType, ColumnView};

/// The topic of a new sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicSinkCreate)]
#[serde(rename_all = "camelCase")]
pub struct TopicCreate {
    /// Name of a provider in the server's configuration (`providers`).
    #[schema(min_length = 1, max_length = 64, example = "main")]
    pub provider: String,
    /// Name of the topic; the sink's id by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 249, nullable = false, example = "orders")]
    pub topic: Option<String>,
    /// Only for type `http`: send several messages per request, as JSON lines; otherwise one per
    /// request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batches: Option<bool>,
    /// Only for type `http`: method of requests; `POST` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub method: Option<HttpMethodName>,
    /// By default the body as received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<MessageRequest>,
}

/// Changes of a sink's topic; absent fields are unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicSinkUpdate)]
#[serde(rename_all = "camelCase")]
pub struct TopicUpdate {
    /// Name of a provider in the server's configuration (`providers`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false)]
    pub provider: Option<String>,
    /// Name of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 249, nullable = false)]
    pub topic: Option<String>,
    /// Only for type `http`: send several messages per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batches: Option<bool>,
    /// Only for type `http`: method of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub method: Option<HttpMethodName>,
    /// Replaces the whole message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<MessageRequest>,
}

/// Method of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicHttpMethod)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethodName {
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicMessageRequest)]
#[serde(rename_all = "camelCase")]
pub struct MessageRequest {
    /// The content; the body as received if both it and `fields` are absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<MessagePartRequest>,
    /// The content as a JSON object with these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 100, nullable = false)]
    pub fields: Option<Vec<ColumnRequest>>,
    /// Messages with the same key stay in order in Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<MessagePartRequest>,
    /// Headers, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 50, nullable = false)]
    pub headers: Option<Vec<ColumnRequest>>,
}

/// A part of a message, mapped like a column of a table. Its type determines the fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicMessagePartRequest)]
#[serde(rename_all = "camelCase")]
pub struct MessagePartRequest {
    /// Source of the part's text.
    pub r#type: ColumnType,
    /// Only for type `path`: path of a value in the body, at most 4096 characters: `user.tags[0]`;
    /// with quoted keys `["utm.source"]`; or JSONPath (RFC 9535) if it begins with `$`, like
    /// `$.items[*].id`, where a path that can select many values returns a JSON array. Empty for
    /// the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "user.id")]
    pub path: Option<String>,
    /// Only for type `path`: text if the body has no value there. Without it such a record is
    /// rejected; a path that can select many values returns `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub default_value: Option<String>,
    /// Only for types `path` and `template`: strings without their JSON quotes. Default: the
    /// server's `api.rawString`, which is true; in the fields of a message false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
}

impl MessagePartRequest {
    /// Converts it to a column with a name.
    pub fn named(self, name: &str) -> ColumnRequest {
        ColumnRequest {
            r#type: self.r#type,
            name: name.to_owned(),
            path: self.path,
            default_value: self.default_value,
            raw_string: self.raw_string,
            template: self.template,
            value: self.value,
            primary_key: None,
            data_type: None,
            unit: None,
        }
    }
}

/// The topic of a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicSink)]
#[serde(rename_all = "camelCase")]
pub struct TopicSinkView {
    /// Name of a provider in the server's configuration.
    pub provider: String,
    /// Name of the topic.
    pub topic: String,
    /// Only for type `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub batches: Option<bool>,
    /// Only for type `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub method: Option<HttpMethodName>,
    /// Mapping of a record to a message.
    pub message: TopicMessageView,
}

/// Mapping of a record to a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicMessage)]
#[serde(rename_all = "camelCase")]
pub struct TopicMessageView {
    /// The content; alternative to `fields`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<MessagePartView>,
    /// The content as a JSON object with these fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fields: Option<Vec<ColumnView>>,
    /// Messages with the same key stay in order in Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<MessagePartView>,
    /// Headers, by name.
    pub headers: Vec<ColumnView>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TopicMessagePart)]
#[serde(rename_all = "camelCase")]
pub struct MessagePartView {
    /// Source of the part's text.
    pub r#type: ColumnType,
    /// Only for type `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub path: Option<String>,
    /// Only for type `path`, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub default_value: Option<String>,
    /// Only for types `path` and `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub raw_string: Option<bool>,
    /// Only for type `template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<ColumnTemplate>,
    /// Only for type `static`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub value: Option<String>,
}

/// Delivery status of a topic: accepted = delivered + dead + discarded + lost + lag.records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkDelivery)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryView {
    /// Acknowledged messages.
    pub accepted: u64,
    /// Messages confirmed by the provider.
    pub delivered: u64,
    /// Messages in the dead-letter queue.
    pub dead: u64,
    /// Dead letters that were discarded.
    pub discarded: u64,
    /// Messages lost to disk corruption.
    pub lost: u64,
    /// Messages sent to the provider and not yet confirmed.
    pub in_flight: u64,
    /// Failures after which messages were sent again, since the start of the server.
    pub retries: u64,
    /// Messages not yet delivered.
    pub lag: DeliveryLag,
    /// Whether the provider accepts messages.
    pub provider: ProviderView,
}

/// Undelivered messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkDeliveryLag)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryLag {
    /// Number of messages.
    pub records: u64,
    /// Bytes of the messages.
    pub bytes: u64,
    /// When the oldest was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub oldest_at: Option<Timestamp>,
}

/// Whether the provider accepts messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkDeliveryProvider)]
#[serde(rename_all = "camelCase")]
pub struct ProviderView {
    /// Name in the server's configuration.
    pub name: String,
    /// State of the provider.
    pub state: ProviderStateName,
    /// Error of the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<String>,
    /// Since when it has been unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub since: Option<Timestamp>,
}

/// State of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SinkDeliveryState)]
#[serde(rename_all = "camelCase")]
pub enum ProviderStateName {
    /// No message was sent yet.
    Idle,
    /// The last message was accepted.
    Up,
    /// Messages are not accepted.
    Down,
    /// Delivery is paused.
    Paused,
}
