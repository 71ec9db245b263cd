//! Topics in a definition file.

use forebay_api::mapping::ColumnView;
use forebay_api::topic::{TopicMessageView, TopicSinkView};
use forebay_model::HttpMethod;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::ColumnDefinition;
use super::column::{TYPES, is_false, template_schema, template_text, text};

/// A topic of Apache Kafka, or an HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TopicDefinition {
    /// Name of a provider in the server's configuration.
    pub(crate) provider: String,
    /// Default: the sink's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// Of type `http`: several messages per request.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) batches: bool,
    /// Of type `http`: `POST`, `PUT` or `PATCH`.
    #[serde(
        default,
        deserialize_with = "method",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(extend("enum" = HttpMethod::ALL.map(HttpMethod::name)))]
    pub(crate) method: Option<String>,
    /// Default: the body as received.
    #[serde(default, skip_serializing_if = "MessageDefinition::is_empty")]
    pub(crate) message: MessageDefinition,
}

/// Mapping of a record to a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MessageDefinition {
    /// The content; by default the body as received.
    #[serde(
        default,
        deserialize_with = "part",
        serialize_with = "unnamed",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<UnnamedColumn>")]
    value: Option<ColumnDefinition>,
    /// The content as a JSON object with these fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<ColumnDefinition>>,
    /// Messages with the same key stay in order in Kafka.
    #[serde(
        default,
        deserialize_with = "part",
        serialize_with = "unnamed",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<UnnamedColumn>")]
    key: Option<ColumnDefinition>,
    /// Headers, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<ColumnDefinition>,
}

/// A part of a message has no name.
fn unnamed<S: Serializer>(part: &Option<ColumnDefinition>, to: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(part).map_err(serde::ser::Error::custom)?;
    if let Value::Object(fields) = &mut value {
        fields.shift_remove("name");
    }
    value.serialize(to)
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

/// The name that columns have, too.
fn second_name(schema: &mut schemars::Schema) {
    forebay_schema::add_second_name(schema, "type", "from");
}

/// A part of a message, mapped like a column of a table.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "MessagePart", transform = second_name)]
struct UnnamedColumn {
    /// Source of the text.
    #[serde(rename = "type", alias = "from")]
    #[schemars(extend("enum" = TYPES))]
    kind: String,
    /// Of type `path`: path of a value in the body, like `user.tags[0]`, or JSONPath.
    #[serde(default, deserialize_with = "text")]
    #[schemars(with = "String")]
    path: Option<String>,
    /// Of type `path`: text if the body has no value there.
    #[serde(default, deserialize_with = "text")]
    #[schemars(with = "String")]
    default_value: Option<String>,
    /// Of types `path` and `template`: strings without their JSON quotes.
    #[serde(default)]
    raw_string: Option<bool>,
    /// Of type `template`: the program, in Jsonnet.
    #[serde(default, deserialize_with = "template_text")]
    #[schemars(schema_with = "template_schema")]
    template: Option<String>,
    /// Of type `static`: the text.
    #[serde(default, deserialize_with = "text")]
    #[schemars(with = "String")]
    value: Option<String>,
}

fn part<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ColumnDefinition>, D::Error> {
    let Some(part) = Option::<UnnamedColumn>::deserialize(deserializer)? else {
        return Ok(None);
    };
    Ok(Some(ColumnDefinition {
        name: String::new(),
        kind: part.kind,
        path: part.path,
        default_value: part.default_value,
        raw_string: part.raw_string,
        template: part.template,
        value: part.value,
        ..ColumnDefinition::default()
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

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All parts with the default of `rawString` where they are.
    fn parts(&mut self) -> impl Iterator<Item = (&mut ColumnDefinition, bool)> {
        let texts = self.value.iter_mut().chain(&mut self.key);
        let texts = texts.chain(&mut self.headers).map(|part| (part, true));
        texts.chain(self.fields.iter_mut().flatten().map(|part| (part, false)))
    }

    /// Sets the defaults.
    fn complete(&mut self) {
        if self.value.is_none() && self.fields.is_none() {
            self.value = Some(received_body());
        }
        self.parts().for_each(|(part, raw)| part.set_raw(raw));
    }

    /// Removes what is the default.
    fn simplify(&mut self) {
        self.parts().for_each(|(part, raw)| part.remove_raw(raw));
        self.value = self.value.take().filter(|value| *value != received_body());
    }
}

/// The content of a message by default.
fn received_body() -> ColumnDefinition {
    ColumnDefinition {
        kind: "body".to_owned(),
        ..ColumnDefinition::default()
    }
}

impl From<&TopicSinkView> for TopicDefinition {
    fn from(topic: &TopicSinkView) -> Self {
        let method = topic.method.map(|m| HttpMethod::from(m).name().to_owned());
        Self {
            provider: topic.provider.clone(),
            topic: Some(topic.topic.clone()),
            batches: topic.batches.unwrap_or_default(),
            method,
            message: (&topic.message).into(),
        }
    }
}

impl TopicDefinition {
    pub(crate) fn shown_name(&self) -> &str {
        self.topic.as_deref().unwrap_or(&self.provider)
    }

    /// Sets the defaults; `sink` is the id of the sink.
    pub(super) fn complete(&mut self, sink: &str) {
        self.topic.get_or_insert_with(|| sink.to_owned());
        let default = HttpMethod::default().name();
        self.method.get_or_insert_with(|| default.to_owned());
        self.message.complete();
    }

    /// Removes what is the default.
    pub(super) fn simplify(&mut self) {
        let default = HttpMethod::default().name();
        self.method = self.method.take().filter(|method| method != default);
        self.message.simplify();
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
