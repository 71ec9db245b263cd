//! Tokens and the audit log.

use forebay_meta::catalog::audit::{AuditEvent, AuditSubject};
use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::{ActorView, AuditStampView, PageInfo};
use crate::auth::CallerIdentity;

/// Role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenRole)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenRoleView {
    /// Reads and tests of mappings.
    Reader,
    /// Reads and changes.
    Admin,
}

/// A new token.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateTokenRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenCreate {
    /// Project of the token; only an operator's token may set another project than its own.
    #[schema(nullable = false)]
    pub(crate) project_id: Option<u64>,
    /// Default branch of the project, if the project is new.
    #[schema(nullable = false)]
    pub(crate) branch_id: Option<u64>,
    pub(crate) role: TokenRoleView,
    /// Free text; shown as the author of changes.
    #[schema(max_length = 256, nullable = false)]
    pub(crate) description: Option<String>,
    /// Id of the owner, shown as `userId` of changes. Default: the token's id.
    #[schema(
        min_length = 1,
        max_length = 256,
        nullable = false,
        example = "ada@example.com"
    )]
    pub(crate) owner_id: Option<String>,
    /// Name of the owner, shown as `userName` of changes. Default: the description, unless
    /// `ownerId` is set.
    #[schema(min_length = 1, max_length = 256, nullable = false, example = "Ada")]
    pub(crate) owner_name: Option<String>,
    /// Expiry: a time, a day (in UTC), or a duration from now like `30d` or `12h`. By default the
    /// token does not expire.
    #[schema(
        max_length = 64,
        nullable = false,
        example = "2027-01-01T00:00:00.000Z"
    )]
    pub(crate) expires_at: Option<String>,
}

/// Rotation of a token's text.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RotateTokenRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRotate {
    /// How long the previous text stays valid, like `1h`. By default it is invalid at once.
    #[schema(max_length = 32, nullable = false, example = "1h")]
    pub(crate) overlap: Option<String>,
}

/// A token, without its text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenView {
    token_id: String,
    project_id: u64,
    branch_id: u64,
    role: TokenRoleView,
    description: String,
    /// Id of the owner; `userId` of changes.
    owner_id: String,
    /// Name of the owner; `userName` of changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    owner_name: Option<String>,
    created: AuditStampView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    expires_at: Option<Timestamp>,
    /// When the current text was created.
    #[schema(value_type = String, format = DateTime)]
    rotated_at: Timestamp,
    /// End of the validity of the previous text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    previous_valid_until: Option<Timestamp>,
}

impl TokenView {
    pub(crate) fn new(token: &forebay_meta::catalog::tokens::ManagementToken) -> Self {
        use forebay_meta::catalog::tokens::TokenRole as R;
        let present = token.secrets.last();
        Self {
            token_id: token.id.clone(),
            project_id: token.project.0,
            branch_id: token.branch.0,
            role: match token.role {
                R::Reader => TokenRoleView::Reader,
                R::Admin => TokenRoleView::Admin,
            },
            description: token.description.clone(),
            owner_id: token.owner.user_id(&token.id),
            owner_name: token.owner.user_name(&token.description),
            created: (&token.created).into(),
            expires_at: token.expires_at,
            rotated_at: present.map_or(token.created.at, |s| s.made_at),
            previous_valid_until: token.secrets.iter().find_map(|s| s.valid_until),
        }
    }
}

/// A token with its text, which is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// Value of the header `X-StorageApi-Token`.
    #[serde(rename = "token")]
    pub(crate) text: String,
    #[serde(flatten)]
    pub(crate) token: TokenView,
}

/// A page of tokens of a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    pub(crate) page: PageInfo,
    pub(crate) tokens: Vec<TokenView>,
    /// Tokens of the project from the configuration, on every page.
    pub(crate) configured: Vec<ConfiguredToken>,
}

/// A token of the configuration: the server's own, or one of `api.tokens`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfiguredToken {
    token_id: String,
    project_id: u64,
    branch_id: u64,
    role: TokenRoleView,
    /// May administer all projects of the server.
    operator: bool,
    description: String,
    owner_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    owner_name: Option<String>,
}

impl ConfiguredToken {
    pub(crate) fn new(who: &CallerIdentity) -> Self {
        Self {
            token_id: who.token_id.clone(),
            project_id: who.project.0,
            branch_id: who.default_branch.0,
            role: if who.admin {
                TokenRoleView::Admin
            } else {
                TokenRoleView::Reader
            },
            operator: who.operator,
            description: who.description.clone(),
            owner_id: who.owner.user_id(&who.token_id),
            owner_name: who.owner.user_name(&who.description),
        }
    }
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(crate) struct AuditList {
    pub(crate) page: PageInfo,
    pub(crate) changes: Vec<AuditEntry>,
}

/// A change of a source, sink, token or quota, or a rejected request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditEntry {
    /// Sorted by time.
    id: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    by: ActorView,
    /// Address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from: Option<String>,
    /// Like `create`; `refuse` for a rejected request.
    action: &'static str,
    project_id: u64,
    /// Branch of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    branch_id: Option<u64>,
    /// Id of a source, or of a sink's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    source_id: Option<String>,
    /// Id of a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sink_id: Option<String>,
    /// Id of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_id: Option<String>,
    /// Id of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "in.c-bucket.table")]
    table_id: Option<String>,
    /// Method and path of a rejected request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "POST /v1/admin/tokens")]
    request: Option<String>,
    /// Description of the new version or the token; reason of a rejection.
    description: String,
    /// Previous version of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    old_version: Option<u32>,
    /// New version of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    new_version: Option<u32>,
}

impl AuditEntry {
    pub(crate) fn new(change: &AuditEvent) -> Self {
        let source = match &change.what {
            AuditSubject::Source(key) => Some(key),
            AuditSubject::Sink(key) => Some(&key.source),
            AuditSubject::Token(_)
            | AuditSubject::Quota
            | AuditSubject::Table { .. }
            | AuditSubject::Request(_) => None,
        };
        Self {
            id: change.id(),
            at: change.stamp.at,
            by: (&change.stamp.by).into(),
            from: change.stamp.by.from.clone(),
            action: change.action.name(),
            project_id: change.project.0,
            branch_id: source.map(|s| s.branch.branch.0),
            source_id: source.map(|s| s.source.to_string()),
            sink_id: match &change.what {
                AuditSubject::Sink(key) => Some(key.sink.to_string()),
                _ => None,
            },
            token_id: match &change.what {
                AuditSubject::Token(id) => Some(id.clone()),
                _ => None,
            },
            table_id: match &change.what {
                AuditSubject::Table { table, .. } => Some(table.to_string()),
                _ => None,
            },
            request: match &change.what {
                AuditSubject::Request(request) => Some(request.clone()),
                _ => None,
            },
            description: change.description.clone(),
            old_version: change.old_version,
            new_version: change.new_version,
        }
    }
}
