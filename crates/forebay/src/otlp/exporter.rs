//! The exporter and its receiver.
//!
//! Exporting never delays the server: spans wait in a bounded queue, whose overflow is dropped, and
//! metrics are read once an interval. A failed export is counted and logged when failing begins and ends;
//! its spans are lost, and its metrics are in the next one, since all of them are cumulative.

use std::sync::Arc;
use std::time::Duration;

use forebay_connect::http::{HttpClient, HttpClientConfig, HttpRequest};
use forebay_model::Clock;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use prost::Message;
use reqwest::Url;

use crate::cli_error::CliError;
use crate::config::OtlpSection;
use crate::monitoring::{OTLP_EXPORTS, ProcessMetrics};
use crate::telemetry::TraceLayer;

use super::{metrics, traces};

/// Bytes read of a response.
const RESPONSE_MAX: usize = 16 << 10;

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

#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }
}

/// The receiver of exports. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct OtlpReceiver {
    http: HttpClient,
    endpoint: Url,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    /// Whether the last export failed, by signal.
    failing: Arc<Mutex<[bool; 2]>>,
}

impl OtlpReceiver {
    fn new(config: &OtlpSection, endpoint: Url, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let headers = config.header_map()?;
        let http = HttpClient::new(HttpClientConfig {
            headers,
            timeout: config.timeout.0,
            response_max: RESPONSE_MAX,
            authorities: Vec::new(),
        })?;
        http.prepare(&endpoint)?;
        Ok(Self {
            http,
            endpoint,
            clock,
            timeout: config.timeout.0,
            failing: Arc::default(),
        })
    }

    /// Sends a request; counts and logs the outcome.
    pub(super) async fn export(&self, signal: Signal, message: &impl Message) -> bool {
        let sent = self.send(signal, message.encode_to_vec()).await;
        let outcome = if sent.is_ok() { "exported" } else { "failed" };
        ::metrics::counter!(OTLP_EXPORTS, "signal" => signal.name(), "outcome" => outcome)
            .increment(1);
        let was_failing = {
            let mut failing = self.failing.lock();
            let [metrics, traces] = &mut *failing;
            let failing = match signal {
                Signal::Metrics => metrics,
                Signal::Traces => traces,
            };
            std::mem::replace(failing, sent.is_err())
        };
        let signal = signal.name();
        match &sent {
            Err(error) if !was_failing => {
                tracing::warn!(signal, error, "exporting by OTLP fails");
            }
            Ok(()) if was_failing => tracing::info!(signal, "exporting by OTLP succeeds again"),
            _ => {}
        }
        sent.is_ok()
    }

    async fn send(&self, signal: Signal, body: Vec<u8>) -> Result<(), String> {
        let mut url = self.endpoint.clone();
        let path = url.path().trim_end_matches('/');
        let path = format!("{path}/v1/{}", signal.name());
        url.set_path(&path);
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        let request = HttpRequest {
            method: Method::POST,
            url,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, protobuf)]),
            body: Some(body.into()),
        };
        let response = self.http.send(request, self.clock.now()).await;
        let response = response.map_err(|e| e.to_string())?;
        if response.status.is_success() {
            return Ok(());
        }
        Err(format!("the receiver responded with {}", response.status))
    }
}
