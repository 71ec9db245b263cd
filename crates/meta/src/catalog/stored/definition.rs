//! Branches, sources, sinks and their versions.

use forebay_model::{DefinitionVersion, SettingsPatch, Sink, SinkTarget, Source, SourceKind};
use serde::{Deserialize, Serialize};

use super::common::{AuditStampForm, DefinitionVersionForm, DeletedForm, DisabledForm, PausedForm};
use super::table::TableForm;
use super::topic::TopicForm;
use super::{Stored, StoredError, decode_only_form, decode_part};
use crate::catalog::definitions::{BranchDefinition, SinkContent, SourceContent};

/// The part of a source that a user can change.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceContentForm {
    #[serde(flatten)]
    pub kind: SourceKindForm,
    pub name: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "SettingsPatch::is_empty")]
    pub settings: SettingsPatch,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum SourceKindForm {
    Http { secret: String },
}

impl From<&SourceContent> for SourceContentForm {
    fn from(content: &SourceContent) -> Self {
        let SourceKind::Http { secret } = &content.kind;
        Self {
            kind: SourceKindForm::Http {
                secret: secret.clone(),
            },
            name: content.name.clone(),
            description: content.description.clone(),
            settings: content.settings.clone(),
        }
    }
}

impl From<SourceContentForm> for SourceContent {
    fn from(form: SourceContentForm) -> Self {
        let SourceKindForm::Http { secret } = form.kind;
        Self {
            kind: SourceKind::Http { secret },
            name: form.name,
            description: form.description,
            settings: form.settings,
        }
    }
}

/// The part of a sink that a user can change.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkContentForm {
    pub name: String,
    pub description: String,
    /// Either a table or a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicForm>,
    #[serde(default, skip_serializing_if = "SettingsPatch::is_empty")]
    pub settings: SettingsPatch,
}

impl From<&SinkContent> for SinkContentForm {
    fn from(content: &SinkContent) -> Self {
        Self {
            name: content.name.clone(),
            description: content.description.clone(),
            table: content.target.table().map(Into::into),
            topic: content.target.topic().map(Into::into),
            settings: content.settings.clone(),
        }
    }
}

impl TryFrom<SinkContentForm> for SinkContent {
    type Error = String;

    fn try_from(form: SinkContentForm) -> Result<Self, String> {
        let target = match (form.table, form.topic) {
            (Some(table), None) => SinkTarget::Table(table.try_into()?),
            (None, Some(topic)) => SinkTarget::Topic(topic.try_into()?),
            _ => return Err("a sink has a table or a topic".to_owned()),
        };
        Ok(Self {
            name: form.name,
            description: form.description,
            target,
            settings: form.settings,
        })
    }
}

/// A definition: key, content and metadata.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionV1<C> {
    pub key: String,
    pub content: C,
    pub version: DefinitionVersionForm,
    pub created: AuditStampForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletedForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<DisabledForm>,
    /// Only of sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<PausedForm>,
}

impl Stored for Source {
    const WHAT: &'static str = "source";
    const VERSION: u32 = 1;
    type Form = DefinitionV1<SourceContentForm>;

    fn to_form(&self) -> Self::Form {
        DefinitionV1 {
            key: self.key.to_string(),
            content: (&SourceContent::from_source(self)).into(),
            version: (&self.version).into(),
            created: (&self.created).into(),
            deleted: self.deleted.as_ref().map(Into::into),
            disabled: self.disabled.as_ref().map(Into::into),
            paused: None,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: Self::Form = decode_only_form::<Self, _>(version, value)?;
        let content = SourceContent::from(form.content);
        Ok(Self {
            key: decode_part::<Self, _, _>(form.key.parse())?,
            kind: content.kind,
            name: content.name,
            description: content.description,
            settings: content.settings,
            version: form.version.into(),
            created: form.created.into(),
            deleted: form.deleted.map(Into::into),
            disabled: form.disabled.map(Into::into),
        })
    }
}

impl Stored for Sink {
    const WHAT: &'static str = "sink";
    const VERSION: u32 = 1;
    type Form = DefinitionV1<SinkContentForm>;

    fn to_form(&self) -> Self::Form {
        DefinitionV1 {
            key: self.key.to_string(),
            content: (&SinkContent::from_sink(self)).into(),
            version: (&self.version).into(),
            created: (&self.created).into(),
            deleted: self.deleted.as_ref().map(Into::into),
            disabled: self.disabled.as_ref().map(Into::into),
            paused: self.paused.as_ref().map(Into::into),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: Self::Form = decode_only_form::<Self, _>(version, value)?;
        let content = decode_part::<Self, _, _>(SinkContent::try_from(form.content))?;
        Ok(Self {
            key: decode_part::<Self, _, _>(form.key.parse())?,
            name: content.name,
            description: content.description,
            target: content.target,
            settings: content.settings,
            version: form.version.into(),
            created: form.created.into(),
            deleted: form.deleted.map(Into::into),
            disabled: form.disabled.map(Into::into),
            paused: form.paused.map(Into::into),
        })
    }
}

/// A version with its content, for a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion<C> {
    pub version: DefinitionVersion,
    pub content: C,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredVersionV1<C> {
    pub version: DefinitionVersionForm,
    pub content: C,
}

impl Stored for StoredVersion<SourceContent> {
    const WHAT: &'static str = "source version";
    const VERSION: u32 = 1;
    type Form = StoredVersionV1<SourceContentForm>;

    fn to_form(&self) -> Self::Form {
        StoredVersionV1 {
            version: (&self.version).into(),
            content: (&self.content).into(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: Self::Form = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            version: form.version.into(),
            content: form.content.into(),
        })
    }
}

impl Stored for StoredVersion<SinkContent> {
    const WHAT: &'static str = "sink version";
    const VERSION: u32 = 1;
    type Form = StoredVersionV1<SinkContentForm>;

    fn to_form(&self) -> Self::Form {
        StoredVersionV1 {
            version: (&self.version).into(),
            content: (&self.content).into(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: Self::Form = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            version: form.version.into(),
            content: decode_part::<Self, _, _>(form.content.try_into())?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BranchV1 {
    pub project: u64,
    pub branch: u64,
    pub is_default: bool,
    pub created: AuditStampForm,
}

impl Stored for BranchDefinition {
    const WHAT: &'static str = "branch";
    const VERSION: u32 = 1;
    type Form = BranchV1;

    fn to_form(&self) -> Self::Form {
        BranchV1 {
            project: self.key.project.0,
            branch: self.key.branch.0,
            is_default: self.is_default,
            created: (&self.created).into(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: BranchV1 = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            key: forebay_model::BranchKey {
                project: forebay_model::ProjectId(form.project),
                branch: forebay_model::BranchId(form.branch),
            },
            is_default: form.is_default,
            created: form.created.into(),
        })
    }
}
