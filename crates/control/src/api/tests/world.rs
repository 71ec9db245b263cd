//! An API on a store in a temporary directory, with one volume and a small mapper.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use forebay_connect::table::sqlite::{SqliteConfig, SqliteTable};
use forebay_connect::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};
use forebay_meta::catalog::runtime::{Node, RegisteredVolume};
use forebay_meta::kv::store::LeaseId;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo};
use forebay_model::quota::Quotas;
use forebay_model::{
    Clock, ColumnKind, DeadLetterId, DefinitionLimits, ManualClock, Mapping, NodeId, PathColumnUse,
    PathUse, Sink, SinkKey, SinkSettings, SinkTarget, TableBackend, TableId, Timestamp, TopicKind,
    TopicState, TopicStatistics, VolumeId,
};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use rand::{RngCore, SeedableRng};
use serde_json::Value;
use tower::ServiceExt;

use super::responses::ResponseChecker;
use crate::api::{
    Api, ApiConfig, ApiDeps, ColumnProblem, DeadLetterEntry, DeadLetterSelection,
    DeadLetterService, DeadLetterServiceError, DiscardSummary, Mapper, PathUses, ReplaySummary,
    TableBackends, TestCell, TestError, TestRecord, TestTable, TopicService,
};
use crate::auth::{ConfiguredTokens, StoredTokens, TokenConfig};

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

/// Tables of an embedded database. Records dropped tables, and can be made unavailable.
pub(super) struct WatchedTables {
    pub(super) sqlite: SqliteTable,
    pub(super) dropped: Mutex<Vec<String>>,
    pub(super) is_unavailable: AtomicBool,
    repo: Repo,
}

impl WatchedTables {
    fn open(dir: &Path, repo: &Repo) -> Self {
        let config = SqliteConfig::new(dir.join("tables.db"));
        Self {
            sqlite: SqliteTable::open(config).unwrap(),
            dropped: Mutex::default(),
            is_unavailable: AtomicBool::default(),
            repo: repo.clone(),
        }
    }

    /// Asserts the state of a dropped table, before and after the drop.
    async fn is_free(&self, table: &TableId) {
        let entry = self.repo.table_entry(TableBackend::Sqlite, table).await;
        let entry = entry.unwrap().expect("a dropped table has an owner");
        assert!(entry.dropping.is_some(), "{entry:?}");
        let holders = self.repo.table_holders(&entry).await.unwrap();
        let nobody = holders.sinks.is_empty() && holders.files.is_empty();
        assert!(nobody, "{table} is dropped and held by {holders:?}");
    }

    fn reached(&self) -> Result<&SqliteTable, TableError> {
        if self.is_unavailable.load(Ordering::Relaxed) {
            let text = "the database is unavailable".to_owned();
            return Err(TableError::Retryable(text));
        }
        Ok(&self.sqlite)
    }
}

#[async_trait]
impl Table for WatchedTables {
    fn backend(&self) -> TableBackend {
        TableBackend::Sqlite
    }

    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<InspectionFinding> {
        self.sqlite.check_names(table, mapping)
    }

    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError> {
        self.reached()?.inspect(table, mapping).await
    }

    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
        self.reached()?.prepare(table, mapping).await
    }

    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError> {
        self.reached()?.import(import, rows).await
    }

    async fn delete(&self, table: &TableId) -> Result<(), TableError> {
        self.is_free(table).await;
        self.reached()?.delete(table).await?;
        self.is_free(table).await;
        self.dropped.lock().unwrap().push(table.to_string());
        Ok(())
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        self.reached()?.forget(imports).await
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.reached()?.imported(import_id).await
    }

    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        self.reached()?.missing_imports(imports).await
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        self.reached()?.ledger(after, limit).await
    }

    async fn check(&self) -> Result<(), TableError> {
        self.reached()?.check().await
    }
}

/// The only backend.
struct Only(Arc<WatchedTables>);

impl TableBackends for Only {
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>> {
        (backend != TableBackend::Postgres).then(|| Arc::clone(&self.0) as Arc<dyn Table>)
    }
}

/// Knows one invalid template, and renders the columns of a record.
struct SmallMapper;

#[async_trait]
impl Mapper for SmallMapper {
    fn check(&self, mapping: &Mapping) -> Vec<ColumnProblem> {
        let columns = mapping.columns.iter().filter(|c| match &c.kind {
            ColumnKind::Template(t) => t.content == "Invalid",
            _ => false,
        });
        let problem = |c: &forebay_model::MappingColumn| ColumnProblem {
            column: c.name.clone(),
            message: "1:1-8 Unknown variable: Invalid".to_owned(),
        };
        columns.map(problem).collect()
    }

    async fn row(&self, mapping: &Mapping, record: TestRecord) -> Result<Vec<TestCell>, TestError> {
        let body = String::from_utf8_lossy(&record.body).into_owned();
        if body == "refused" {
            return Err(TestError::Column {
                column: "path".to_owned(),
                message: "path \"key\" not found in the body".to_owned(),
            });
        }
        let cell = |c: &forebay_model::MappingColumn| TestCell {
            column: c.name.clone(),
            value: match c.kind {
                ColumnKind::Ip => record.ip.clone(),
                ColumnKind::Headers => format!("{:?}", record.headers),
                _ => body.clone(),
            },
        };
        Ok(mapping.columns.iter().map(cell).collect())
    }

    async fn test(&self, sinks: &[Sink], record: TestRecord) -> Result<Vec<TestTable>, TestError> {
        let body = String::from_utf8_lossy(&record.body).into_owned();
        match body.as_str() {
            "panic" => panic!("the mapper has a bug"),
            "hang" => std::future::pending().await,
            "internal" => return Err(TestError::Internal("no worker".to_owned())),
            "refused" => {
                return Err(TestError::Column {
                    column: "path".to_owned(),
                    message: "path \"key\" not found in the body".to_owned(),
                });
            }
            _ => {}
        }
        let mut headers: Vec<String> = record.headers.keys().map(ToString::to_string).collect();
        headers.sort();
        let cell = |c: &forebay_model::MappingColumn| TestCell {
            column: c.name.clone(),
            value: match c.kind {
                ColumnKind::Ip => record.ip.clone(),
                ColumnKind::Datetime => record.received_at.to_string(),
                ColumnKind::Headers => headers.join(","),
                _ => body.clone(),
            },
        };
        let table = |sink: &Sink| TestTable {
            sink: sink.key.clone(),
            table: match &sink.target {
                SinkTarget::Table(table) => table.table.to_string(),
                SinkTarget::Topic(topic) => topic.topic.clone(),
            },
            rows: vec![columns(sink).columns.iter().map(cell).collect()],
        };
        Ok(sinks.iter().map(table).collect())
    }
}

fn columns(sink: &Sink) -> Mapping {
    match &sink.target {
        SinkTarget::Table(table) => table.mapping.clone(),
        SinkTarget::Topic(topic) => topic.message.columns(),
    }
}

/// One provider `hook` of type http; built without Kafka.
struct OneProvider;

impl TopicService for OneProvider {
    fn providers(&self, kind: TopicKind) -> Result<Vec<String>, String> {
        match kind {
            TopicKind::Kafka => Err("built without Kafka".to_owned()),
            TopicKind::Http => Ok(vec!["hook".to_owned()]),
        }
    }

    fn headers(&self, provider: &str) -> Vec<String> {
        let names = [("hook", "X-Tenant")].into_iter();
        let of_it = names.filter(|(of, _)| *of == provider);
        of_it.map(|(_, name)| name.to_owned()).collect()
    }

    fn statistics(&self, sink: &Sink) -> TopicStatistics {
        TopicStatistics {
            accepted: 10,
            delivered: 6,
            dead: 1,
            discarded: 0,
            lost: 0,
            waiting: 3,
            waiting_bytes: 300,
            oldest_at: Some(Timestamp::from_millis(0)),
            in_flight: 2,
            retries: 1,
            state: if sink.paused.is_some() {
                TopicState::Paused
            } else {
                TopicState::Up
            },
        }
    }
}

/// One path per sink that never matched.
struct OnePath;

impl PathUses for OnePath {
    fn path_use(&self, _: &SinkKey) -> Option<PathUse> {
        Some(PathUse {
            since: Some(Timestamp::MIN),
            records: 5,
            columns: vec![PathColumnUse {
                column: "a".to_owned(),
                path: "$.a".to_owned(),
                missed: 5,
                found: false,
            }],
        })
    }
}

/// One dead letter, which every replay rejects again.
struct OneDeadLetter;

impl OneDeadLetter {
    fn dead_letter() -> DeadLetterEntry {
        DeadLetterEntry {
            id: DeadLetterId {
                volume: VolumeId("vol1".to_owned()),
                number: 7,
            },
            received_at: Timestamp::MIN,
            client_ip: "1.2.3.4".to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
            line: Some(3),
            body: vec![0xff].into(),
            column: "c".to_owned(),
            error: "pathNotFound".to_owned(),
            message: "Column \"c\": path \"x\" not found in the body.".to_owned(),
        }
    }

    fn chosen(
        selection: &DeadLetterSelection,
    ) -> Result<Vec<DeadLetterId>, DeadLetterServiceError> {
        let own = Self::dead_letter().id;
        match selection {
            DeadLetterSelection::After(None) => Ok(vec![own]),
            DeadLetterSelection::After(Some(after)) => {
                Ok(Some(own).filter(|o| o > after).into_iter().collect())
            }
            DeadLetterSelection::These(ids) => match ids.iter().find(|id| **id != own) {
                Some(other) => Err(DeadLetterServiceError::NotFound(other.clone())),
                None => Ok(ids.clone()),
            },
        }
    }
}

#[async_trait]
impl DeadLetterService for OneDeadLetter {
    async fn list(
        &self,
        _: &SinkKey,
        after: Option<&DeadLetterId>,
        limit: usize,
    ) -> Result<Vec<DeadLetterEntry>, DeadLetterServiceError> {
        let chosen = Self::chosen(&DeadLetterSelection::After(after.cloned()))?;
        Ok(chosen
            .iter()
            .take(limit)
            .map(|_| Self::dead_letter())
            .collect())
    }

    async fn get(
        &self,
        _: &SinkKey,
        id: &DeadLetterId,
    ) -> Result<DeadLetterEntry, DeadLetterServiceError> {
        Self::chosen(&DeadLetterSelection::These(vec![id.clone()]))?;
        Ok(Self::dead_letter())
    }

    async fn replay(
        &self,
        _: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<ReplaySummary, DeadLetterServiceError> {
        let rejected = Self::chosen(selection)?.into_iter();
        Ok(ReplaySummary {
            replayed: 0,
            rejected: rejected.map(|id| (id, "still".to_owned())).collect(),
            more_after: None,
        })
    }

    async fn discard(
        &self,
        _: &SinkKey,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardSummary, DeadLetterServiceError> {
        let chosen = Self::chosen(selection)?;
        Ok(DiscardSummary {
            dropped: chosen.len() as u64,
            more_after: chosen.into_iter().next(),
        })
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
