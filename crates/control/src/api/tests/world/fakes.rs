//! Tables, mapper and services of the API under test.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use forebay_connect::table::sqlite::{SqliteConfig, SqliteTable};
use forebay_connect::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};
use forebay_meta::Repo;
use forebay_model::{
    CauseReport, ColumnKind, DeadLetterFacts, DeadLetterFilter, DeadLetterId, Mapping,
    PathColumnUse, PathUse, ReplayedRow, Sink, SinkKey, SinkTarget, TableBackend, TableId,
    Timestamp, TopicKind, TopicState, TopicStatistics, VolumeId,
};
use futures::StreamExt;
use parking_lot::Mutex;

use crate::api::{
    ColumnProblem, DeadLetterEntries, DeadLetterEntry, DeadLetterQuery, DeadLetterReplay,
    DeadLetterSelection, DeadLetterService, DeadLetterServiceError, DiscardSummary, Mapper,
    PathUses, ReplaySummary, TableBackends, TapError, TapRequest, TapService, TapStream, TestCell,
    TestError, TestRecord, TestTable, TopicService,
};

/// Tables of an embedded database. Records dropped tables, and can be made unavailable.
pub(in crate::api::tests) struct WatchedTables {
    pub(in crate::api::tests) sqlite: SqliteTable,
    pub(in crate::api::tests) dropped: Mutex<Vec<String>>,
    pub(in crate::api::tests) is_unavailable: AtomicBool,
    repo: Repo,
}

impl WatchedTables {
    pub(super) fn open(dir: &Path, repo: &Repo) -> Self {
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
        self.dropped.lock().push(table.to_string());
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
pub(super) struct Only(pub(super) Arc<WatchedTables>);

impl TableBackends for Only {
    fn get(&self, backend: TableBackend) -> Option<Arc<dyn Table>> {
        (backend != TableBackend::Postgres).then(|| Arc::clone(&self.0) as Arc<dyn Table>)
    }
}

/// Knows one invalid template, and renders the columns of a record.
pub(super) struct SmallMapper;

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
pub(super) struct OneProvider;

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

    fn retry(&self, _: &SinkKey) {}

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
pub(super) struct OnePath;

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
pub(super) struct OneDeadLetter;

impl OneDeadLetter {
    fn facts() -> DeadLetterFacts<'static> {
        DeadLetterFacts {
            received: Timestamp::MIN,
            column: "c",
            error: "pathNotFound",
            message: "Column \"c\": path \"x\" not found in the body.".into(),
            body: b"\xff",
        }
    }

    fn dead_letter() -> DeadLetterEntry {
        let facts = Self::facts();
        DeadLetterEntry {
            id: DeadLetterId {
                volume: VolumeId("vol1".to_owned()),
                number: 7,
            },
            received_at: facts.received,
            client_ip: "1.2.3.4".to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
            line: Some(3),
            body: vec![0xff].into(),
            column: facts.column.to_owned(),
            error: facts.error.to_owned(),
            cause: facts.cause(),
            message: facts.message.into_owned(),
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
        query: &DeadLetterQuery,
        limit: usize,
    ) -> Result<DeadLetterEntries, DeadLetterServiceError> {
        let chosen = Self::chosen(&query.selection)?;
        let passes = query.filter.matches(&Self::facts());
        let found = chosen.iter().take(limit).filter(|_| passes);
        Ok(DeadLetterEntries {
            entries: found.map(|_| Self::dead_letter()).collect(),
            // As if there were more to read.
            more_after: (!passes).then(|| Self::dead_letter().id),
        })
    }

    async fn causes(
        &self,
        _: &SinkKey,
        after: Option<&DeadLetterId>,
        filter: &DeadLetterFilter,
    ) -> Result<CauseReport<DeadLetterId>, DeadLetterServiceError> {
        let chosen = Self::chosen(&DeadLetterSelection::After(after.cloned()))?;
        let mut report = CauseReport::default();
        if !chosen.is_empty() && filter.matches(&Self::facts()) {
            report.count(7, &Self::facts(), 1);
        }
        Ok(report.map(|_| Self::dead_letter().id))
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
        replay: &DeadLetterReplay,
    ) -> Result<ReplaySummary, DeadLetterServiceError> {
        let chosen = Self::chosen(&replay.query.selection)?;
        let mended = replay
            .edits
            .values()
            .any(|e| e.body.as_deref() == Some(b"fixed"));
        let done = if mended { chosen.clone() } else { Vec::new() };
        let rejected = if mended { Vec::new() } else { chosen };
        Ok(ReplaySummary {
            replayed: done.len() as u64,
            rejected: rejected
                .into_iter()
                .map(|id| (id, "still".to_owned()))
                .collect(),
            skipped: Vec::new(),
            rows: match replay.dry_run {
                true => done
                    .into_iter()
                    .map(|id| ReplayedRow {
                        id,
                        cells: vec![("c".to_owned(), b"1".to_vec())],
                    })
                    .collect(),
                false => Vec::new(),
            },
            more_after: None,
        })
    }

    async fn discard(
        &self,
        _: &SinkKey,
        query: &DeadLetterQuery,
    ) -> Result<DiscardSummary, DeadLetterServiceError> {
        let chosen = Self::chosen(&query.selection)?;
        Ok(DiscardSummary {
            dropped: chosen.len() as u64,
            more_after: chosen.into_iter().next(),
        })
    }
}

/// A tap with one line; a filter `full` finds too many open.
pub(super) struct OneTap;

impl TapService for OneTap {
    fn open(&self, request: TapRequest) -> Result<TapStream, TapError> {
        match request.filter.as_str() {
            "full" => Err(TapError::TooMany(4)),
            "wrong" => Err(TapError::Invalid("filter \"wrong\"".to_owned())),
            _ => {
                let line = Bytes::from_static(b"{\"lost\":0}\n");
                Ok(futures::stream::iter([line]).boxed())
            }
        }
    }
}
