//! An API on a store in a temporary directory, with one volume and a small mapper.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use forebay_meta::catalog::runtime::{Node, RegisteredVolume};
use forebay_meta::kv::store::LeaseId;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo};
use forebay_model::quota::Quotas;
use forebay_model::{
    Clock, DefinitionLimits, ManualClock, NodeId, SinkSettings, TableBackend, Timestamp, VolumeId,
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use rand::{RngCore, SeedableRng};
use serde_json::Value;
use tower::ServiceExt;

use super::responses::ResponseChecker;
use super::status::OneVolume;
use crate::api::{Api, ApiConfig, ApiDeps};
use crate::auth::{ConfiguredTokens, StoredTokens, TokenConfig};
use crate::sink_monitor::{SinkMonitor, SinkMonitorDeps};

mod fakes;

use fakes::{OneDeadLetter, OnePath, OneProvider, OneTap, Only, SmallMapper, WatchedTables};

pub(super) const NODE: &str = "n1";
pub(super) const S: &str = "/v1/branches/default/sources";

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Asserts an error.
    #[track_caller]
    pub(super) fn is_error(&self, status: u16, name: &str, message: &str) {
        let body = self.json();
        let name = if name.contains('.') {
            name.to_owned()
        } else {
            format!("stream.api.{name}")
        };
        assert_eq!(body["message"], message, "{self:?}");
        assert_eq!(body["error"], name);
        assert_eq!(body["statusCode"], status);
        assert_eq!(self.status.as_u16(), status);
        assert_eq!(self.header("content-type"), "application/json");
    }

    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }
}

pub(super) struct World {
    pub(super) api: Api,
    pub(super) router: Router,
    pub(super) repo: Repo,
    pub(super) clock: Arc<ManualClock>,
    pub(super) lease: LeaseId,
    pub(super) tables: Arc<WatchedTables>,
    responses: ResponseChecker,
    _dir: tempfile::TempDir,
}

fn token(id: &str, project: u64, branch: u64, admin: bool) -> TokenConfig {
    TokenConfig {
        id: id.to_owned(),
        project,
        branch,
        description: format!("Token {id}"),
        admin,
        operator: id == "operator",
        owner_id: None,
        owner_name: None,
        sha256: ConfiguredTokens::hash(id.as_bytes()),
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Tokens equal their ids: `admin`, `reader` and `operator` of project 123, `other` of project
    /// 456.
    pub(super) async fn with(change: impl FnOnce(&mut ApiConfig)) -> Self {
        let world = Self::without_volume(change).await;
        world.add_volume().await;
        world
    }

    async fn add_volume(&self) {
        let volume = RegisteredVolume {
            id: VolumeId("vol1".to_owned()),
            node: NodeId(NODE.to_owned()),
        };
        let registered = self.repo.register_volume(&volume, self.lease);
        registered.await.unwrap();
    }

    pub(super) async fn without_volume(change: impl FnOnce(&mut ApiConfig)) -> Self {
        Self::build(DefinitionLimits::default(), change).await
    }

    /// With the given limits of definitions.
    pub(super) async fn limited(
        limits: DefinitionLimits,
        change: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        let world = Self::build(limits, change).await;
        world.add_volume().await;
        world
    }

    async fn build(limits: DefinitionLimits, change: impl FnOnce(&mut ApiConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        let repo = Repo::new(Arc::new(store), SinkSettings::default()).with_limits(limits);
        let lease = repo.store().grant(Duration::from_secs(600)).await.unwrap();
        let clock = Arc::new(ManualClock::new(
            "2026-01-02T03:04:05.678Z".parse().unwrap(),
        ));
        let node = Node {
            id: NodeId(NODE.to_owned()),
            started_at: Timestamp::MIN,
            roles: vec![],
        };
        repo.register_node(&node, lease).await.unwrap();
        let tokens = [
            token("admin", 123, 111, true),
            token("reader", 123, 111, false),
            token("other", 456, 222, true),
            token("operator", 123, 111, true),
        ];
        let mut config = ApiConfig {
            public_url: "https://stream.example/".to_owned(),
            source_public_url: "https://in.example".to_owned(),
            ..ApiConfig::default()
        };
        change(&mut config);
        let tables = Arc::new(WatchedTables::open(dir.path(), &repo));
        let monitor = SinkMonitor::new(SinkMonitorDeps {
            repo: repo.clone(),
            topics: Arc::new(OneProvider),
            clock: clock.clone(),
            interval: Duration::from_secs(5),
        });
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let api = Api::new(ApiDeps {
            repo: repo.clone(),
            mapper: Arc::new(SmallMapper),
            dead_letters: Arc::new(OneDeadLetter),
            auth: Arc::new(StoredTokens::new(
                ConfiguredTokens::new(&tokens).unwrap(),
                repo.clone(),
                clock.clone(),
            )),
            clock: clock.clone(),
            random: Box::new(move || random.next_u64()),
            node: node.id,
            backends: BTreeSet::from([TableBackend::Sqlite]),
            tables: Arc::new(Only(tables.clone())),
            quotas: Quotas::default(),
            topics: Arc::new(OneProvider),
            path_uses: Arc::new(OnePath),
            taps: Arc::new(OneTap),
            monitor,
            node_status: Arc::new(OneVolume),
            config,
        });
        Self {
            router: api.router(),
            responses: ResponseChecker::of(&api),
            api,
            repo,
            clock,
            lease,
            tables,
            _dir: dir,
        }
    }

    /// Checks the response against the document.
    pub(super) async fn send(&self, request: Request<Body>) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        };
        self.responses.check(&method, &path, &reply);
        reply
    }

    /// Sends a request as the project's admin.
    pub(super) async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        self.call_as("admin", method, path, body).await
    }

    pub(super) async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("X-StorageApi-Token", token);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body.to_string()).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, body.to_string()).await
    }

    pub(super) async fn put(&self, path: &str) -> Reply {
        self.call(Method::PUT, path, Body::empty()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, Body::empty()).await
    }

    /// Polls the task of an accepted request until it is finished.
    #[track_caller]
    pub(super) fn finish(&self, reply: &Reply) -> impl Future<Output = Value> {
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
        let url = reply.json()["url"].as_str().unwrap().to_owned();
        let path = url
            .strip_prefix("https://stream.example")
            .unwrap()
            .to_owned();
        async move {
            let finished = async {
                loop {
                    let task = self.get(&path).await.ok();
                    if task["isFinished"] == true {
                        return task;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let finished = tokio::time::timeout(Duration::from_secs(20), finished);
            finished.await.expect("the task finishes")
        }
    }

    /// Asserts that the task succeeds.
    pub(super) async fn done(&self, reply: Reply) -> Value {
        let task = self.finish(&reply).await;
        assert_eq!(task["status"], "success", "{task}");
        task
    }

    pub(super) fn now(&self) -> String {
        self.clock.now().to_string()
    }
}

/// A request without headers.
pub(super) fn bare(method: Method, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request.body(Body::empty()).unwrap()
}

/// A request with a content type.
pub(super) fn typed(method: Method, path: &str, kind: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("X-StorageApi-Token", "admin");
    let request = request.header(header::CONTENT_TYPE, kind);
    request.body(Body::from(body.to_owned())).unwrap()
}
