//! One sink with an open file, and the workers that deliver it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_connect::staging::{LocalStaging, Staging, StagingConfig};
use forebay_connect::table::sqlite::{SqliteConfig, SqliteTable};
use forebay_delivery::dead_letter::SinkDeadLetters;
use forebay_delivery::garbage_collector::{GarbageCollector, GarbageCollectorConfig};
use forebay_delivery::import::{Importer, TableRegistry};
use forebay_delivery::upload::Uploader;
use forebay_delivery::work_queue::{DeliveryContext, WorkConfig};
use forebay_ingest::pipeline::LocalLog;
use forebay_log::{Log, LogConfig, NewBlock, StdEnv};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, SinkContent, SourceContent};
use forebay_model::{
    Actor, AuditStamp, Backoff, BlockCompression, BranchId, BranchKey, ColumnKind, FileKey,
    HumanDuration, ManualClock, Mapping, MappingColumn, ProjectId, SinkId, SinkKey, SinkSettings,
    Slice, SourceId, SourceKey, SourceKind, Statistics, TableBackend, TableSink, Timestamp,
    VolumeId,
};
use forebay_record::{BlockEncoder, RowLimits, csv};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
pub(crate) const COMPRESSION: &str = "storage.level.local.encoding.compression.type";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) repo: Repo,
    pub(crate) log: Log,
    pub(crate) staging: Staging,
    pub(crate) tables: TableRegistry,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) file: FileKey,
    pub(crate) slice: Slice,
}

pub(crate) fn stamp() -> AuditStamp {
    AuditStamp {
        at: Timestamp::from_millis(1_800_000_000_000),
        by: Actor::system(),
    }
}

pub(crate) fn volume() -> VolumeId {
    VolumeId("vol".to_owned())
}

pub(crate) fn mapping() -> Mapping {
    let column = |name: &str| MappingColumn::new(name, ColumnKind::Body);
    Mapping {
        columns: vec![column("id"), column("text")],
    }
}

pub(crate) fn sink_key() -> SinkKey {
    let branch = BranchKey {
        project: ProjectId(1),
        branch: BranchId(1),
    };
    let source = SourceKey {
        branch,
        source: SourceId::from_raw("src"),
    };
    SinkKey {
        source,
        sink: SinkId::from_raw("snk"),
    }
}

impl World {
    /// A store with one sink and its open file, an empty log, staging and a database.
    pub(crate) async fn new() -> Self {
        Self::with("gzip").await
    }

    /// As [`Self::new`], with another compression.
    pub(crate) async fn with(compression: &str) -> Self {
        let local = |dir: &Path| StagingConfig::Local(LocalStaging::new(dir.join("staging")));
        Self::staging_in(compression, local).await
    }

    /// As [`Self::with`], with another staging, which may use a directory that no other test has.
    pub(crate) async fn staging_in(
        compression: &str,
        staging: impl Fn(&Path) -> StagingConfig,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path(), EmbeddedOptions::default()).unwrap();
        let repo = Repo::new(Arc::new(store), SinkSettings::default());
        let key = sink_key();
        repo.ensure_branch(&key.source.branch, true, &stamp())
            .await
            .unwrap();
        let source = SourceContent {
            kind: SourceKind::Http {
                secret: "s".repeat(48),
                verify: None,
            },
            name: "src".into(),
            description: String::new(),
            settings: [].into(),
            definition_set: None,
        };
        repo.create_source(&key.source, source, "New source.", &stamp())
            .await
            .unwrap();
        let table = TableSink {
            backend: TableBackend::Keboola,
            table: "in.b.t".parse().unwrap(),
            mapping: mapping(),
        };
        let sink = SinkContent {
            name: "snk".into(),
            description: String::new(),
            target: table.into(),
            settings: [(COMPRESSION.to_owned(), compression.into())].into(),
            definition_set: None,
        };
        repo.create_sink(&key, sink, "New sink.", &[volume()], &stamp())
            .await
            .unwrap();
        let active = repo.active_files(Some(&key)).await.unwrap().remove(0);
        let config = LogConfig {
            segment_size: 1 << 20,
            max_payload: 1 << 18,
            ..LogConfig::default()
        };
        let (log, _) =
            Log::open(Arc::new(StdEnv::default()), &dir.path().join("log"), config).unwrap();
        let staging = staging(dir.path());
        let table = SqliteTable::open(sqlite(dir.path())).unwrap();
        Self {
            repo,
            log,
            staging: Staging::open(&staging).unwrap(),
            tables: TableRegistry::new(TableBackend::Sqlite).with(Arc::new(table)),
            clock: Arc::new(ManualClock::new(stamp().at.plus(Duration::from_secs(60)))),
            file: active.file.key.clone(),
            slice: active.slices[0].slice.value.clone(),
            dir,
        }
    }

    /// Appends `blocks` blocks of `rows` rows each.
    pub(crate) async fn append(&self, blocks: u32, rows: u32) {
        let stream = self.log.stream(&self.slice.key.to_string()).unwrap();
        let mut encoder = BlockEncoder::new(self.slice.compression).unwrap();
        for block in 0..blocks {
            let mut raw = Vec::new();
            for row in 0..rows {
                let id = (block * rows + row).to_string();
                csv::write_row(
                    [id.as_bytes(), b"a \"text\"\nof two lines".as_slice()],
                    &mut raw,
                );
            }
            let payload = encoder.encode(&raw).unwrap();
            let raw_len = u32::try_from(raw.len()).unwrap();
            let new = NewBlock {
                stream,
                records: rows,
                codec: match self.slice.compression {
                    BlockCompression::None => 0,
                    BlockCompression::Gzip { .. } => 1,
                    BlockCompression::Zstd { .. } => 2,
                },
                raw_len,
                first_at_ms: 1,
                last_at_ms: 2,
                payload: payload.into(),
            };
            self.log.append(new).unwrap().await.unwrap();
        }
        self.log.close_stream(stream).unwrap().await.unwrap();
    }

    /// Closes the file and makes its slice ready for upload, with counts as the source would report
    /// them.
    pub(crate) async fn close(&self, records: u64, uncompressed_bytes: u64) {
        let now = self.clock.now_plus(1);
        self.repo
            .rotate_file(&self.file, &[volume()], now)
            .await
            .unwrap();
        let counts = Statistics {
            records,
            uncompressed_bytes,
            ..Statistics::default()
        };
        self.repo
            .slice_uploading(&self.slice.key, counts, now)
            .await
            .unwrap();
    }

    pub(crate) fn delivery(&self) -> DeliveryContext {
        let random = AtomicU64::new(1);
        DeliveryContext {
            repo: self.repo.clone(),
            clock: self.clock.clone(),
            random: Arc::new(move || random.fetch_add(1, Ordering::Relaxed)),
            backoff: Backoff::default(),
        }
    }

    pub(crate) fn dead_letters(&self) -> SinkDeadLetters {
        SinkDeadLetters {
            repo: self.repo.clone(),
            log: self.log.clone(),
            volume: volume(),
            appender: Arc::new(LocalLog::new(self.log.clone(), volume())),
            clock: self.clock.clone(),
            templates: None,
            random: Arc::new(|| 0),
            limits: RowLimits::default(),
            lock: Arc::default(),
        }
    }

    /// Redefines the sink with other columns or another table.
    pub(crate) async fn define(&self, columns: &[&str], table: &str) {
        let column = |name: &&str| MappingColumn::new(*name, ColumnKind::Body);
        let target = TableSink {
            backend: TableBackend::Keboola,
            table: table.parse().unwrap(),
            mapping: Mapping {
                columns: columns.iter().map(column).collect(),
            },
        };
        let change = |content: &mut SinkContent| {
            content.target = target.clone().into();
            Ok(())
        };
        self.repo
            .update_sink(&sink_key(), "Changed.", &[volume()], &stamp(), change)
            .await
            .unwrap();
    }

    /// Records that the project has filled the table.
    pub(crate) async fn own_table(&self) {
        let (project, backend) = (ProjectId(1), TableBackend::Keboola);
        let table = "in.b.t".parse().unwrap();
        self.repo
            .fill_table(project, backend, &table, false, &stamp())
            .await
            .unwrap();
    }

    pub(crate) fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(sqlite(self.dir.path()).path).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// Uploads the slice, ready for its import.
    pub(crate) async fn upload(&self) {
        let complete = self.repo.slice(&self.slice.key).await.unwrap();
        let object = self.uploader().upload(&complete).await.unwrap();
        let now = self.clock.now_plus(1);
        self.repo
            .slice_uploaded(&self.slice.key, object.staged, 0, now)
            .await
            .unwrap();
        self.repo.file_importing(&self.file, now).await.unwrap();
    }

    pub(crate) async fn failure(&self) -> Option<String> {
        let file = self.repo.file(&self.file).await.ok()?;
        file.value.retry.reason
    }

    pub(crate) fn uploader(&self) -> Uploader {
        Uploader::new(
            self.delivery(),
            self.log.clone(),
            volume(),
            self.staging.clone(),
            WorkConfig::default(),
        )
    }

    /// Runs uploader, importer and garbage collector until `done` holds.
    pub(crate) async fn run_until<F: Future<Output = bool>>(&self, done: impl Fn() -> F) {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (uploader, staging, tables) =
            (self.uploader(), self.staging.clone(), self.tables.clone());
        let importer = Importer::new(
            self.delivery(),
            staging.clone(),
            tables.clone(),
            uploader.clone(),
            "cluster",
            WorkConfig::default(),
        )
        .with_dead_letters(self.dead_letters());
        let garbage_collector = GarbageCollector::new(
            self.delivery(),
            self.log.clone(),
            volume(),
            staging,
            tables,
            "cluster",
            GarbageCollectorConfig {
                interval: HumanDuration::secs(1),
                ledger_interval: HumanDuration::secs(1),
            },
        );
        tasks.spawn(uploader.run(stop.clone()));
        tasks.spawn(importer.run(stop.clone()));
        tasks.spawn(garbage_collector.run(stop.clone()));
        let wait = async {
            while !done().await {
                // Transitions of the coordinator.
                drop(
                    self.repo
                        .file_importing(&self.file, self.clock.now_plus(1))
                        .await,
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(30), wait).await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        let files = self.repo.active_files(None).await.unwrap();
        assert!(in_time.is_ok(), "not done in time: {files:#?}");
    }

    pub(crate) async fn is_imported(&self) -> bool {
        self.repo.imported_file(&self.file).await.is_ok()
    }

    /// Damages the first `blocks` blocks of rows on the disk, under the open log.
    pub(crate) fn damage(&self, blocks: usize) {
        const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
        let path = self.dir.path().join("log/segment-0000000000000001.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        let starts = bytes.windows(3).enumerate().filter(|(_, w)| *w == GZIP);
        let places: Vec<usize> = starts.map(|(i, _)| i + 10).take(blocks).collect();
        assert_eq!(places.len(), blocks);
        for at in places {
            bytes[at] ^= 0xff;
        }
        std::fs::write(&path, bytes).unwrap();
    }

    /// No rows when there is no table.
    pub(crate) fn rows_or_none(&self) -> Vec<(String, String)> {
        let db = rusqlite::Connection::open(sqlite(self.dir.path()).path).unwrap();
        if db.table_exists(None, "in.b.t").unwrap() {
            return self.rows();
        }
        Vec::new()
    }

    pub(crate) fn rows(&self) -> Vec<(String, String)> {
        let db = rusqlite::Connection::open(sqlite(self.dir.path()).path).unwrap();
        let mut query = db
            .prepare("SELECT id, text FROM \"in.b.t\" ORDER BY rowid")
            .unwrap();
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        rows.map(Result::unwrap).collect()
    }
}

pub(crate) fn sqlite(dir: &Path) -> SqliteConfig {
    SqliteConfig::new(dir.join("tables.db"))
}

pub(crate) trait Later {
    fn now_plus(&self, ms: u64) -> Timestamp;
}

impl Later for ManualClock {
    fn now_plus(&self, ms: u64) -> Timestamp {
        forebay_model::Clock::now(self).plus(Duration::from_millis(ms))
    }
}

/// Bytes of CSV that [`World::append`] makes.
pub(crate) fn csv_bytes(rows: u32) -> u64 {
    let mut raw = Vec::new();
    for row in 0..rows {
        csv::write_row(
            [
                row.to_string().as_bytes(),
                b"a \"text\"\nof two lines".as_slice(),
            ],
            &mut raw,
        );
    }
    raw.len() as u64
}
