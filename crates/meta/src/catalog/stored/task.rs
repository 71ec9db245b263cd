//! Tasks.

use forebay_model::{ProjectId, SinkId, TaskEnd, TaskEntry, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Stored, StoredError, decode_only_form, decode_part};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskV1 {
    pub project: u64,
    pub id: String,
    pub kind: String,
    pub created_at: Timestamp,
    pub node: String,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<TaskEndForm>,
}

/// End of a task: a result or an error.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskEndForm {
    pub finished_at: Timestamp,
    pub duration_ms: u64,
    #[serde(flatten)]
    pub outcome: OutcomeForm,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeForm {
    Result(String),
    Error(String),
}

impl Stored for TaskEntry {
    const WHAT: &'static str = "task";
    const VERSION: u32 = 1;
    type Form = TaskV1;

    fn to_form(&self) -> TaskV1 {
        let end = |e: &TaskEnd| TaskEndForm {
            finished_at: e.finished_at,
            duration_ms: e.duration_ms,
            outcome: match &e.outcome {
                Ok(text) => OutcomeForm::Result(text.clone()),
                Err(text) => OutcomeForm::Error(text.clone()),
            },
            warnings: e.warnings.clone(),
        };
        TaskV1 {
            project: self.project.0,
            id: self.id.clone(),
            kind: self.kind.clone(),
            created_at: self.created_at,
            node: self.node.clone(),
            source: self.source.to_string(),
            sink: self.sink.as_ref().map(ToString::to_string),
            end: self.end.as_ref().map(end),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: TaskV1 = decode_only_form::<Self, _>(version, value)?;
        let end = |e: TaskEndForm| TaskEnd {
            finished_at: e.finished_at,
            duration_ms: e.duration_ms,
            outcome: match e.outcome {
                OutcomeForm::Result(text) => Ok(text),
                OutcomeForm::Error(text) => Err(text),
            },
            warnings: e.warnings,
        };
        Ok(Self {
            project: ProjectId(form.project),
            id: form.id,
            kind: form.kind,
            created_at: form.created_at,
            node: form.node,
            source: decode_part::<Self, _, _>(form.source.parse())?,
            sink: form.sink.map(SinkId::from_raw),
            end: form.end.map(end),
        })
    }
}
