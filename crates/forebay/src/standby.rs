//! Standby: a server that can't open its metadata store yet. It reports the cause and accepts no
//! records.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use forebay_listener::Listener;
use forebay_meta::StoreOpenError;
use serde_json::json;

use crate::api_listener::{api_tls, listen, serve};
use crate::cli_error::CliError;
use crate::config::{Config, NodeRole};
use crate::data_dir;
use crate::disk_housekeeping;
use crate::roles::{OpenedStore, open_store};
use crate::service_manager::ServiceManager;

/// Interval of checks for free space.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Opens the metadata store. While the disk is full it waits for space; if the store lost transactions
/// it waits for the operator to stop it.
pub(crate) async fn open(
    config: &Config,
    manager: &ServiceManager,
    accepted: bool,
) -> Result<OpenedStore, CliError> {
    let reserve = disk_housekeeping::reserve(config);
    reserve.release_if_full();
    if accepted {
        // Before the store is opened, so that the accepted loss is handled even after a crash in
        // between.
        data_dir::write_restored_marker(&config.data_dir).map_err(CliError::new)?;
    }
    let mut waiting = None;
    loop {
        let failure = match open_store(config, accepted) {
            Ok(store) => return Ok(store),
            Err(failure) => failure,
        };
        match &failure.0 {
            StoreOpenError::Full { .. } => {
                let cause = failure.0.to_string();
                if waiting.is_none() {
                    tracing::error!(%cause, "waiting for disk space");
                    manager.starting(&format!("waiting for disk space: {cause}"));
                    waiting = Some(StandbyListener::start(config, &cause).await?);
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
                reserve.release_if_full();
            }
            StoreOpenError::Behind { found, known, .. } => {
                let hint = failure.recovery_hint(config);
                tracing::error!(cause = %failure.0, found = found.0, known = known.0, hint, "the metadata store lost transactions: no record is accepted until an operator decides");
                let cause = format!("{}; {hint}", failure.0);
                manager.starting(&format!("waiting for an operator: {cause}"));
                let standby = StandbyListener::start(config, &cause).await?;
                let () = std::future::pending().await;
                drop(standby);
            }
            _ => return Err(failure.cli_error(config)),
        }
    }
}

/// Answers health checks until it is dropped.
struct StandbyListener {
    _listener: Option<Listener>,
}

impl StandbyListener {
    async fn start(config: &Config, cause: &str) -> Result<Self, CliError> {
        if !config.has(NodeRole::Api) {
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
    let respond = move || {
        let causes = json!([{"part": "store", "cause": cause}]);
        let body = Json(json!({"status": "not ready", "causes": causes}));
        std::future::ready((StatusCode::SERVICE_UNAVAILABLE, body).into_response())
    };
    let live = get(|| async { Json(json!({"status": "live"})) });
    let fallback = respond.clone();
    Router::new()
        .route("/health/live", live)
        .route(
            "/health/ready",
            get(move || -> std::future::Ready<Response> { respond() }),
        )
        .fallback(move || -> std::future::Ready<Response> { fallback() })
}
