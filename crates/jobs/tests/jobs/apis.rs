//! Servers of the tests: an API with pages, and one that records are posted to.

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

/// What an API answers to one request in place of what it should.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Status(u16, &'static str),
    RetryAfter(&'static str),
    Html,
    /// A page that names this cursor as the next one.
    NextCursor(u64),
}

/// An API of messages: page by page, `GET /messages` and `GET /messages/{cursor}`.
#[derive(Default)]
pub(crate) struct Messages {
    pub(crate) records: Mutex<Vec<Value>>,
    pub(crate) page: usize,
    pub(crate) token: Option<&'static str>,
    /// For the next requests, in order.
    pub(crate) faults: Mutex<VecDeque<Fault>>,
    /// For all requests after those.
    pub(crate) always: Mutex<Option<Fault>>,
    /// When and for which cursor it was asked.
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

    /// Cursors that were answered with a page: each once, when nothing is read twice.
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

/// An API that takes posted records: it keeps them, or answers with something else.
pub(crate) struct Taker {
    pub(crate) taken: Mutex<Vec<Value>>,
    pub(crate) keys: Mutex<HashMap<String, usize>>,
    /// How often a record with this `id` is refused before it is taken.
    pub(crate) refuse: Mutex<HashMap<i64, usize>>,
    /// Answered with success, as a processing API does.
    pub(crate) answer: fn(Value) -> String,
    /// Each request holds one while it is answered.
    pub(crate) gate: Semaphore,
}

impl Taker {
    pub(crate) fn new(answer: fn(Value) -> String) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            keys: Mutex::default(),
            refuse: Mutex::default(),
            answer,
            gate: Semaphore::new(1000),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    /// The ids that were taken, in order of their numbers.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let taken = self.taken.lock().unwrap();
        let mut ids: Vec<i64> = taken.iter().map(|v| v["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        ids
    }

    async fn take(&self, headers: HeaderMap, body: Bytes) -> Response {
        let _held = self.gate.acquire().await.unwrap();
        let record: Value = serde_json::from_slice(&body).unwrap();
        let id = record["id"].as_i64().unwrap();
        if let Some(left) = self.refuse.lock().unwrap().get_mut(&id)
            && *left > 0
        {
            *left -= 1;
            return (StatusCode::INTERNAL_SERVER_ERROR, "not now").into_response();
        }
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        *self.keys.lock().unwrap().entry(key).or_default() += 1;
        self.taken.lock().unwrap().push(record.clone());
        (self.answer)(record).into_response()
    }

    pub(crate) async fn serve(self: &Arc<Self>) -> String {
        let app = Router::new()
            .route(
                "/",
                post(
                    async |State(api): State<Arc<Self>>, headers: HeaderMap, body: Bytes| {
                        api.take(headers, body).await
                    },
                ),
            )
            .with_state(Arc::clone(self));
        format!("http://{}/", listen(app).await)
    }
}

/// Serves on a free port of this machine, until the test's runtime ends.
pub(crate) async fn listen(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}
