//! Export of metrics and traces by OTLP over HTTP, in binaries with the feature `otlp`.

use std::sync::Arc;

use forebay_model::Clock;

use crate::cli_error::CliError;
use crate::config::Config;
use crate::monitoring::ProcessMetrics;
use crate::telemetry::TraceLayer;

#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod metrics;
#[cfg(feature = "otlp")]
mod receiver;
#[cfg(feature = "otlp")]
mod traces;

/// Export of a process, if it is configured.
pub(crate) struct TelemetryExport {
    #[cfg(feature = "otlp")]
    exporter: Option<exporter::OtlpExporter>,
}

#[cfg(feature = "otlp")]
impl TelemetryExport {
    /// Starts the export, in a runtime.
    pub(crate) fn start(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        let exporter =
            exporter::OtlpExporter::start(&config.telemetry.otlp, &config.node_id, clock)?;
        Ok(Self { exporter })
    }

    /// The layer that records spans.
    pub(crate) fn layer(&self) -> Option<TraceLayer> {
        self.exporter.as_ref()?.layer()
    }

    /// Exports metrics as long as it is polled.
    pub(crate) async fn run(&self, metrics: &ProcessMetrics) {
        match &self.exporter {
            Some(exporter) => exporter.run(metrics).await,
            None => std::future::pending().await,
        }
    }

    /// Exports what is left.
    pub(crate) async fn stop(self, metrics: &ProcessMetrics) {
        if let Some(exporter) = self.exporter {
            exporter.stop(metrics).await;
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl TelemetryExport {
    /// Exports nothing; the check of the configuration rejects an endpoint.
    #[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
    pub(crate) fn start(_config: &Config, _clock: Arc<dyn Clock>) -> Result<Self, CliError> {
        Ok(Self {})
    }

    pub(crate) fn layer(&self) -> Option<TraceLayer> {
        None
    }

    pub(crate) async fn run(&self, _metrics: &ProcessMetrics) {
        std::future::pending().await
    }

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn stop(self, _metrics: &ProcessMetrics) {}
}
