//! Posts events at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use forebay_connect::http::{HttpClient, HttpClientConfig, HttpRequest};
use forebay_model::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::events::event;
use crate::cli_error::CliError;
use crate::clock::SystemClock;

/// Concurrent requests; with a slower server the rate drops.
const IN_FLIGHT_MAX: usize = 128;
/// Interval between bursts of requests.
const TICK: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(30);
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// Counts of sent events and their responses.
#[derive(Debug, Default)]
pub(crate) struct SendCounts {
    pub(crate) sent: AtomicU64,
    /// Got 200: on disk.
    pub(crate) acknowledged: AtomicU64,
    /// Got another status: not stored.
    pub(crate) rejected: AtomicU64,
    /// Got no response: may be stored.
    pub(crate) unknown: AtomicU64,
}

/// Load to generate.
#[derive(Clone, Debug)]
pub(crate) struct DemoLoad {
    /// Address of the source.
    pub(crate) url: String,
    /// Events per second.
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
}

/// Sends until the duration is over or `stop`, then waits for outstanding responses.
pub(crate) async fn send(
    load: DemoLoad,
    counts: Arc<SendCounts>,
    stop: CancellationToken,
) -> Result<(), CliError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let client = HttpClient::new(HttpClientConfig {
        headers,
        timeout: TIMEOUT,
        response_max: RESPONSE_BYTES_MAX,
        authorities: Vec::new(),
    });
    let client = client.map_err(CliError::new)?;
    let url = Url::parse(&load.url);
    let url = url.map_err(|e| CliError::new(format_args!("\"{}\": {e}", load.url)))?;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut requests = JoinSet::new();
    let begun = Instant::now();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let all = due(load.rate, load.duration);
    while counts.sent.load(Relaxed) < all && !stop.is_cancelled() {
        tick.tick().await;
        let due = due(load.rate, begun.elapsed()).min(all);
        while counts.sent.load(Relaxed) < due && !stop.is_cancelled() {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            counts.sent.fetch_add(1, Relaxed);
            let (client, url, counts) = (client.clone(), url.clone(), Arc::clone(&counts));
            requests.spawn(async move {
                post(&client, url, &counts).await;
                drop(permit);
            });
            while requests.try_join_next().is_some() {}
        }
    }
    while requests.join_next().await.is_some() {}
    Ok(())
}

/// Number of events to have sent by then.
fn due(rate: u32, after: Duration) -> u64 {
    u64::try_from(u128::from(rate) * after.as_millis() / 1000).unwrap_or(u64::MAX)
}

async fn post(client: &HttpClient, url: Url, counts: &SendCounts) {
    let event = event(&mut rand::rng());
    let request = HttpRequest {
        method: Method::POST,
        body: Some(event.to_string().into()),
        ..HttpRequest::get(url)
    };
    let counter = match client.send(request, SystemClock.now()).await {
        Ok(response) if response.status == StatusCode::OK => &counts.acknowledged,
        Ok(response) => {
            let body = String::from_utf8_lossy(&response.body);
            tracing::warn!(status = %response.status, %body, "event rejected");
            &counts.rejected
        }
        Err(error) if error.is_redirect() => {
            tracing::warn!(%error, "event rejected");
            &counts.rejected
        }
        Err(error) => {
            tracing::warn!(%error, "no response for an event");
            &counts.unknown
        }
    };
    counter.fetch_add(1, Relaxed);
}
