//! Tokens of the management API, projects with tokens, and audit entries.

use forebay_model::{BranchId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::AuditStampForm;
use super::{Stored, StoredError, decode_only_form, decode_part};
use crate::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use crate::catalog::tokens::{ManagementToken, ProjectEntry, TokenOwner, TokenRole, TokenSecret};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectV1 {
    pub branch: u64,
}

impl Stored for ProjectEntry {
    const WHAT: &'static str = "project";
    const VERSION: u32 = 1;
    type Form = ProjectV1;

    fn to_form(&self) -> ProjectV1 {
        ProjectV1 {
            branch: self.branch.0,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: ProjectV1 = decode_only_form::<Self, _>(version, value)?;
        Ok(Self {
            branch: BranchId(form.branch),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenV1 {
    pub id: String,
    pub project: u64,
    pub branch: u64,
    pub role: RoleForm,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_name: Option<String>,
    pub created: AuditStampForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub secrets: Vec<TokenSecretForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RoleForm {
    Reader,
    Admin,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecretForm {
    pub sha256: String,
    pub made_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

impl Stored for ManagementToken {
    const WHAT: &'static str = "token";
    const VERSION: u32 = 1;
    type Form = TokenV1;

    fn to_form(&self) -> TokenV1 {
        let secret = |s: &TokenSecret| TokenSecretForm {
            sha256: s.sha256.clone(),
            made_at: s.made_at,
            valid_until: s.valid_until,
        };
        TokenV1 {
            id: self.id.clone(),
            project: self.project.0,
            branch: self.branch.0,
            role: match self.role {
                TokenRole::Reader => RoleForm::Reader,
                TokenRole::Admin => RoleForm::Admin,
            },
            description: self.description.clone(),
            owner_id: self.owner.id.clone(),
            owner_name: self.owner.name.clone(),
            created: (&self.created).into(),
            expires_at: self.expires_at,
            secrets: self.secrets.iter().map(secret).collect(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: TokenV1 = decode_only_form::<Self, _>(version, value)?;
        let secret = |s: TokenSecretForm| TokenSecret {
            sha256: s.sha256,
            made_at: s.made_at,
            valid_until: s.valid_until,
        };
        Ok(Self {
            id: form.id,
            project: ProjectId(form.project),
            branch: BranchId(form.branch),
            role: match form.role {
                RoleForm::Reader => TokenRole::Reader,
                RoleForm::Admin => TokenRole::Admin,
            },
            description: form.description,
            owner: TokenOwner {
                id: form.owner_id,
                name: form.owner_name,
            },
            created: form.created.into(),
            expires_at: form.expires_at,
            secrets: form.secrets.into_iter().map(secret).collect(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEventV1 {
    pub project: u64,
    pub what: AuditSubjectForm,
    pub action: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_version: Option<u32>,
    #[serde(flatten)]
    pub stamp: AuditStampForm,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Subject of a change: its key or id.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuditSubjectForm {
    Source(String),
    Sink(String),
    Token(String),
    Quota,
    Table { backend: String, table: String },
    Request(String),
}

impl Stored for AuditEvent {
    const WHAT: &'static str = "change";
    const VERSION: u32 = 1;
    type Form = AuditEventV1;

    fn to_form(&self) -> AuditEventV1 {
        AuditEventV1 {
            project: self.project.0,
            what: match &self.what {
                AuditSubject::Source(key) => AuditSubjectForm::Source(key.to_string()),
                AuditSubject::Sink(key) => AuditSubjectForm::Sink(key.to_string()),
                AuditSubject::Token(id) => AuditSubjectForm::Token(id.clone()),
                AuditSubject::Quota => AuditSubjectForm::Quota,
                AuditSubject::Table(backend, table) => AuditSubjectForm::Table {
                    backend: backend.name().to_owned(),
                    table: table.to_string(),
                },
                AuditSubject::Request(request) => AuditSubjectForm::Request(request.clone()),
            },
            action: self.action.name().to_owned(),
            description: self.description.clone(),
            old_version: self.old_version,
            new_version: self.new_version,
            stamp: (&self.stamp).into(),
            from: self.stamp.by.from.clone(),
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: AuditEventV1 = decode_only_form::<Self, _>(version, value)?;
        let mut stamp: forebay_model::AuditStamp = form.stamp.into();
        stamp.by.from = form.from;
        let action = AuditAction::from_name(&form.action);
        let action = action.ok_or_else(|| format!("unknown action {}", form.action));
        Ok(Self {
            project: ProjectId(form.project),
            what: match form.what {
                AuditSubjectForm::Source(key) => {
                    AuditSubject::Source(decode_part::<Self, _, _>(key.parse())?)
                }
                AuditSubjectForm::Sink(key) => {
                    AuditSubject::Sink(decode_part::<Self, _, _>(key.parse())?)
                }
                AuditSubjectForm::Token(id) => AuditSubject::Token(id),
                AuditSubjectForm::Quota => AuditSubject::Quota,
                AuditSubjectForm::Table { backend, table } => {
                    let known = super::table_entry::backend(&backend);
                    AuditSubject::Table(
                        decode_part::<Self, _, _>(known)?,
                        decode_part::<Self, _, _>(table.parse())?,
                    )
                }
                AuditSubjectForm::Request(request) => AuditSubject::Request(request),
            },
            action: decode_part::<Self, _, _>(action)?,
            description: form.description,
            old_version: form.old_version,
            new_version: form.new_version,
            stamp,
        })
    }
}
