//! Posts events at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use forebay_model::Clock;
use forebay_remote::http::{HttpClient, HttpClientConfig, HttpRequest};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::events::event;
use crate::cli_error::CliError;
use crate::clock::SystemClock;

/// Requests under way at a time; when the server is slower, the rate falls.
const IN_FLIGHT_MAX: usize = 128;
/// Between two handfuls of requests.
const TICK: Duration = Duration::from_millis(10);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// So much of it is read.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// What has been sent and answered so far.
#[derive(Debug, Default)]
pub(crate) struct SendCounts {
    /// Sent.
    pub(crate) sent: AtomicU64,
    /// Answered 200: they are on disk.
    pub(crate) acknowledged: AtomicU64,
    /// Answered otherwise: they are not there.
    pub(crate) refused: AtomicU64,
    /// Not answered: nobody knows.
    pub(crate) unknown: AtomicU64,
}

/// What to send, and where.
#[derive(Clone, Debug)]
pub(crate) struct DemoLoad {
    /// Address of the source.
    pub(crate) url: String,
    /// Events a second.
    pub(crate) rate: u32,
    /// For how long.
    pub(crate) duration: Duration,
}

/// Sends until the time is over or `stop`, then waits for the answers that are missing.
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

/// Events that should have been sent after that time.
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
            tracing::warn!(status = %response.status, %body, "an event was refused");
            &counts.refused
        }
        Err(error) if error.is_redirect() => {
            tracing::warn!(%error, "an event was refused");
            &counts.refused
        }
        Err(error) => {
            tracing::warn!(%error, "an event was not answered");
            &counts.unknown
        }
    };
    counter.fetch_add(1, Relaxed);
}
