//! Tokens of the management API. The store has only hashes, which can't be used to call the API.

use std::time::Duration;

use forebay_model::{AuditStamp, BranchId, CountLimit, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};

use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::{ListPage, Repo, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// Properties that a project's first token settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectEntry {
    /// The branch that `default` refers to in URLs.
    pub branch: BranchId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TokenRole {
    /// May read, and test mappings.
    Reader,
    /// May change everything too.
    Admin,
}

/// Maximum characters of an owner's id or name.
pub const OWNER_CHARS_MAX: usize = 256;

/// Owner of a token: a person or a program, as external systems know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenOwner {
    /// For programs.
    #[serde(default, rename = "ownerId", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people.
    #[serde(default, rename = "ownerName", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl TokenOwner {
    /// User id in the audit of changes with this token: the owner's id, or else the token's.
    pub fn user_id(&self, token: &str) -> String {
        self.id.clone().unwrap_or_else(|| token.to_owned())
    }

    /// The owner's name, or the token's description if it has no owner.
    pub fn user_name(&self, description: &str) -> Option<String> {
        let described = || self.id.is_none() && !description.is_empty();
        let name = self.name.clone();
        name.or_else(|| described().then(|| description.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagementToken {
    /// `<project>-<characters>`, as it is shown; not secret.
    pub id: String,
    /// The project that it gives access to.
    pub project: ProjectId,
    /// The branch that `default` refers to in URLs.
    pub branch: BranchId,
    pub role: TokenRole,
    pub description: String,
    #[serde(flatten)]
    pub owner: TokenOwner,
    pub created: AuditStamp,
    /// Expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The present secret, and for a while after a rotation the previous one.
    pub secrets: Vec<TokenSecret>,
}

/// Hash of a token's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecret {
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Creation time.
    pub made_at: Timestamp,
    /// Expiry; set by a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

impl ManagementToken {
    /// Whether the token has not expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

impl TokenSecret {
    /// Whether the secret has not expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|at| now < at)
    }
}

/// Error of finding or changing a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("token \"{0}\" not found")]
    NotFound(String),
    /// The id is in use.
    #[error("token \"{0}\" already exists")]
    Exists(String),
    /// The project has another default branch.
    #[error("the default branch of project {project} is {branch}")]
    OtherBranch {
        project: ProjectId,
        branch: BranchId,
    },
    /// The project has the maximum number of tokens.
    #[error("token count limit reached in the project, the maximum is {}. The setting {} raises it", .0.max, .0.setting)]
    LimitReached(CountLimit),
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Repo {
    /// Stores a new token. Each creation writes the project, so concurrent ones conflict: the limit
    /// is enforced, and all tokens have one default branch.
    pub async fn create_token(&self, token: &ManagementToken) -> Result<(), TokenError> {
        let (project, key) = (token.project, StoreKey::Token(token.project, &token.id));
        self.transact(|txn| {
            Box::pin(async move {
                let read: Option<Versioned<ProjectEntry>> =
                    txn.read(StoreKey::Project(project)).await?;
                let branch = match &read {
                    Some(known) => Some(known.branch),
                    None => self.project_branch(project).await?,
                };
                if let Some(branch) = branch.filter(|branch| *branch != token.branch) {
                    return Err(TokenError::OtherBranch { project, branch });
                }
                let siblings = self.count(&keys::below(keys::TOKENS, &project)).await?;
                let bound =
                    CountLimit::new(self.limits.tokens_per_project, "limits.tokensPerProject");
                if siblings >= bound.max {
                    return Err(TokenError::LimitReached(bound));
                }
                if txn.read::<ManagementToken>(key).await?.is_some() {
                    return Err(TokenError::Exists(token.id.clone()));
                }
                let branch = token.branch;
                txn.put(StoreKey::Project(project), &ProjectEntry { branch })?;
                txn.put(key, token)?;
                txn.put_audit(&token_event(token, AuditAction::Create, &token.created))?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Returns the default branch of a project, from its definitions or a token.
    pub async fn project_branch(&self, project: ProjectId) -> Result<Option<BranchId>, StoreError> {
        if let Some(branch) = self.default_branch(project).await? {
            return Ok(Some(branch));
        }
        let first = self.tokens(project, "", 1).await?;
        Ok(first.items.first().map(|t| t.branch))
    }

    /// Reads a token of a project, expired ones included.
    pub async fn token(
        &self,
        project: ProjectId,
        id: &str,
    ) -> Result<Versioned<ManagementToken>, TokenError> {
        if id.contains('/') {
            return Err(TokenError::NotFound(id.to_owned()));
        }
        let found = self.read(StoreKey::Token(project, id)).await?;
        found.ok_or_else(|| TokenError::NotFound(id.to_owned()))
    }

    /// Lists the tokens of a project after the id `after`, sorted by id.
    pub async fn tokens(
        &self,
        project: ProjectId,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<ManagementToken>, StoreError> {
        let prefix = keys::below(keys::TOKENS, &project);
        self.list(&prefix, after, limit).await
    }

    /// Replaces the secret of a token by one with the hash `sha256`. The previous secret stays
    /// valid for `overlap`; any earlier one ends immediately.
    pub async fn rotate_token(
        &self,
        project: ProjectId,
        id: &str,
        sha256: &str,
        overlap: Duration,
        stamp: &AuditStamp,
    ) -> Result<ManagementToken, TokenError> {
        self.transact(|txn| {
            Box::pin(async move {
                let read = self.token(project, id).await?;
                let mut token = read.value.clone();
                let before = token.secrets.pop().map(|secret| TokenSecret {
                    valid_until: Some(stamp.at.plus(overlap)),
                    ..secret
                });
                token.secrets.clear();
                token
                    .secrets
                    .extend(before.filter(|s| s.is_valid(stamp.at)));
                token.secrets.push(TokenSecret {
                    sha256: sha256.to_owned(),
                    made_at: stamp.at,
                    valid_until: None,
                });
                txn.expect_unchanged(StoreKey::Token(project, id), &read);
                txn.put(StoreKey::Token(project, id), &token)?;
                let change = token_event(&token, AuditAction::Rotate, stamp);
                self.add_unversioned_audit(txn, change).await?;
                Ok(token)
            })
        })
        .await
        .map(|done| done.value)
    }

    /// Revokes a token, effective immediately.
    pub async fn revoke_token(
        &self,
        project: ProjectId,
        id: &str,
        stamp: &AuditStamp,
    ) -> Result<(), TokenError> {
        self.transact(|txn| {
            Box::pin(async move {
                let read = self.token(project, id).await?;
                txn.expect_unchanged(StoreKey::Token(project, id), &read);
                txn.delete(StoreKey::Token(project, id));
                txn.put_audit(&token_event(&read, AuditAction::Delete, stamp))?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }
}

fn token_event(token: &ManagementToken, action: AuditAction, stamp: &AuditStamp) -> AuditEvent {
    AuditEvent {
        project: token.project,
        what: AuditSubject::Token(token.id.clone()),
        action,
        description: token.description.clone(),
        old_version: None,
        new_version: None,
        stamp: stamp.clone(),
    }
}
