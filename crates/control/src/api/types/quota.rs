//! Quotas of projects.

use forebay_model::ProjectId;
use forebay_model::quota::{QuotaOverrides, Quotas};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Quota of a project.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectQuota)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProjectQuotaView {
    project_id: u64,
    /// Burst: amount of this time at the full rate.
    #[schema(example = "1s")]
    window: String,
    /// Limits in force.
    effective: QuotaView,
    /// Limits of the server's configuration.
    default: QuotaView,
    /// Overrides of this project.
    own: QuotaChange,
}

/// Limits; zero is no limit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quota)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuotaView {
    /// Of all sources together.
    requests_per_second: u64,
    /// Size of bodies as sent, of all sources together.
    #[schema(example = "2GB")]
    bytes_per_second: String,
    /// Open connections whose last request was the project's.
    connections: u64,
    /// Size in the log and in staging.
    #[schema(example = "1TB")]
    disk_bytes: String,
    /// Default of each source without its own limit.
    source_requests_per_second: u64,
    /// Default of each source without its own limit.
    #[schema(example = "1GB")]
    source_bytes_per_second: String,
}

/// Overrides of the configured limits; zero is no limit.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SetQuotaRequestBody)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuotaChange {
    /// Of all sources together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub(crate) requests_per_second: Option<u64>,
    /// Size of bodies as sent, of all sources together, like `10MB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10MB")]
    pub(crate) bytes_per_second: Option<String>,
    /// Open connections whose last request was the project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub(crate) connections: Option<u64>,
    /// Size in the log and in staging, like `10GB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10GB")]
    pub(crate) disk_bytes: Option<String>,
    /// Default of each source without its own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub(crate) source_requests_per_second: Option<u64>,
    /// Default of each source without its own limit, like `10MB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10MB")]
    pub(crate) source_bytes_per_second: Option<String>,
}

impl ProjectQuotaView {
    pub(crate) fn new(project: ProjectId, server: &Quotas, own: &QuotaOverrides) -> Self {
        let text = |size: Option<forebay_model::ByteSize>| size.map(|s| s.to_string());
        Self {
            project_id: project.0,
            window: server.window.to_string(),
            effective: QuotaView::new(server, own),
            default: QuotaView::new(server, &QuotaOverrides::default()),
            own: QuotaChange {
                requests_per_second: own.requests_per_second,
                bytes_per_second: text(own.bytes_per_second),
                connections: own.connections,
                disk_bytes: text(own.disk_bytes),
                source_requests_per_second: own.source_requests_per_second,
                source_bytes_per_second: text(own.source_bytes_per_second),
            },
        }
    }
}

impl QuotaView {
    fn new(server: &Quotas, own: &QuotaOverrides) -> Self {
        let (project, source) = (server.project.with(own), own.source(server.source));
        Self {
            requests_per_second: project.requests_per_second,
            bytes_per_second: project.bytes_per_second.to_string(),
            connections: project.connections,
            disk_bytes: project.disk_bytes.to_string(),
            source_requests_per_second: source.requests_per_second,
            source_bytes_per_second: source.bytes_per_second.to_string(),
        }
    }
}
