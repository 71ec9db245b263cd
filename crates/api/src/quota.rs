//! Quotas of projects.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Quota of a project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProjectQuota)]
#[serde(rename_all = "camelCase")]
pub struct ProjectQuotaView {
    /// Number of the project.
    pub project_id: u64,
    /// Burst: amount of this time at the full rate.
    #[schema(example = "1s")]
    pub window: String,
    /// Limits in force.
    pub effective: QuotaView,
    /// Limits of the server's configuration.
    pub default: QuotaView,
    /// Overrides of this project.
    pub own: QuotaChange,
}

/// Limits; zero is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Quota)]
#[serde(rename_all = "camelCase")]
pub struct QuotaView {
    /// Of all sources together.
    pub requests_per_second: u64,
    /// Size of bodies as sent, of all sources together.
    #[schema(example = "2GB")]
    pub bytes_per_second: String,
    /// Open connections whose last request was the project's.
    pub connections: u64,
    /// Size in the log and in staging.
    #[schema(example = "1TB")]
    pub disk_bytes: String,
    /// Default of each source without its own limit.
    pub source_requests_per_second: u64,
    /// Default of each source without its own limit.
    #[schema(example = "1GB")]
    pub source_bytes_per_second: String,
}

/// Overrides of the configured limits; zero is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SetQuotaRequestBody)]
#[serde(rename_all = "camelCase")]
pub struct QuotaChange {
    /// Of all sources together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub requests_per_second: Option<u64>,
    /// Size of bodies as sent, of all sources together, like `10MB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10MB")]
    pub bytes_per_second: Option<String>,
    /// Open connections whose last request was the project's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub connections: Option<u64>,
    /// Size in the log and in staging, like `10GB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10GB")]
    pub disk_bytes: Option<String>,
    /// Default of each source without its own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, maximum = 100_000_000)]
    pub source_requests_per_second: Option<u64>,
    /// Default of each source without its own limit, like `10MB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 32, example = "10MB")]
    pub source_bytes_per_second: Option<String>,
}
