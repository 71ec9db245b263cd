//! Types that responses have in common.

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Author of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = By)]
#[serde(rename_all = "camelCase")]
pub struct ActorView {
    /// User or system.
    pub r#type: ActorType,
    /// Name of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_id: Option<String>,
    /// Description of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_desc: Option<String>,
    /// Id of its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_id: Option<String>,
    /// Name of its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_name: Option<String>,
}

/// A user with a token, or the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ByType)]
#[serde(rename_all = "camelCase")]
pub enum ActorType {
    /// A user with a token.
    User,
    /// The server itself.
    System,
}

/// Time and author of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct AuditStampView {
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Author of the change.
    pub by: ActorView,
}

/// Time, author and reason of a disable or pause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DisabledEvent {
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Author of the change.
    pub by: ActorView,
    /// Reason as given.
    pub reason: String,
}

/// A version of a definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionView {
    /// From 1.
    pub number: u32,
    /// 16 hexadecimal digits that change with the content.
    pub hash: String,
    /// Description of the change.
    pub description: String,
    /// Time of the change.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Author of the change.
    pub by: ActorView,
}

/// Position of a page in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Page)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// Requested maximum of items.
    pub limit: u32,
    /// Number of items on all pages.
    pub total_count: usize,
    /// Requested start of the page.
    pub after_id: String,
    /// Id of the last item, to request the next page; empty when there is none.
    pub last_id: String,
}

/// A page of versions of a source or sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = EntityVersions)]
pub struct VersionList {
    /// Versions, oldest first.
    pub versions: Vec<VersionView>,
    /// Position of this page in the list.
    pub page: PageInfo,
}

/// Name of the API and address of its documentation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Index)]
pub struct ApiIndex {
    /// Name of the API.
    #[schema(example = "stream")]
    pub api: String,
    /// Address of the documentation.
    #[schema(example = "http://localhost:8000/v1/documentation")]
    pub documentation: String,
}

impl PageInfo {
    /// Page of at most `limit` items after the id `after_id`; `last_id` is the id of its last item.
    pub fn new(limit: u32, total_count: usize, after_id: &str, last_id: &str) -> Self {
        Self {
            limit,
            total_count,
            after_id: after_id.to_owned(),
            last_id: last_id.to_owned(),
        }
    }
}
