//! Liveness and readiness: `/health/live` and `/health/ready`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use forebay_log::Log;
use forebay_meta::{Repo, Revision};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::definitions::FollowerState;

/// How long a check waits for the metadata store.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// Progress of the source: `None` until its routes are in force.
pub(crate) type RouteProgress = watch::Receiver<Option<Revision>>;

/// State that readiness depends on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HealthChecks {
    repo: Repo,
    log: Log,
    /// Definitions that the server applies itself.
    definitions: FollowerState,
    progress: Option<RouteProgress>,
}

impl HealthChecks {
    pub(crate) fn new(repo: &Repo, log: &Log, definitions: &FollowerState) -> Self {
        Self {
            repo: repo.clone(),
            log: log.clone(),
            definitions: definitions.clone(),
            progress: None,
        }
    }

    /// Adds the source of this node, which must follow the store.
    pub(crate) fn set_route_progress(&mut self, progress: RouteProgress) {
        self.progress = Some(progress);
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route(
                "/health/live",
                get(|| async { Json(json!({"status": "live"})) }),
            )
            .route("/health/ready", get(ready))
            .with_state(self)
    }

    /// Problems of a metadata store that may recover. The node accepts records without it, and
    /// without any node that is ready nobody does: so it stays ready.
    async fn store_problems(&self) -> Vec<Value> {
        match timeout(STORE_TIMEOUT, self.repo.nodes()).await {
            Ok(Err(error)) => vec![json!({"part": "store", "cause": error.to_string()})],
            Ok(Ok(_)) | Err(_) => Vec::new(),
        }
    }

    /// State of the definitions of the configured folder, if there is one. Records are accepted by the
    /// former definitions, so an error does not make the node unready. The details are for operators:
    /// `forebay status`.
    fn definitions(&self) -> Option<Value> {
        let view = self.definitions.view()?;
        let error = view.error.as_deref();
        let cause = error.map(|e| e.lines().next().unwrap_or_default());
        Some(json!({"appliedAt": view.applied_at, "error": cause}))
    }

    /// All reasons why the node should get no traffic now.
    fn causes(&self) -> Vec<Value> {
        let mut causes = Vec::new();
        if let Err(error) = self.repo.store().health() {
            let cause = format!(
                "{error}; records are still accepted, but not uploaded or imported; restart the process after the disk is repaired"
            );
            causes.push(json!({"part": "store", "cause": cause}));
        }
        if let Err(latched) = self.log.health() {
            let cause = format!("{latched}; restart the process after the disk is repaired");
            causes.push(json!({"part": "log", "cause": cause}));
        } else {
            let stats = self.log.volume_stats();
            if let Some(full) = crate::disk_housekeeping::check_full(&stats) {
                let volume = format!("{:016x}", stats.volume);
                causes.push(
                    json!({"part": "log", "volume": volume, "cause": full.to_string(),
                    "availableBytes": full.available, "neededBytes": full.needed}),
                );
            }
        }
        if self.progress.as_ref().is_some_and(|p| p.borrow().is_none()) {
            causes.push(json!({"part": "source", "cause": "definitions are being loaded"}));
        }
        causes
    }
}

async fn ready(State(health): State<HealthChecks>) -> Response {
    let causes = health.causes();
    let mut body = json!({"status": "ready"});
    if let Some(definitions) = health.definitions() {
        body["definitions"] = definitions;
    }
    if !causes.is_empty() {
        body["status"] = json!("not ready");
        body["causes"] = json!(causes);
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    let problems = health.store_problems().await;
    if !problems.is_empty() {
        body["problems"] = json!(problems);
    }
    Json(body).into_response()
}
