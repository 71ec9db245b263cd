//! Tokens and the audit log.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{ActorView, AuditStampView, PageInfo};

/// Role of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenRole)]
#[serde(rename_all = "camelCase")]
pub enum TokenRoleView {
    /// Reads and tests of mappings.
    Reader,
    /// Reads and changes.
    Admin,
}

/// A new token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreateTokenRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct TokenCreate {
    /// Project of the token; only an operator's token may set another project than its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub project_id: Option<u64>,
    /// Default branch of the project, if the project is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub branch_id: Option<u64>,
    /// Role of the token.
    pub role: TokenRoleView,
    /// Free text; shown as the author of changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, nullable = false)]
    pub description: Option<String>,
    /// Id of the owner, shown as `userId` of changes. Default: the token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 256,
        nullable = false,
        example = "ada@example.com"
    )]
    pub owner_id: Option<String>,
    /// Name of the owner, shown as `userName` of changes. Default: the description, unless
    /// `ownerId` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 256, nullable = false, example = "Ada")]
    pub owner_name: Option<String>,
    /// Expiry: a time, a day (in UTC), or a duration from now like `30d` or `12h`. By default the
    /// token does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        max_length = 64,
        nullable = false,
        example = "2027-01-01T00:00:00.000Z"
    )]
    pub expires_at: Option<String>,
}

/// Rotation of a token's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RotateTokenRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct TokenRotate {
    /// How long the previous text stays valid, like `1h`. By default it is invalid at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32, nullable = false, example = "1h")]
    pub overlap: Option<String>,
}

/// A token, without its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// Id of the token.
    pub token_id: String,
    /// Project of the token.
    pub project_id: u64,
    /// Default branch of the project.
    pub branch_id: u64,
    /// Role of the token.
    pub role: TokenRoleView,
    /// Free text; shown as the author of changes.
    pub description: String,
    /// Id of the owner; `userId` of changes.
    pub owner_id: String,
    /// Name of the owner; `userName` of changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner_name: Option<String>,
    /// Time and author of the creation.
    pub created: AuditStampView,
    /// Expiry; absent if the token does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub expires_at: Option<Timestamp>,
    /// When the current text was created.
    #[schema(value_type = String, format = DateTime)]
    pub rotated_at: Timestamp,
    /// End of the validity of the previous text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    pub previous_valid_until: Option<Timestamp>,
}

/// A token with its text, which is shown once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeToken {
    /// Value of the header `X-StorageApi-Token`.
    #[serde(rename = "token")]
    pub text: String,
    /// The token, without its text.
    #[serde(flatten)]
    pub token: TokenView,
}

/// A page of tokens of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Stored tokens, sorted by id.
    pub tokens: Vec<TokenView>,
    /// Tokens of the project from the configuration, on every page.
    pub configured: Vec<ConfiguredToken>,
}

/// A token of the configuration: the server's own, or one of `api.tokens`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfiguredToken {
    /// Id of the token.
    pub token_id: String,
    /// Project of the token.
    pub project_id: u64,
    /// Default branch of the project.
    pub branch_id: u64,
    /// Role of the token.
    pub role: TokenRoleView,
    /// May administer all projects of the server.
    pub operator: bool,
    /// Free text; shown as the author of changes.
    pub description: String,
    /// Id of the owner; `userId` of changes.
    pub owner_id: String,
    /// Name of the owner; `userName` of changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner_name: Option<String>,
}

/// A page of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Audit)]
pub struct AuditList {
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Changes, oldest first.
    pub changes: Vec<AuditEntry>,
}

/// A change of a source, sink, token or quota, or a rejected request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Sorted by time.
    pub id: String,
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Author of the change.
    pub by: ActorView,
    /// Address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub from: Option<String>,
    /// Like `create`; `reject` for a rejected request.
    pub action: String,
    /// Project of the changed object.
    pub project_id: u64,
    /// Branch of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub branch_id: Option<u64>,
    /// Id of a source, or of a sink's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub source_id: Option<String>,
    /// Id of a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sink_id: Option<String>,
    /// Id of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_id: Option<String>,
    /// Id of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "in.c-bucket.table")]
    pub table_id: Option<String>,
    /// Method and path of a rejected request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "POST /v1/admin/tokens")]
    pub request: Option<String>,
    /// Description of the new version or the token; reason of a rejection.
    pub description: String,
    /// Previous version of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub old_version: Option<u32>,
    /// New version of a source or sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub new_version: Option<u32>,
}
