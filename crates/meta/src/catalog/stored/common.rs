//! Parts that several forms share.

use std::collections::BTreeMap;

use forebay_model::settings::SettingRegistry;
use forebay_model::{
    Actor, ActorKind, AuditStamp, DefinitionVersion, DeletionInfo, DisableInfo, PauseInfo,
    RetryState, SinkSettings, Statistics, Timestamp,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorForm {
    pub kind: ActorKindForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_desc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActorKindForm {
    User,
    System,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditStampForm {
    pub at: Timestamp,
    pub by: ActorForm,
}

impl From<&AuditStamp> for AuditStampForm {
    fn from(stamp: &AuditStamp) -> Self {
        let by = &stamp.by;
        Self {
            at: stamp.at,
            by: ActorForm {
                kind: match by.kind {
                    ActorKind::User => ActorKindForm::User,
                    ActorKind::System => ActorKindForm::System,
                },
                token_id: by.token_id.clone(),
                token_desc: by.token_desc.clone(),
                user_id: by.user_id.clone(),
                user_name: by.user_name.clone(),
            },
        }
    }
}

impl From<AuditStampForm> for AuditStamp {
    fn from(form: AuditStampForm) -> Self {
        let by = form.by;
        Self {
            at: form.at,
            by: Actor {
                kind: match by.kind {
                    ActorKindForm::User => ActorKind::User,
                    ActorKindForm::System => ActorKind::System,
                },
                token_id: by.token_id,
                token_desc: by.token_desc,
                user_id: by.user_id,
                user_name: by.user_name,
                from: None,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedForm {
    #[serde(flatten)]
    pub stamp: AuditStampForm,
    pub with_parent: bool,
}

impl From<&DeletionInfo> for DeletedForm {
    fn from(deleted: &DeletionInfo) -> Self {
        Self {
            stamp: (&deleted.stamp).into(),
            with_parent: deleted.with_parent,
        }
    }
}

impl From<DeletedForm> for DeletionInfo {
    fn from(form: DeletedForm) -> Self {
        Self {
            stamp: form.stamp.into(),
            with_parent: form.with_parent,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DisabledForm {
    #[serde(flatten)]
    pub stamp: AuditStampForm,
    pub reason: String,
    pub with_parent: bool,
}

impl From<&DisableInfo> for DisabledForm {
    fn from(disabled: &DisableInfo) -> Self {
        Self {
            stamp: (&disabled.stamp).into(),
            reason: disabled.reason.clone(),
            with_parent: disabled.with_parent,
        }
    }
}

impl From<DisabledForm> for DisableInfo {
    fn from(form: DisabledForm) -> Self {
        Self {
            stamp: form.stamp.into(),
            reason: form.reason,
            with_parent: form.with_parent,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PausedForm {
    #[serde(flatten)]
    pub stamp: AuditStampForm,
    pub reason: String,
}

impl From<&PauseInfo> for PausedForm {
    fn from(paused: &PauseInfo) -> Self {
        Self {
            stamp: (&paused.stamp).into(),
            reason: paused.reason.clone(),
        }
    }
}

impl From<PausedForm> for PauseInfo {
    fn from(form: PausedForm) -> Self {
        Self {
            stamp: form.stamp.into(),
            reason: form.reason,
        }
    }
}

/// Number and history of a version, without its content.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinitionVersionForm {
    pub number: u32,
    pub hash: String,
    pub description: String,
    #[serde(flatten)]
    pub stamp: AuditStampForm,
}

impl From<&DefinitionVersion> for DefinitionVersionForm {
    fn from(version: &DefinitionVersion) -> Self {
        Self {
            number: version.number,
            hash: version.hash.clone(),
            description: version.description.clone(),
            stamp: (&version.stamp).into(),
        }
    }
}

impl From<DefinitionVersionForm> for DefinitionVersion {
    fn from(form: DefinitionVersionForm) -> Self {
        Self {
            number: form.number,
            hash: form.hash,
            description: form.description,
            stamp: form.stamp.into(),
        }
    }
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryForm {
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Timestamp>,
    pub parked: bool,
}

impl RetryForm {
    /// Whether there were no failures.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&RetryState> for RetryForm {
    fn from(retry: &RetryState) -> Self {
        Self {
            attempt: retry.attempt,
            reason: retry.reason.clone(),
            first_failed_at: retry.first_failed_at,
            last_failed_at: retry.last_failed_at,
            retry_after: retry.retry_after,
            parked: retry.parked,
        }
    }
}

impl From<RetryForm> for RetryState {
    fn from(form: RetryForm) -> Self {
        Self {
            attempt: form.attempt,
            reason: form.reason,
            first_failed_at: form.first_failed_at,
            last_failed_at: form.last_failed_at,
            retry_after: form.retry_after,
            parked: form.parked,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatisticsForm {
    pub records: u64,
    pub uncompressed_bytes: u64,
    pub compressed_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_record_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_record_at: Option<Timestamp>,
    pub lost_records: u64,
}

impl From<&Statistics> for StatisticsForm {
    fn from(s: &Statistics) -> Self {
        Self {
            records: s.records,
            uncompressed_bytes: s.uncompressed_bytes,
            compressed_bytes: s.compressed_bytes,
            first_record_at: s.first_record_at,
            last_record_at: s.last_record_at,
            lost_records: s.lost_records,
        }
    }
}

impl From<StatisticsForm> for Statistics {
    fn from(form: StatisticsForm) -> Self {
        Self {
            records: form.records,
            uncompressed_bytes: form.uncompressed_bytes,
            compressed_bytes: form.compressed_bytes,
            first_record_at: form.first_record_at,
            last_record_at: form.last_record_at,
            lost_records: form.lost_records,
        }
    }
}

/// All settings by their names in the API. A missing setting has the program's default, so that
/// adding a setting needs no new version.
pub type SettingsForm = BTreeMap<String, serde_json::Value>;

/// Converts the settings of a sink to their stored form.
pub(crate) fn settings_form(settings: &SinkSettings) -> SettingsForm {
    SettingRegistry::sink_settings()
        .map(|s| (s.key.to_owned(), settings.value(s)))
        .collect()
}

/// Converts stored settings.
pub fn settings(form: &SettingsForm) -> SinkSettings {
    SinkSettings::default().with(form)
}
