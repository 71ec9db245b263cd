//! Metrics: what `/metrics` shows.
//!
//! Counters of the data plane are in a recorder. What is about a volume, a sink or the process is
//! measured when it is read, so that a series exists as long as its subject.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forebay_control::api::Api;
use forebay_control::auth::ConfiguredTokens;
use forebay_control::sink_monitor::SinkMonitor;
use forebay_ingest::template::TemplatePool;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;

use crate::cli_error::CliError;
use forebay_schema::SecretText;

use crate::config::MetricsSection;
use crate::disk_housekeeping::DiskMetrics;

mod command;
mod definitions;
mod process;
mod sinks;
mod templates;
mod tls;
mod volume;

pub(crate) use command::{MetricsArgs, buffer, ended_job, running_job};
use tls::ListenerTls;

#[cfg(feature = "otlp")]
pub(crate) use definitions::OTLP_EXPORTS;
pub(crate) use definitions::{DEFINITIONS_APPLIED, DEFINITIONS_FAILING, LINES_DROPPED, reference};

/// Interval of the recorder's upkeep, without which it grows while no metrics are read.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Histogram buckets: seconds...
const SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// ...bytes...
const BYTES: [f64; 8] = [
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    16_777_216.0,
];
/// ...and rows.
const ROWS: [f64; 8] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10000.0];

/// Label of series that belong to a project.
const PRIVATE_LABEL: &str = "project=\"";

#[derive(Clone)]
pub(crate) struct ProcessMetrics {
    handle: PrometheusHandle,
    disk: Arc<OnceLock<DiskMetrics>>,
    /// With the maximum number of sinks with series of their own.
    sinks: Arc<OnceLock<(SinkMonitor, usize)>>,
    tls: Arc<OnceLock<ListenerTls>>,
    templates: Arc<OnceLock<Arc<TemplatePool>>>,
    /// SHA-256 of the token required for metrics.
    token: Arc<RwLock<Option<String>>>,
}

impl ProcessMetrics {
    /// Installs the recorder.
    pub(crate) fn start(config: &MetricsSection) -> Result<Self, CliError> {
        let failed = |e| CliError::new(format_args!("can't start metrics: {e}"));
        let by_name = |suffix: &str| Matcher::Suffix(suffix.to_owned());
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(by_name("_seconds"), &SECONDS)
            .and_then(|b| b.set_buckets_for_metric(by_name("_bytes"), &BYTES))
            .and_then(|b| b.set_buckets_for_metric(by_name("_rows"), &ROWS))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(failed)?;
        definitions::describe();
        let metrics = Self {
            handle,
            disk: Arc::default(),
            sinks: Arc::default(),
            tls: Arc::default(),
            templates: Arc::default(),
            token: Arc::default(),
        };
        metrics.set_token(config);
        Ok(metrics)
    }

    /// Applies the token of the configuration.
    pub(crate) fn set_token(&self, config: &MetricsSection) {
        let hash = |token: &SecretText| ConfiguredTokens::hash(token.expose().as_bytes());
        let mut token = self.token.write();
        *token = config.token.as_ref().map(hash);
    }

    /// Adds the metrics of a node's log, metadata store, certificates and templates.
    pub(crate) fn attach_node(
        &self,
        disk: DiskMetrics,
        tls: ListenerTls,
        templates: Arc<TemplatePool>,
    ) {
        // A process has one node; a second one is ignored.
        _ = self.disk.set(disk);
        _ = self.tls.set(tls);
        _ = self.templates.set(templates);
    }

    /// `GET /metrics` on the API listener: without a metrics token, series of projects are for
    /// operators.
    pub(crate) fn router_beside_api(&self, api: Api) -> Router {
        let state = (self.clone(), Some(api));
        Router::new()
            .route("/metrics", get(render))
            .with_state(state)
    }

    /// `GET /metrics` on a separate listener.
    pub(crate) fn standalone_router(&self) -> Router {
        Router::new()
            .route("/metrics", get(render))
            .with_state((self.clone(), None))
    }

    /// Whether the request may see all series: `None` for a missing or invalid token.
    fn authorize(&self, headers: &HeaderMap) -> Option<bool> {
        let token = self.token.read();
        let Some(wanted) = token.as_ref() else {
            return Some(false);
        };
        let given = headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, given) = given.split_at_checked(7)?;
        // Comparing hashes leaks no timing information about the token.
        let is_right = scheme.eq_ignore_ascii_case(b"bearer ")
            && ConfiguredTokens::hash(given.trim_ascii()) == *wanted;
        is_right.then_some(true)
    }

    /// Runs upkeep as long as it is polled.
    pub(crate) async fn run_upkeep(&self) {
        let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tick.tick().await;
            self.handle.run_upkeep();
        }
    }

    /// Adds the status of sinks.
    pub(crate) fn attach_sinks(&self, sinks: SinkMonitor, max: usize) {
        _ = self.sinks.set((sinks, max));
    }

    /// All metrics as text.
    pub(crate) fn render(&self) -> String {
        let mut text = self.handle.render();
        let mut families = process::families();
        if let Some(disk) = self.disk.get() {
            families.extend(volume::families(disk));
        }
        if let Some(tls) = self.tls.get() {
            families.push(tls::expiry(tls));
        }
        if let Some(pool) = self.templates.get() {
            families.extend(templates::families(pool));
        }
        if let Some(sinks) = self.sinks.get() {
            families.extend(sinks::families(&sinks.0, sinks.1));
        }
        for family in families {
            family.write_text(&mut text);
        }
        text
    }
}

async fn render(
    State((metrics, api)): State<(ProcessMetrics, Option<Api>)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some(has_token) = metrics.authorize(&headers) else {
        let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
        let text = "telemetry.metrics.token is needed, as Authorization: Bearer\n";
        return (StatusCode::UNAUTHORIZED, wanted, text).into_response();
    };
    let sees_all = match &api {
        Some(api) if !has_token => api.is_operator(&headers, Some(peer.ip())).await,
        _ => true,
    };
    let all = metrics.render();
    let text = if sees_all {
        all
    } else {
        without_project_series(&all)
    };
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, text).into_response()
}

/// Removes series that belong to a project.
fn without_project_series(all: &str) -> String {
    let is_public = |line: &&str| {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        line.starts_with('#') || !labels.contains(PRIVATE_LABEL)
    };
    let mut text = String::with_capacity(all.len());
    for line in all.lines().filter(is_public) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_projects_are_removed() {
        let all = "# TYPE a counter\na 1\na{status=\"200\"} 2\na{project=\"7\"} 3\n\
                   a{le=\"1\",project=\"7\",source=\"s\"} 4\nb 6\n";
        let shown = without_project_series(all);
        assert_eq!(shown, "# TYPE a counter\na 1\na{status=\"200\"} 2\nb 6\n");
    }
}
