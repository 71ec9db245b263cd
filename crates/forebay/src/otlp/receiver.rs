//! The receiver of exports.

use std::sync::Arc;
use std::time::Duration;

use forebay_connect::http::{HttpClient, HttpClientConfig, HttpRequest};
use forebay_model::Clock;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use prost::Message;
use reqwest::Url;

use crate::config::OtlpSection;
use crate::monitoring::OTLP_EXPORTS;

/// Bytes read of a response.
const RESPONSE_MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Metrics,
    Traces,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
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
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timeout: Duration,
    /// Whether the last export failed, by signal.
    failing: Arc<Mutex<[bool; 2]>>,
}

impl OtlpReceiver {
    pub(super) fn new(
        config: &OtlpSection,
        endpoint: Url,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
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
