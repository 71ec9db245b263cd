//! Topics in a definition file.

use forebay_api::sink::ColumnView;
use forebay_api::topic::TopicMessageView;
use forebay_model::HttpMethod;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::ColumnDefinition;
use super::column::{template_text, text};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TopicDefinition {
    /// Name of a provider in the server's configuration.
    pub(crate) provider: String,
    /// Default: the sink's id.
    #[serde(default)]
    pub(crate) topic: Option<String>,
    /// Of type `http`: several messages per request.
    #[serde(default)]
    pub(crate) batches: bool,
    /// Of type `http`: `POST`, `PUT` or `PATCH`.
    #[serde(default, deserialize_with = "method")]
    pub(crate) method: Option<String>,
    /// Default: the body as received.
    #[serde(default)]
    pub(crate) message: MessageDefinition,
}

/// Mapping of a record to a message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MessageDefinition {
    #[serde(default, deserialize_with = "part")]
    value: Option<ColumnDefinition>,
    /// The value as a JSON object.
    #[serde(default)]
    fields: Option<Vec<ColumnDefinition>>,
    #[serde(default, deserialize_with = "part")]
    key: Option<ColumnDefinition>,
    #[serde(default)]
    headers: Vec<ColumnDefinition>,
}

/// Validates the method when the file is read, before any request to the server.
fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(given) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let names = HttpMethod::ALL.map(HttpMethod::name);
    if names.contains(&given.as_str()) {
        return Ok(Some(given));
    }
    let allowed = names.join(", ");
    Err(serde::de::Error::custom(format_args!(
        "method is \"{given}\", allowed are {allowed}"
    )))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UnnamedColumn {
    #[serde(default)]
    name: Option<IgnoredAny>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "text")]
    path: Option<String>,
    #[serde(default, deserialize_with = "text")]
    default_value: Option<String>,
    #[serde(default)]
    raw_string: Option<bool>,
    #[serde(default, deserialize_with = "template_text")]
    template: Option<String>,
    #[serde(default, deserialize_with = "text")]
    value: Option<String>,
}

fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ColumnDefinition>, D::Error> {
    let Some(part) = Option::<UnnamedColumn>::deserialize(deserializer)? else {
        return Ok(None);
    };
    if part.name.is_some() {
        return Err(serde::de::Error::custom("value and key have no name"));
    }
    Ok(Some(ColumnDefinition {
        name: String::new(),
        kind: part.kind,
        path: part.path,
        default_value: part.default_value,
        raw_string: part.raw_string,
        template: part.template,
        value: part.value,
        primary_key: false,
    }))
}

fn part_request(column: &ColumnDefinition) -> Value {
    let mut request = column.request();
    if let Value::Object(fields) = &mut request {
        fields.remove("name");
    }
    request
}

impl From<&TopicMessageView> for MessageDefinition {
    fn from(message: &TopicMessageView) -> Self {
        let columns = |columns: &[ColumnView]| columns.iter().map(Into::into).collect();
        Self {
            value: message.value.as_ref().map(Into::into),
            fields: message.fields.as_deref().map(columns),
            key: message.key.as_ref().map(Into::into),
            headers: columns(&message.headers),
        }
    }
}

impl MessageDefinition {
    /// API form.
    pub(crate) fn request(&self) -> Value {
        let headers = self.headers.iter().map(ColumnDefinition::request);
        let fields = |columns: &[ColumnDefinition]| -> Value {
            columns
                .iter()
                .map(ColumnDefinition::field_request)
                .collect()
        };
        let mut request = json!({ "headers": headers.collect::<Vec<_>>() });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request[name] = value;
            }
        };
        set("value", self.value.as_ref().map(part_request));
        set("fields", self.fields.as_deref().map(fields));
        set("key", self.key.as_ref().map(part_request));
        request
    }

    /// Whether the server's definition is the same.
    pub(crate) fn matches(&self, shown: &TopicMessageView) -> bool {
        let mut wanted = self.clone();
        if wanted.value.is_none() && wanted.fields.is_none() {
            wanted.value = Some(ColumnDefinition {
                kind: "body".to_owned(),
                ..ColumnDefinition::default()
            });
        }
        Self::from(shown).request() == wanted.request()
    }
}

impl TopicDefinition {
    pub(crate) fn shown_name(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.provider)
    }

    /// API request that creates it.
    pub(crate) fn request(&self, sink: &str) -> Value {
        let mut request = json!({
            "provider": self.provider,
            "topic": self.topic.as_deref().unwrap_or(sink),
            "batches": self.batches,
            "message": self.message.request(),
        });
        if let Some(method) = &self.method {
            request["method"] = method.as_str().into();
        }
        request
    }
}
