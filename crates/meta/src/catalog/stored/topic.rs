//! Sinks that are topics.

use forebay_model::{HttpMethod, MessageMapping, MessageValue, TopicKind, TopicSink};
use serde::{Deserialize, Serialize};

use super::table::{ColumnForm, ColumnKindForm};

/// A topic and its message mapping.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicForm {
    pub kind: String,
    pub provider: String,
    pub topic: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batches: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    pub value: ValueForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ColumnKindForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ColumnForm>,
}

/// Content of a message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueForm {
    Part(ColumnKindForm),
    Object(Vec<ColumnForm>),
}

impl From<&TopicSink> for TopicForm {
    fn from(sink: &TopicSink) -> Self {
        let message = &sink.message;
        Self {
            kind: sink.kind.name().to_owned(),
            provider: sink.provider.clone(),
            topic: sink.topic.clone(),
            batches: sink.batches,
            method: (sink.method != HttpMethod::default()).then(|| sink.method.name().to_owned()),
            value: match &message.value {
                MessageValue::Part(kind) => ValueForm::Part(kind.into()),
                MessageValue::Object(fields) => {
                    ValueForm::Object(fields.iter().map(Into::into).collect())
                }
            },
            key: message.key.as_ref().map(Into::into),
            headers: message.headers.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<TopicForm> for TopicSink {
    type Error = String;

    fn try_from(form: TopicForm) -> Result<Self, String> {
        Ok(Self {
            kind: TopicKind::from_name(&form.kind)
                .ok_or_else(|| format!("unknown kind of topic \"{}\"", form.kind))?,
            provider: form.provider,
            topic: form.topic,
            batches: form.batches,
            method: match form.method {
                Some(name) => HttpMethod::from_name(&name)
                    .ok_or_else(|| format!("unknown method \"{name}\" of a topic"))?,
                None => HttpMethod::default(),
            },
            message: MessageMapping {
                value: match form.value {
                    ValueForm::Part(kind) => MessageValue::Part(kind.into()),
                    ValueForm::Object(fields) => {
                        MessageValue::Object(fields.into_iter().map(Into::into).collect())
                    }
                },
                key: form.key.map(Into::into),
                headers: form.headers.into_iter().map(Into::into).collect(),
            },
        })
    }
}
