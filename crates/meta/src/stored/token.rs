//! Tokens of the management API, projects that have some, and the audit of changes.

use forebay_model::{BranchId, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use super::common::StampForm;
use super::{Stored, StoredError, only_form, part};
use crate::repo::audit::{Action, Change, What};
use crate::repo::tokens::{Owner, Project, Role, Token, TokenSecret};

/// A project.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct ProjectV1 {
    pub branch: u64,
}

impl Stored for Project {
    const WHAT: &'static str = "project";
    const VERSION: u32 = 1;
    type Form = ProjectV1;

    fn to_form(&self) -> ProjectV1 {
        ProjectV1 {
            branch: self.branch.0,
        }
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: ProjectV1 = only_form::<Self, _>(version, value)?;
        Ok(Self {
            branch: BranchId(form.branch),
        })
    }
}

/// A token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
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
    pub created: StampForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub secrets: Vec<TokenSecretForm>,
}

/// What a token may do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub enum RoleForm {
    Reader,
    Admin,
}

/// The hash of a token's text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct TokenSecretForm {
    pub sha256: String,
    pub made_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

impl Stored for Token {
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
                Role::Reader => RoleForm::Reader,
                Role::Admin => RoleForm::Admin,
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
        let form: TokenV1 = only_form::<Self, _>(version, value)?;
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
                RoleForm::Reader => Role::Reader,
                RoleForm::Admin => Role::Admin,
            },
            description: form.description,
            owner: Owner {
                id: form.owner_id,
                name: form.owner_name,
            },
            created: form.created.into(),
            expires_at: form.expires_at,
            secrets: form.secrets.into_iter().map(secret).collect(),
        })
    }
}

/// A change.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub struct ChangeV1 {
    pub project: u64,
    pub what: WhatForm,
    pub action: String,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_version: Option<u32>,
    #[serde(flatten)]
    pub stamp: StampForm,
    /// Address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What was changed: its key, or its id.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the domain type")]
pub enum WhatForm {
    Source(String),
    Sink(String),
    Token(String),
    Quota,
    Table { backend: String, table: String },
    Request(String),
}

impl Stored for Change {
    const WHAT: &'static str = "change";
    const VERSION: u32 = 1;
    type Form = ChangeV1;

    fn to_form(&self) -> ChangeV1 {
        ChangeV1 {
            project: self.project.0,
            what: match &self.what {
                What::Source(key) => WhatForm::Source(key.to_string()),
                What::Sink(key) => WhatForm::Sink(key.to_string()),
                What::Token(id) => WhatForm::Token(id.clone()),
                What::Quota => WhatForm::Quota,
                What::Table(backend, table) => WhatForm::Table {
                    backend: backend.name().to_owned(),
                    table: table.to_string(),
                },
                What::Request(request) => WhatForm::Request(request.clone()),
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
        let form: ChangeV1 = only_form::<Self, _>(version, value)?;
        let mut stamp: forebay_model::Stamp = form.stamp.into();
        stamp.by.from = form.from;
        let action = Action::from_name(&form.action);
        let action = action.ok_or_else(|| format!("there is no action {}", form.action));
        Ok(Self {
            project: ProjectId(form.project),
            what: match form.what {
                WhatForm::Source(key) => What::Source(part::<Self, _, _>(key.parse())?),
                WhatForm::Sink(key) => What::Sink(part::<Self, _, _>(key.parse())?),
                WhatForm::Token(id) => What::Token(id),
                WhatForm::Quota => What::Quota,
                WhatForm::Table { backend, table } => {
                    let known = super::owner::backend(&backend);
                    What::Table(
                        part::<Self, _, _>(known)?,
                        part::<Self, _, _>(table.parse())?,
                    )
                }
                WhatForm::Request(request) => What::Request(request),
            },
            action: part::<Self, _, _>(action)?,
            description: form.description,
            old_version: form.old_version,
            new_version: form.new_version,
            stamp,
        })
    }
}
