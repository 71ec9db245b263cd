//! Sources.

use forebay_model::SourceKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::common::{AuditStampView, DisabledEvent, PageInfo, VersionView, encode_path};

/// A new source.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateSourceRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceCreate {
    /// Id; derived from the name by default.
    #[schema(
        min_length = 1,
        max_length = 48,
        nullable = false,
        example = "my-source"
    )]
    pub(crate) source_id: Option<String>,
    #[expect(dead_code, reason = "there is only one type; the schema checks it")]
    r#type: SourceType,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, example = "My Source")]
    pub(crate) name: String,
    /// Free text.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) description: Option<String>,
}

/// Changes of a source; absent fields are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateSourceRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceUpdate {
    /// Description of the new version.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) change_description: Option<String>,
    #[expect(dead_code, reason = "there is only one type; the schema checks it")]
    #[schema(nullable = false)]
    r#type: Option<SourceType>,
    /// Display name.
    #[schema(min_length = 1, max_length = 40, nullable = false)]
    pub(crate) name: Option<String>,
    /// Free text.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) description: Option<String>,
}

/// Protocol of a source.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum SourceType {
    /// `POST` requests to the source's URL.
    Http,
}

/// A source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceView {
    project_id: u64,
    branch_id: u64,
    source_id: String,
    r#type: SourceType,
    name: String,
    description: String,
    /// Only for type `http`, and only with an admin token: the URL contains the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    http: Option<HttpSourceView>,
    version: VersionView,
    created: AuditStampView,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deleted: Option<AuditStampView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disabled: Option<DisabledEvent>,
}

/// The HTTP endpoint of a source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HttpSource)]
pub(crate) struct HttpSourceView {
    /// URL for records, including the secret.
    url: String,
}

impl SourceView {
    /// `public_url` is the base of the HTTP source; without it the source's URL is omitted.
    pub(crate) fn new(source: &forebay_model::Source, public_url: Option<&str>) -> Self {
        let branch = source.key.branch;
        let id = &source.key.source;
        let SourceKind::Http { secret } = &source.kind;
        Self {
            project_id: branch.project.0,
            branch_id: branch.branch.0,
            source_id: id.to_string(),
            r#type: SourceType::Http,
            name: source.name.clone(),
            description: source.description.clone(),
            http: public_url.map(|public_url| HttpSourceView {
                url: format!(
                    "{public_url}/stream/{}/{}/{secret}",
                    branch.project,
                    encode_path(id.as_str())
                ),
            }),
            version: (&source.version).into(),
            created: (&source.created).into(),
            deleted: source.deleted.as_ref().map(|d| (&d.stamp).into()),
            disabled: source.disabled.as_ref().map(Into::into),
        }
    }
}

/// A page of sources of a branch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SourceList {
    pub(crate) project_id: u64,
    pub(crate) branch_id: u64,
    pub(crate) page: PageInfo,
    pub(crate) sources: Vec<SourceView>,
}
