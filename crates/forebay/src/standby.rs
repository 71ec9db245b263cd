//! A server that can't open its metadata store yet: it says why, and takes nothing.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use forebay_listener::Listener;
use forebay_meta::OpenError;
use serde_json::json;

use crate::config::{Config, Role};
use crate::data_dir;
use crate::failure::Failure;
use crate::roles::{OpenedStore, api_tls, listen, open_store, serve};
use crate::volume;

/// How often it is tried whether there is room.
const RETRY: Duration = Duration::from_secs(1);

/// Opens the metadata store. While the disk is full it waits for room; when the store went back it
/// waits for a person, who stops it.
///
/// # Errors
/// When it can't be opened and waiting would not help.
pub(crate) async fn open(config: &Config, accepted: bool) -> Result<OpenedStore, Failure> {
    let reserve = volume::reserve(config);
    reserve.give_up_if_full();
    if accepted {
        // Before the store is opened: what was accepted must be done also if this ends in between.
        data_dir::note_restored(&config.data_dir).map_err(Failure::new)?;
    }
    let mut told = None;
    loop {
        let refused = match open_store(config, accepted) {
            Ok(store) => return Ok(store),
            Err(refused) => refused,
        };
        match &refused.0 {
            OpenError::Full { .. } => {
                let cause = refused.0.to_string();
                if told.is_none() {
                    tracing::error!(%cause, "waiting for room on the disk");
                    told = Some(Standby::start(config, &cause).await?);
                }
                tokio::time::sleep(RETRY).await;
                reserve.give_up_if_full();
            }
            OpenError::Behind { found, known, .. } => {
                let hint = refused.way_out(config);
                tracing::error!(cause = %refused.0, found = found.0, known = known.0, hint, "the metadata store has lost transactions: nothing is taken until a person decides");
                let cause = format!("{}; {hint}", refused.0);
                let standby = Standby::start(config, &cause).await?;
                let () = std::future::pending().await;
                drop(standby);
            }
            _ => return Err(refused.failure(config)),
        }
    }
}

/// Answers health checks, until it is dropped.
struct Standby {
    _listener: Option<Listener>,
}

impl Standby {
    async fn start(config: &Config, cause: &str) -> Result<Self, Failure> {
        if !config.has(Role::Api) {
            return Ok(Self { _listener: None });
        }
        let tls = api_tls(config)?;
        let (socket, address) = listen(config).await?;
        tracing::warn!(api = %address, "not ready");
        let listener = serve("api", socket, tls, router(cause), config);
        Ok(Self {
            _listener: Some(listener),
        })
    }
}

fn router(cause: &str) -> Router {
    let cause = cause.to_owned();
    let answer = move || {
        let causes = json!([{"part": "store", "cause": cause}]);
        let body = Json(json!({"status": "not ready", "causes": causes}));
        std::future::ready((StatusCode::SERVICE_UNAVAILABLE, body).into_response())
    };
    let live = get(|| async { Json(json!({"status": "live"})) });
    let fallback = answer.clone();
    Router::new()
        .route("/health/live", live)
        .route(
            "/health/ready",
            get(move || -> std::future::Ready<Response> { answer() }),
        )
        .fallback(move || -> std::future::Ready<Response> { fallback() })
}
