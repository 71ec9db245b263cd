//! Topic sinks: converts and validates their definitions.

use forebay_model::{
    ColumnKind, HttpMethod, MappingColumn, MessageMapping, MessageValue, TopicKind, TopicSink,
};

use super::ApiState;
use super::error::{ApiError, FieldFinding, bullets};
use super::mapping::{self, model_column};
use forebay_api::mapping::ColumnRequest;
use forebay_api::sink::SinkType;
use forebay_api::topic::{MessageRequest, TopicCreate, TopicUpdate};

/// Topic kind of a sink type; `None` for tables.
pub(super) fn kind(r#type: SinkType) -> Option<TopicKind> {
    match r#type {
        SinkType::Table => None,
        SinkType::Kafka => Some(TopicKind::Kafka),
        SinkType::Http => Some(TopicKind::Http),
    }
}

/// Converts and validates a topic.
pub(super) async fn topic(
    api: &ApiState,
    kind: TopicKind,
    sink: &str,
    request: TopicCreate,
) -> Result<TopicSink, ApiError> {
    let message = match request.message {
        Some(request) => message(api, request).await?,
        None => MessageMapping::default(),
    };
    let topic = TopicSink {
        kind,
        provider: request.provider,
        topic: request.topic.unwrap_or_else(|| sink.to_owned()),
        batches: request.batches.unwrap_or_default(),
        method: request.method.map(Into::into).unwrap_or_default(),
        message,
    };
    check(api, &topic)?;
    Ok(topic)
}

/// Changes of a topic, validated except for their combination with the current topic.
#[derive(Default)]
pub(super) struct TopicChange {
    provider: Option<String>,
    topic: Option<String>,
    batches: Option<bool>,
    method: Option<HttpMethod>,
    message: Option<MessageMapping>,
}

impl TopicChange {
    pub(super) async fn from_request(
        api: &ApiState,
        request: TopicUpdate,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            provider: request.provider,
            topic: request.topic,
            batches: request.batches,
            method: request.method.map(Into::into),
            message: match request.message {
                Some(request) => Some(message(api, request).await?),
                None => None,
            },
        })
    }

    /// Applies the changes, if the result is valid.
    pub(super) fn apply(&self, api: &ApiState, topic: &mut TopicSink) -> Result<(), ApiError> {
        let mut changed = topic.clone();
        super::sources::replace(&mut changed.provider, self.provider.as_ref());
        super::sources::replace(&mut changed.topic, self.topic.as_ref());
        super::sources::replace(&mut changed.batches, self.batches.as_ref());
        super::sources::replace(&mut changed.method, self.method.as_ref());
        super::sources::replace(&mut changed.message, self.message.as_ref());
        check(api, &changed)?;
        *topic = changed;
        Ok(())
    }
}

/// Validates a topic with its provider.
fn check(api: &ApiState, topic: &TopicSink) -> Result<(), ApiError> {
    let mut violations = topic.violations();
    let (headers, max) = (
        topic.message.headers.len(),
        api.repo.limits().headers_per_message,
    );
    if headers > max as usize && violations.is_empty() {
        violations.push(format!(
            "the message has {headers} headers, allowed are 0 to {max} (setting limits.headersPerMessage)"
        ));
    }
    let kind = topic.kind.name();
    match api.topics.providers(topic.kind) {
        Err(why) => violations.insert(0, format!("sink type \"{kind}\" is not available: {why}")),
        Ok(names) if names.contains(&topic.provider) => {}
        Ok(names) => {
            let allowed = if names.is_empty() {
                "none is declared in the configuration of this server (providers)".to_owned()
            } else {
                let names: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
                format!("allowed are {}", names.join(", "))
            };
            let given = &topic.provider;
            violations.insert(
                0,
                format!("provider \"{given}\" of type {kind} is unknown, {allowed}"),
            );
        }
    }
    if topic.kind == TopicKind::Http {
        let configured = api.topics.headers(&topic.provider);
        let taken = |name: &str| configured.iter().any(|c| c.eq_ignore_ascii_case(name));
        let headers = topic.message.headers.iter().filter(|h| taken(&h.name));
        violations.extend(headers.map(|header| {
            let (name, provider) = (&header.name, &topic.provider);
            format!("header \"{name}\" is set by the provider \"{provider}\"")
        }));
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(ApiError::from_findings(
            violations.into_iter().map(topic_finding).collect(),
        ))
    }
}

/// Adds the field to a violation of a topic; its message begins with the field's name.
fn topic_finding(message: String) -> FieldFinding {
    let fields = [
        ("provider ", "topic.provider"),
        ("topic ", "topic.topic"),
        ("batches ", "topic.batches"),
        ("method ", "topic.method"),
        ("value: ", "topic.message.fields"),
        ("header", "topic.message.headers"),
        ("the message ", "topic.message"),
    ];
    let known = fields.iter().find(|(start, _)| message.starts_with(start));
    FieldFinding {
        field: Some(known.map_or("topic", |(_, field)| field).to_owned()),
        message,
    }
}

async fn message(api: &ApiState, request: MessageRequest) -> Result<MessageMapping, ApiError> {
    let rejected =
        |violations: Vec<String>| ApiError::bad_request(bullets(&violations)).at("topic.message");
    let message = message_from_request(request, api.config.raw_string).map_err(rejected)?;
    let found = mapping::compile(api, &message.columns()).await?;
    if found.is_empty() {
        Ok(message)
    } else {
        Err(rejected(found.into_iter().map(|p| p.message).collect()))
    }
}

/// Converts a message as the API does, without a server. Paths and templates are not compiled.
/// `is_raw` is the default of `rawString` outside of fields.
///
/// # Errors
/// All violations.
pub fn message_from_request(
    request: MessageRequest,
    is_raw: bool,
) -> Result<MessageMapping, Vec<String>> {
    let mut violations = Vec::new();
    // In text parts a string loses its quotes; a field is JSON.
    let part = |request: ColumnRequest, is_raw: bool, violations: &mut Vec<String>| {
        match model_column(request, is_raw) {
            Ok(column) if column.primary_key => {
                let name = column.name;
                violations.push(format!("\"{name}\" of a message can't be a primary key"));
                None
            }
            Ok(column) if !column.data_type.is_text() || column.unit.is_some() => {
                let name = column.name;
                violations.push(format!(
                    "\"{name}\" of a message can't have a dataType or unit: only columns of tables have one"
                ));
                None
            }
            Ok(column) => Some(column),
            Err(problem) => {
                violations.push(problem);
                None
            }
        }
    };
    let value = match (request.value, request.fields) {
        (Some(_), Some(_)) => {
            violations.push("a message has \"value\" or \"fields\", not both".to_owned());
            None
        }
        (None, None) => Some(MessageValue::Part(ColumnKind::Body)),
        (Some(value), None) => {
            let column = part(value.named("value"), is_raw, &mut violations);
            column.map(|c| MessageValue::Part(c.kind))
        }
        (None, Some(fields)) => {
            let fields = fields.into_iter();
            let fields = fields.filter_map(|f| part(f, false, &mut violations));
            Some(MessageValue::Object(fields.collect()))
        }
    };
    let key = request
        .key
        .and_then(|k| part(k.named("key"), is_raw, &mut violations));
    let headers: Vec<MappingColumn> = request
        .headers
        .unwrap_or_default()
        .into_iter()
        .filter_map(|h| part(h, is_raw, &mut violations))
        .collect();
    let message = value.map(|value| MessageMapping {
        value,
        key: key.map(|c| c.kind),
        headers,
    });
    match message {
        Some(message) if violations.is_empty() => Ok(message),
        _ => Err(violations),
    }
}
