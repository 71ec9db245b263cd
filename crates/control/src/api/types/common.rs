//! Types that responses have in common.

use forebay_model::{ActorKind, AuditStamp, DisableInfo, PauseInfo, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// Author of a change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = By)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActorView {
    r#type: ActorType,
    /// Name of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_id: Option<String>,
    /// Description of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token_desc: Option<String>,
    /// Id of its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<String>,
    /// Name of its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_name: Option<String>,
}

/// A user with a token, or the server itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ByType)]
#[serde(rename_all = "camelCase")]
enum ActorType {
    User,
    System,
}

impl From<&forebay_model::Actor> for ActorView {
    fn from(by: &forebay_model::Actor) -> Self {
        Self {
            r#type: match by.kind {
                ActorKind::User => ActorType::User,
                ActorKind::System => ActorType::System,
            },
            token_id: by.token_id.clone(),
            token_desc: by.token_desc.clone(),
            user_id: by.user_id.clone(),
            user_name: by.user_name.clone(),
        }
    }
}

/// Time and author of a change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct AuditStampView {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    by: ActorView,
}

impl From<&AuditStamp> for AuditStampView {
    fn from(stamp: &AuditStamp) -> Self {
        Self {
            at: stamp.at,
            by: (&stamp.by).into(),
        }
    }
}

/// Time, author and reason of a disable or pause.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DisabledEvent {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    by: ActorView,
    reason: String,
}

impl From<&DisableInfo> for DisabledEvent {
    fn from(disabled: &DisableInfo) -> Self {
        Self {
            at: disabled.stamp.at,
            by: (&disabled.stamp.by).into(),
            reason: disabled.reason.clone(),
        }
    }
}

impl From<&PauseInfo> for DisabledEvent {
    fn from(paused: &PauseInfo) -> Self {
        Self {
            at: paused.stamp.at,
            by: (&paused.stamp.by).into(),
            reason: paused.reason.clone(),
        }
    }
}

/// A version of a definition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub(crate) struct VersionView {
    /// From 1.
    number: u32,
    /// 16 hexadecimal digits that change with the content.
    hash: String,
    /// Description of the change.
    description: String,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    by: ActorView,
}

impl From<&forebay_model::DefinitionVersion> for VersionView {
    fn from(version: &forebay_model::DefinitionVersion) -> Self {
        Self {
            number: version.number,
            hash: version.hash.clone(),
            description: version.description.clone(),
            at: version.stamp.at,
            by: (&version.stamp.by).into(),
        }
    }
}

/// Position of a page in a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageInfo {
    /// Requested maximum of items.
    pub(crate) limit: u32,
    /// Number of items on all pages.
    pub(crate) total_count: usize,
    /// Requested start of the page.
    pub(crate) after_id: String,
    /// Id of the last item, to request the next page; empty when there is none.
    pub(crate) last_id: String,
}

impl PageInfo {
    pub(crate) fn from_parts(
        limit: u32,
        total_count: usize,
        after_id: &str,
        last_id: &str,
    ) -> Self {
        Self {
            limit,
            total_count,
            after_id: after_id.to_owned(),
            last_id: last_id.to_owned(),
        }
    }

    pub(crate) fn new(query: &super::super::params::ListQuery, total: usize, last: &str) -> Self {
        Self {
            limit: query.limit,
            total_count: total,
            after_id: query.after_id.clone(),
            last_id: last.to_owned(),
        }
    }
}

/// A page of versions of a source or sink.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EntityVersions)]
pub(crate) struct VersionList {
    pub(crate) versions: Vec<VersionView>,
    pub(crate) page: PageInfo,
}

/// Name of the API and address of its documentation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Index)]
pub(crate) struct ApiIndex {
    #[schema(example = "stream")]
    pub(crate) api: &'static str,
    #[schema(example = "http://localhost:8000/v1/documentation")]
    pub(crate) documentation: String,
}

/// An id in a path: characters that are not allowed in paths are encoded, slashes are kept.
pub(crate) fn encode_path(id: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'/')
        .remove(b':');
    utf8_percent_encode(id, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::encode_path;

    #[test]
    fn ids_in_paths_are_encoded() {
        assert_eq!(
            encode_path("日本/a:b c~%"),
            "%E6%97%A5%E6%9C%AC/a:b%20c~%25"
        );
    }
}
