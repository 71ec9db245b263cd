//! Test servers: an API with pages, and one that accepts posted records.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// A faulty response to one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    RetryAfter(&'static str),
    Html,
    /// A page with this cursor of the next page.
    NextCursor(u64),
}

/// A paged API of messages: `GET /messages` and `GET /messages/{cursor}`.
#[derive(Default)]
pub(crate) struct Messages {
    pub(crate) records: Mutex<Vec<Value>>,
    pub(crate) page: usize,
    pub(crate) token: Option<&'static str>,
    /// For the next requests, in order.
    pub(crate) faults: Mutex<VecDeque<Fault>>,
    /// For all later requests.
    pub(crate) always: Mutex<Option<Fault>>,
    /// Time and cursor of each request.
    pub(crate) asked: Mutex<Vec<(Instant, u64)>>,
}

impl Messages {
    pub(crate) fn with(records: usize, page: usize) -> Arc<Self> {
        let records = (0..records).map(|n| json!({ "id": n, "name": format!("n{n}") }));
        Arc::new(Self {
            records: Mutex::new(records.collect()),
            page,
            ..Self::default()
        })
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    pub(crate) fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The requested cursors in order.
    pub(crate) fn cursors(&self) -> Vec<u64> {
        self.asked.lock().unwrap().iter().map(|(_, c)| *c).collect()
    }

    fn answer(&self, cursor: u64, headers: &HeaderMap) -> Response {
        self.asked.lock().unwrap().push((Instant::now(), cursor));
        if let Some(token) = self.token
            && headers.get("x-auth-token").map(|v| v.as_bytes()) != Some(token.as_bytes())
        {
            return (StatusCode::UNAUTHORIZED, "no token").into_response();
        }
        let fault = self.faults.lock().unwrap().pop_front();
        let fault = fault.or_else(|| self.always.lock().unwrap().clone());
        let records = self.records.lock().unwrap();
        let from = usize::try_from(cursor).unwrap();
        let page: Vec<&Value> = records.iter().skip(from).take(self.page).collect();
        let mut next = (from + page.len()) as u64;
        match fault {
            Some(Fault::Status(status, text)) => {
                return (StatusCode::from_u16(status).unwrap(), text).into_response();
            }
            Some(Fault::RetryAfter(value)) => {
                let headers = [("retry-after", value)];
                return (StatusCode::TOO_MANY_REQUESTS, headers, "slow down").into_response();
            }
            Some(Fault::Html) => {
                let headers = [("content-type", "text/html")];
                return (headers, "<html><h1>Maintenance</h1></html>").into_response();
            }
            Some(Fault::NextCursor(cursor)) => next = cursor,
            None => {}
        }
        axum::Json(json!({ "results": page, "cursor": next })).into_response()
    }

    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let app = Router::new()
            .route(
                "/messages",
                get(async |State(api): State<Arc<Self>>, headers: HeaderMap| {
                    api.answer(0, &headers)
                }),
            )
            .route(
                "/messages/{cursor}",
                get(
                    async |State(api): State<Arc<Self>>,
                           Path(cursor): Path<u64>,
                           headers: HeaderMap| api.answer(cursor, &headers),
                ),
            )
            .with_state(Arc::clone(self));
        format!("http://{}", listen(app).await)
    }
}

/// An API that stores posted records, or rejects them.
pub(crate) struct PostApi {
    pub(crate) accepted: Mutex<Vec<Value>>,
    pub(crate) keys: Mutex<HashMap<String, usize>>,
    /// Number of rejections by `id` before the record is accepted.
    pub(crate) reject: Mutex<HashMap<i64, usize>>,
    /// The response body, as of a processing API.
    pub(crate) answer: fn(Value) -> String,
    /// Each request holds one permit while it is handled.
    pub(crate) permits: Semaphore,
}

impl PostApi {
    pub(crate) fn new(answer: fn(Value) -> String) -> Arc<Self> {
        Arc::new(Self {
            accepted: Mutex::default(),
            keys: Mutex::default(),
            reject: Mutex::default(),
            answer,
            permits: Semaphore::new(1000),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// The ids that were accepted, sorted.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let accepted = self.accepted.lock().unwrap();
        let mut ids: Vec<i64> = accepted.iter().map(|v| v["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    async fn handle(&self, headers: HeaderMap, body: Bytes) -> Response {
        let _held = self.permits.acquire().await.unwrap();
        let record: Value = serde_json::from_slice(&body).unwrap();
        let id = record["id"].as_i64().unwrap();
        if let Some(left) = self.reject.lock().unwrap().get_mut(&id)
            && *left > 0
        {
            *left -= 1;
            return (StatusCode::INTERNAL_SERVER_ERROR, "not now").into_response();
        }
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        *self.keys.lock().unwrap().entry(key).or_default() += 1;
        self.accepted.lock().unwrap().push(record.clone());
        (self.answer)(record).into_response()
    }

    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let app = Router::new()
            .route(
                "/",
                post(
                    async |State(api): State<Arc<Self>>, headers: HeaderMap, body: Bytes| {
                        api.handle(headers, body).await
                    },
                ),
            )
            .with_state(Arc::clone(self));
        format!("http://{}/", listen(app).await)
    }
}

/// Serves on a free local port until the test's runtime ends.
pub(crate) async fn listen(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}
