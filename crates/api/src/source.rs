//! Sources.

mod verify;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::common::{AuditStampView, DisabledEvent, PageInfo, VersionView};
pub use verify::{
    SourceVerifyEncoding, SourceVerifyHash, SourceVerifyRequest, SourceVerifyType, SourceVerifyView,
};

/// A new source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreateSourceRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct SourceCreate {
    /// Id; derived from the name by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        min_length = 1,
        max_length = 48,
        nullable = false,
        example = "my-source"
    )]
    pub source_id: Option<String>,
    /// Protocol of the source.
    pub r#type: SourceType,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, example = "My Source")]
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub description: Option<String>,
    /// Signature that requests must have; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub verify: Option<SourceVerifyRequest>,
    /// The definition set that it belongs to: `forebay apply --prune` of this set may delete it. An
    /// extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64, nullable = false, example = "shop")]
    pub definition_set: Option<String>,
}

/// Changes of a source; absent fields are unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = UpdateSourceRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct SourceUpdate {
    /// Description of the new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub change_description: Option<String>,
    /// Protocol of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub r#type: Option<SourceType>,
    /// Display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 40, nullable = false)]
    pub name: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub description: Option<String>,
    /// Replaces the signature that requests must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub verify: Option<SourceVerifyRequest>,
    /// The definition set that it belongs to; empty for none. An extension of Forebay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, nullable = false)]
    pub definition_set: Option<String>,
}

/// Protocol of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceType {
    /// `POST` requests to the source's URL.
    Http,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Source)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Id of the source.
    pub source_id: String,
    /// Protocol of the source.
    pub r#type: SourceType,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The definition set that it belongs to, if it was created by `forebay apply`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub definition_set: Option<String>,
    /// Only for type `http`, and only with an admin token: the URL contains the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub http: Option<HttpSourceView>,
    /// Current version of the definition.
    pub version: VersionView,
    /// Time and author of the creation.
    pub created: AuditStampView,
    /// Time and author of the deletion; only of a deleted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub deleted: Option<AuditStampView>,
    /// Set if it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disabled: Option<DisabledEvent>,
    /// Signature that requests must have; absent if they need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub verify: Option<SourceVerifyView>,
}

/// The HTTP endpoint of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = HttpSource)]
pub struct HttpSourceView {
    /// URL for records, including the secret.
    pub url: String,
}

/// A page of sources of a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceList {
    /// Number of the project.
    pub project_id: u64,
    /// Number of the branch.
    pub branch_id: u64,
    /// Position of this page in the list.
    pub page: PageInfo,
    /// Sources, sorted by id.
    pub sources: Vec<SourceView>,
}
