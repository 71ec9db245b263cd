//! The lookup service: returns rows of tables by key, as JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use forebay_connect::keyed::{CellValue, DataType, KeyedTable, TableSchema};
use forebay_listener::{Listener, ListenerLimits, ListenerMetrics, ListenerOptions, RouterService};
use metrics::{Counter, Histogram, counter, gauge, histogram};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::definition::LookupConfig;
use crate::store;

mod cache;
mod health;
mod openapi;
mod response;
mod row;

use cache::LookupCache;
use health::LookupHealth;
use response::{JSON, build_response, error_response, unavailable};
use row::{RenderedRow, quoted};

/// Rows that are read and not yet sent, over all requests. The table may be faster than the responses,
/// and each stream of a connection may wait for a large row: further requests wait before they read.
const ROWS_READ_MAX: usize = 64;

/// The lookup service, ready to listen.
pub struct LookupService {
    router: Router,
    limits: ListenerLimits,
}

/// A table served under a path.
struct ServedTable {
    store: Arc<dyn KeyedTable>,
    shape: Arc<TableSchema>,
    /// Column names as JSON strings.
    names: Vec<String>,
    path: String,
    timeout: Duration,
    read_permits: Arc<Semaphore>,
    cache: LookupCache,
    /// Counts responses with a row, the common case.
    ok_responses: Counter,
    duration: Histogram,
}

/// Error of starting the service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupStartError(String);

impl LookupService {
    /// Checks the tables. `metrics` returns the metrics of the process as text.
    ///
    /// # Errors
    /// A table does not exist, can't be read or has another key.
    pub async fn new(
        config: &LookupConfig,
        metrics: Arc<dyn Fn() -> String + Send + Sync>,
    ) -> Result<Self, LookupStartError> {
        let store = store::open(&config.store).map_err(LookupStartError)?;
        let mut router = Router::new();
        let mut shapes = Vec::new();
        let read_permits = Arc::new(Semaphore::new(ROWS_READ_MAX));
        for route in &config.routes {
            let shape = store.describe(&route.table).await;
            let shape = shape.map_err(|e| LookupStartError(e.to_string()))?;
            let Some(mut shape) = shape else {
                let location = store.display_name();
                let text = format!("there is no table \"{}\" in {location}", route.table);
                return Err(LookupStartError(text));
            };
            check_key(&shape, route.key.as_deref())?;
            mark_json(&mut shape, &route.json)?;
            shapes.push((route.path.clone(), shape.clone()));
            let served = Arc::new(ServedTable {
                store: Arc::clone(&store),
                names: shape.columns.iter().map(|c| quoted(&c.name)).collect(),
                shape: Arc::new(shape),
                path: route.path.clone(),
                timeout: config.timeout.0,
                read_permits: Arc::clone(&read_permits),
                cache: LookupCache::new(config.cache),
                ok_responses: counter!(REQUESTS, "path" => route.path.clone(), "status" => "200"),
                duration: histogram!(DURATION, "path" => route.path.clone()),
            });
            let path = format!("{}/{{key}}", route.path);
            router = router.merge(Router::new().route(&path, get(look_up)).with_state(served));
        }
        let document = Bytes::from(openapi::document(&shapes).to_string());
        let health = Arc::new(LookupHealth::new(store));
        let router = router
            .route(
                "/health",
                get(move || async move { health.respond().await }),
            )
            .route(
                "/metrics",
                get(move || async move {
                    let kind = "text/plain; version=0.0.4";
                    build_response(StatusCode::OK, kind, Bytes::from(metrics()))
                }),
            )
            .route(
                "/openapi.json",
                get(move || async move { build_response(StatusCode::OK, JSON, document) }),
            )
            .fallback(|| async {
                error_response(StatusCode::NOT_FOUND, "notFound", "there is no such route")
            })
            .method_not_allowed_fallback(|| async {
                let (status, text) = (
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET and HEAD are allowed",
                );
                let mut response = error_response(status, "methodNotAllowed", text);
                let allowed = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(header::ALLOW, allowed);
                response
            });
        let limits = config.limits;
        Ok(Self { router, limits })
    }

    /// Serves until the listener is stopped. Must be called within a tokio runtime.
    #[must_use]
    pub fn serve(self, socket: tokio::net::TcpListener) -> Listener {
        let options = ListenerOptions {
            limits: self.limits,
            tls: None,
            exempt: None,
            has_date: true,
            metrics: ListenerMetrics {
                connections: gauge!("forebay_lookup_connections"),
                rejected: counter!("forebay_lookup_connections_rejected_total"),
            },
        };
        let service = RouterService::new(self.router, "", &self.limits);
        Listener::start(socket, options, service)
    }
}

/// Marks text columns as JSON.
fn mark_json(shape: &mut TableSchema, names: &[String]) -> Result<(), LookupStartError> {
    for name in names {
        let column = shape.columns.iter_mut().find(|c| c.name == *name);
        match column {
            Some(column) if matches!(column.kind, DataType::Text | DataType::Json) => {
                column.kind = DataType::Json;
            }
            Some(column) => {
                let text = format!(
                    "column \"{name}\" is {}, but JSON must be stored as text",
                    column.kind
                );
                return Err(LookupStartError(text));
            }
            None => {
                let text = format!("table \"{}\" has no column \"{name}\"", shape.table);
                return Err(LookupStartError(text));
            }
        }
    }
    Ok(())
}

fn check_key(shape: &TableSchema, wanted: Option<&str>) -> Result<(), LookupStartError> {
    let names: Vec<&str> = shape.key().map(|c| c.name.as_str()).collect();
    let invalid = |text: String| {
        Err(LookupStartError(format!(
            "table \"{}\" {text}",
            shape.table
        )))
    };
    match (names.as_slice(), wanted) {
        ([one], None) if !one.is_empty() => Ok(()),
        ([one], Some(wanted)) if *one == wanted => Ok(()),
        ([one], Some(wanted)) => invalid(format!(
            "has the key {one}, but the configuration has {wanted}: rows can be looked up only by the key"
        )),
        (many, _) => invalid(format!(
            "has a key of {} ({}), but a path holds one",
            forebay_model::words::counted(many.len(), "column"),
            many.join(", ")
        )),
    }
}

const REQUESTS: &str = "forebay_lookup_requests_total";
const DURATION: &str = "forebay_lookup_duration_seconds";

/// `GET /product/{id}`.
async fn look_up(
    State(served): State<Arc<ServedTable>>,
    key: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response<Body> {
    let begin = Instant::now();
    let response = match key {
        Ok(Path(text)) => served.respond(&text, &headers).await,
        // The only error of a single string parameter.
        Err(_) => {
            let text = "the key in the path is not UTF-8";
            error_response(StatusCode::BAD_REQUEST, "badRequest", text)
        }
    };
    if response.status() == StatusCode::OK {
        served.ok_responses.increment(1);
    } else {
        let (path, status) = (served.path.clone(), response.status().as_str().to_owned());
        counter!(REQUESTS, "path" => path, "status" => status).increment(1);
    }
    served.duration.record(begin.elapsed().as_secs_f64());
    response
}

impl ServedTable {
    async fn respond(&self, text: &str, headers: &HeaderMap) -> Response<Body> {
        let Some(column) = self.shape.key().next() else {
            return error_response(StatusCode::NOT_FOUND, "notFound", "the table has no key");
        };
        let key = match CellValue::parse(column.kind, text) {
            Ok(key) => key,
            Err(e) => {
                let text = format!("{}: {}", column.name, forebay_model::words::short(&e));
                return error_response(StatusCode::BAD_REQUEST, "badRequest", &text);
            }
        };
        let shown = key.to_string();
        let missing = || {
            let shown = forebay_model::words::short(&shown);
            let text = format!("there is no row with {} {shown}", column.name);
            error_response(StatusCode::NOT_FOUND, "notFound", &text)
        };
        if text.contains('\0') {
            // No store can hold a NUL, and some fail on the query.
            return missing();
        }
        if let Some(found) = self.cache.get(&shown) {
            counter!("forebay_lookup_cache_hits_total", "path" => self.path.clone()).increment(1);
            return found.to_response(headers);
        }
        let get = async {
            let permit = self.read_permits.acquire().await;
            (self.store.get(&self.shape, &[key]).await, permit)
        };
        let result = tokio::time::timeout(self.timeout, get).await;
        // The permit is held until the response is built.
        let (result, _permit) = match result {
            Ok((row, permit)) => (Ok(row), permit.ok()),
            Err(elapsed) => (Err(elapsed), None),
        };
        match result {
            Ok(Ok(Some(row))) => {
                let found = Arc::new(RenderedRow::new(&self.names, &self.shape, &row));
                self.cache.put(shown.clone(), &found);
                found.to_response(headers)
            }
            Ok(Ok(None)) => missing(),
            // The cause is for the operator, not for the client.
            Ok(Err(error)) => {
                tracing::warn!(%error, "row lookup failed");
                unavailable()
            }
            Err(_) => {
                tracing::warn!(timeout = ?self.timeout, "row lookup timed out");
                unavailable()
            }
        }
    }
}
