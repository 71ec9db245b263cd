//! `/backup`, next to the management API: backs up the server on request of an operator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use forebay_control::api::Api;
use forebay_log::Log;
use forebay_meta::EmbeddedStore;
use forebay_model::Clock;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{BackupSource, online};

/// Handles requests; [`BackupWorker`] does the work. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BackupService {
    api: Api,
    start: mpsc::Sender<PathBuf>,
    state: Arc<Mutex<Value>>,
}

pub(crate) struct BackupWorker {
    origin: BackupSource,
    store: Arc<EmbeddedStore>,
    log: Log,
    clock: Arc<dyn Clock>,
    requests: mpsc::Receiver<PathBuf>,
    state: Arc<Mutex<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupRequest {
    /// Directory on the server's machine.
    to: PathBuf,
}

fn set_state(state: &Mutex<Value>, value: Value) {
    *state.lock() = value;
}

impl BackupService {
    pub(crate) fn new(
        api: Api,
        origin: BackupSource,
        (store, log): (Arc<EmbeddedStore>, Log),
        clock: Arc<dyn Clock>,
    ) -> (Self, BackupWorker) {
        let (start, requests) = mpsc::channel(1);
        let state = Arc::new(Mutex::new(json!({"state": "none"})));
        let worker = BackupWorker {
            origin,
            store,
            log,
            clock,
            requests,
            state: Arc::clone(&state),
        };
        (Self { api, start, state }, worker)
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/backup", get(show).post(begin))
            .with_state(self)
    }

    /// Operators only: a backup has the records and secrets of all projects.
    async fn admit(&self, headers: &HeaderMap, peer: SocketAddr) -> Result<(), Response> {
        let admitted = self.api.admit_operator(headers, Some(peer.ip())).await;
        admitted.map_err(|rejected| {
            let mut response = error_response(rejected.status, &rejected.message);
            if let Some(seconds) = rejected.retry_after {
                let seconds = HeaderValue::from(seconds);
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            response
        })
    }

    fn current_state(&self) -> Value {
        self.state.lock().clone()
    }
}

fn error_response(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

async fn show(
    State(service): State<BackupService>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    match service.admit(&headers, peer).await {
        Ok(()) => Json(service.current_state()).into_response(),
        Err(rejected) => rejected,
    }
}

async fn begin(
    State(service): State<BackupService>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Json<BackupRequest>, axum::extract::rejection::JsonRejection>,
) -> Response {
    if let Err(rejected) = service.admit(&headers, peer).await {
        return rejected;
    }
    let wanted = match body {
        Ok(Json(wanted)) => wanted,
        Err(e) => return error_response(StatusCode::BAD_REQUEST, &e.body_text()),
    };
    if service.current_state()["state"] == "running" {
        return error_response(StatusCode::CONFLICT, "a backup is already running");
    }
    let running = json!({"state": "running", "to": wanted.to});
    // Before the send, so that the next request gets this state and not the previous one.
    set_state(&service.state, running.clone());
    match service.start.try_send(wanted.to) {
        Ok(()) => (StatusCode::ACCEPTED, Json(running)).into_response(),
        Err(_) => error_response(StatusCode::CONFLICT, "a backup is already running"),
    }
}

impl BackupWorker {
    /// Runs the requested backups one after the other until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let to = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                to = self.requests.recv() => match to {
                    Some(to) => to,
                    None => return,
                },
            };
            set_state(&self.state, json!({"state": "running", "to": to}));
            let parts = (Arc::clone(&self.store), self.log.clone());
            let done = online(self.origin.clone(), to.clone(), parts, self.clock.now()).await;
            match done {
                Ok(done) => {
                    tracing::info!(to = %to.display(), files = done.files, bytes = done.bytes, revision = done.revision.0, "backup finished");
                    let mut state = done.json();
                    state["state"] = "done".into();
                    set_state(&self.state, state);
                }
                Err(cause) => {
                    tracing::error!(to = %to.display(), cause, "backup failed");
                    set_state(
                        &self.state,
                        json!({"state": "failed", "to": to, "cause": cause}),
                    );
                }
            }
        }
    }
}
