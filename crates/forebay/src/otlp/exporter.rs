//! The exporter.
//!
//! Exporting never delays the server: spans wait in a bounded queue, whose overflow is dropped, and
//! metrics are read once an interval. A failed export is counted and logged when failing begins and ends;
//! its spans are lost, and its metrics are in the next one, since all of them are cumulative.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::Clock;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::cli_error::CliError;
use crate::config::OtlpSection;
use crate::monitoring::{OTLP_EXPORTS, ProcessMetrics};
use crate::telemetry::TraceLayer;

use super::receiver::{OtlpReceiver, Signal};
use super::{metrics, traces};

/// Exporter of a process.
pub(crate) struct OtlpExporter {
    receiver: OtlpReceiver,
    resource: Resource,
    /// Start of the process, at which its counters began.
    started_ns: u64,
    interval: Duration,
    exports_metrics: bool,
    traces: Option<SdkTracerProvider>,
}

impl OtlpExporter {
    /// Creates the exporter, if an endpoint is configured, in a runtime.
    pub(crate) fn start(
        config: &OtlpSection,
        node: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, CliError> {
        let failed = |e: &dyn std::fmt::Display| {
            CliError::new(format_args!("can't start the export by OTLP: {e}"))
        };
        let Some(endpoint) = config.url() else {
            return Ok(None);
        };
        let started_ns = nanos(&*clock);
        let receiver = OtlpReceiver::new(config, endpoint.map_err(|e| failed(&e))?, clock);
        let receiver = receiver.map_err(|e| failed(&e))?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "forebay"),
                KeyValue::new("service.version", crate::version::VERSION),
                KeyValue::new("service.instance.id", node.to_owned()),
            ])
            .build();
        let traces = (config.trace_percent > 0)
            .then(|| traces::provider(&receiver, &resource, config.trace_percent));
        Ok(Some(Self {
            receiver,
            resource,
            started_ns,
            interval: config.interval.0,
            exports_metrics: config.metrics,
            traces,
        }))
    }

    /// The layer that records spans.
    pub(crate) fn layer(&self) -> Option<TraceLayer> {
        self.traces.as_ref().map(traces::layer)
    }

    /// Exports metrics as long as it is polled.
    pub(crate) async fn run(&self, metrics: &ProcessMetrics) {
        for signal in [Signal::Metrics, Signal::Traces] {
            for outcome in ["exported", "failed"] {
                ::metrics::counter!(OTLP_EXPORTS, "signal" => signal.name(), "outcome" => outcome)
                    .increment(0);
            }
        }
        if !self.exports_metrics {
            return std::future::pending().await;
        }
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.export_metrics(metrics).await;
        }
    }

    async fn export_metrics(&self, metrics: &ProcessMetrics) {
        let now = nanos(&*self.receiver.clock);
        let request = metrics::request(&metrics.render(), &self.resource, self.started_ns, now);
        self.receiver.export(Signal::Metrics, &request).await;
    }

    /// Exports what is left.
    pub(crate) async fn stop(self, metrics: &ProcessMetrics) {
        if self.exports_metrics {
            self.export_metrics(metrics).await;
        }
        if let Some(traces) = self.traces {
            let timeout = self.receiver.timeout;
            // The result was logged by the receiver.
            let stopped =
                tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(timeout)).await;
            drop(stopped);
        }
    }
}

/// Nanoseconds since 1970.
fn nanos(clock: &dyn Clock) -> u64 {
    let millis = u64::try_from(clock.now().as_millis()).unwrap_or_default();
    millis.saturating_mul(1_000_000)
}
