//! Quotas of projects.

use forebay_api::quota::{ProjectQuotaView, QuotaChange, QuotaView};
use forebay_model::quota::{QuotaOverrides, Quotas};
use forebay_model::{ByteSize, ProjectId};

/// The quota of a project with these overrides of the server's quotas.
pub(in crate::api) fn project_quota(
    project: ProjectId,
    server: &Quotas,
    own: &QuotaOverrides,
) -> ProjectQuotaView {
    let text = |size: Option<ByteSize>| size.map(|s| s.to_string());
    ProjectQuotaView {
        project_id: project.0,
        window: server.window.to_string(),
        effective: quota_view(server, own),
        default: quota_view(server, &QuotaOverrides::default()),
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

fn quota_view(server: &Quotas, own: &QuotaOverrides) -> QuotaView {
    let (project, source) = (server.project.with(own), own.source(server.source));
    QuotaView {
        requests_per_second: project.requests_per_second,
        bytes_per_second: project.bytes_per_second.to_string(),
        connections: project.connections,
        disk_bytes: project.disk_bytes.to_string(),
        source_requests_per_second: source.requests_per_second,
        source_bytes_per_second: source.bytes_per_second.to_string(),
    }
}
