//! Tokens of the management API that the store keeps. Only hashes are here; who has the store can't
//! call the API with it.

use std::time::Duration;

use forebay_model::{AuditStamp, BranchId, CountLimit, ProjectId, Timestamp};

use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::{ListPage, Repo, TxnAttempts, TxnBuilder, Versioned};
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

/// What is decided for a project by its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectEntry {
    /// The branch that `default` means in addresses.
    pub branch: BranchId,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRole {
    /// Look, and test mappings.
    Reader,
    /// Change things too.
    Admin,
}

/// Characters of an owner's id or name.
pub const OWNER_CHARS_MAX: usize = 256;

/// The owner of a token: a person or a program, as others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenOwner {
    /// For programs.
    pub id: Option<String>,
    /// For people.
    pub name: Option<String>,
}

impl TokenOwner {
    /// What changes by the token say of who made them: without an owner's id, the token's.
    #[must_use]
    pub fn user_id(&self, token: &str) -> String {
        self.id.clone().unwrap_or_else(|| token.to_owned())
    }

    /// The owner's name. Without any owner, what the token is described by stands for it.
    #[must_use]
    pub fn user_name(&self, description: &str) -> Option<String> {
        let described = || self.id.is_none() && !description.is_empty();
        let name = self.name.clone();
        name.or_else(|| described().then(|| description.to_owned()))
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementToken {
    /// `<project>-<characters>`, as it is shown; not secret.
    pub id: String,
    /// The project that it opens.
    pub project: ProjectId,
    /// The branch that `default` means in addresses.
    pub branch: BranchId,
    /// What it may do.
    pub role: TokenRole,
    /// For people.
    pub description: String,
    /// The owner.
    pub owner: TokenOwner,
    /// Made when, by whom.
    pub created: AuditStamp,
    /// From then on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// What it is compared with: the present one, and after a rotation for a while the one before.
    pub secrets: Vec<TokenSecret>,
}

/// The hash of a token's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSecret {
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// From then on it opens nothing; set when another one was made.
    pub valid_until: Option<Timestamp>,
}

impl ManagementToken {
    /// It has not expired.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

impl TokenSecret {
    /// It still opens what its token opens.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|at| now < at)
    }
}

/// Why a token was not changed or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none of that id.
    #[error("token \"{0}\" not found")]
    NotFound(String),
    /// There is one of that id already.
    #[error("token \"{0}\" already exists")]
    Exists(String),
    /// The project has another default branch.
    #[error("the default branch of project {project} is {branch}")]
    OtherBranch {
        /// Which project.
        project: ProjectId,
        /// Its default branch.
        branch: BranchId,
    },
    /// The project has as many as it may have.
    #[error("token count limit reached in the project, the maximum is {}. The setting {} raises it", .0.max, .0.setting)]
    LimitReached(CountLimit),
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Repo {
    /// Keeps a new token. Each creation writes the project, so two at the same time see each other:
    /// never more than there may be, and all of one default branch.
    ///
    /// # Errors
    /// [`TokenError::Exists`], [`TokenError::OtherBranch`], [`TokenError::LimitReached`], or the
    /// store.
    pub async fn create_token(&self, token: &ManagementToken) -> Result<(), TokenError> {
        let (project, key) = (token.project, StoreKey::Token(token.project, &token.id));
        let mut attempts = TxnAttempts::default();
        loop {
            let read: Option<Versioned<ProjectEntry>> =
                self.read(StoreKey::Project(project)).await?;
            let branch = match &read {
                Some(known) => Some(known.branch),
                None => self.project_branch(project).await?,
            };
            if let Some(branch) = branch.filter(|branch| *branch != token.branch) {
                return Err(TokenError::OtherBranch { project, branch });
            }
            let siblings = self.count(&keys::below(keys::TOKENS, &project)).await?;
            let bound = CountLimit::new(self.limits.tokens_per_project, "limits.tokensPerProject");
            if siblings >= bound.max {
                return Err(TokenError::LimitReached(bound));
            }
            if self.read::<ManagementToken>(key).await?.is_some() {
                return Err(TokenError::Exists(token.id.clone()));
            }
            let mut builder = TxnBuilder::default();
            builder.expect_as_read(StoreKey::Project(project), read.as_ref());
            let branch = token.branch;
            builder.put(StoreKey::Project(project), &ProjectEntry { branch })?;
            builder.expect_absent(key);
            builder.put(key, token)?;
            builder.put_audit(&token_event(token, AuditAction::Create, &token.created))?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
    }

    /// The default branch of a project, if it was used already or a token says which it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn project_branch(&self, project: ProjectId) -> Result<Option<BranchId>, StoreError> {
        if let Some(branch) = self.default_branch(project).await? {
            return Ok(Some(branch));
        }
        let first = self.tokens(project, "", 1).await?;
        Ok(first.items.first().map(|t| t.branch))
    }

    /// A token of a project, expired ones included.
    ///
    /// # Errors
    /// [`TokenError::NotFound`], or the store.
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

    /// Tokens of a project after the id `after`, sorted by id.
    ///
    /// # Errors
    /// The store's.
    pub async fn tokens(
        &self,
        project: ProjectId,
        after: &str,
        limit: usize,
    ) -> Result<ListPage<ManagementToken>, StoreError> {
        let prefix = keys::below(keys::TOKENS, &project);
        self.list(&prefix, after, limit).await
    }

    /// Gives a token another text, of which `sha256` is the hash. The one before goes on to work for
    /// `overlap`; any earlier one ends at once.
    ///
    /// # Errors
    /// [`TokenError::NotFound`], or the store.
    pub async fn rotate_token(
        &self,
        project: ProjectId,
        id: &str,
        sha256: &str,
        overlap: Duration,
        stamp: &AuditStamp,
    ) -> Result<ManagementToken, TokenError> {
        let mut attempts = TxnAttempts::default();
        loop {
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
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::Token(project, id), &read);
            builder.put(StoreKey::Token(project, id), &token)?;
            let change = token_event(&token, AuditAction::Rotate, stamp);
            self.add_unversioned_audit(&mut builder, change).await?;
            if self.commit(builder).await?.is_some() {
                return Ok(token);
            }
            attempts.retry().await?;
        }
    }

    /// Forgets a token: from now on it opens nothing.
    ///
    /// # Errors
    /// [`TokenError::NotFound`], or the store.
    pub async fn revoke_token(
        &self,
        project: ProjectId,
        id: &str,
        stamp: &AuditStamp,
    ) -> Result<(), TokenError> {
        let mut attempts = TxnAttempts::default();
        loop {
            let read = self.token(project, id).await?;
            let mut builder = TxnBuilder::default();
            builder.expect_unchanged(StoreKey::Token(project, id), &read);
            builder.delete(StoreKey::Token(project, id));
            builder.put_audit(&token_event(&read, AuditAction::Delete, stamp))?;
            if self.commit(builder).await?.is_some() {
                return Ok(());
            }
            attempts.retry().await?;
        }
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
