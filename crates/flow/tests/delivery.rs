//! From a closed stream to rows in the table: upload, import and what is taken away afterwards, on
//! the real log, store, staging folder and database. The transitions that the coordinator would
//! decide are made by hand.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_flow::deliver::{Delivery, WorkConfig};
use forebay_flow::import::{Importer, Tables};
use forebay_flow::janitor::{Janitor, JanitorConfig};
use forebay_flow::upload::Uploader;
use forebay_log::{Log, LogConfig, NewBlock, StdEnv};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, SinkContent, SourceContent};
use forebay_model::{
    Backoff, BranchId, BranchKey, By, Column, ColumnKind, Compression, FileKey, ManualClock,
    Mapping, ProjectId, SinkId, SinkKey, SinkSettings, Slice, SliceState, SourceId, SourceKey,
    SourceKind, Stamp, Statistics, TableBackend, TableSink, Timestamp, VolumeId,
};
use forebay_record::{Encoder, csv};
use forebay_remote::staging::{LocalStaging, Staging, StagingConfig};
use forebay_remote::table::sqlite::{SqliteConfig, SqliteTable};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct World {
    dir: TempDir,
    repo: Repo,
    log: Log,
    staging: Staging,
    tables: Tables,
    clock: Arc<ManualClock>,
    file: FileKey,
    slice: Slice,
}

fn stamp() -> Stamp {
    Stamp {
        at: Timestamp::from_millis(1_800_000_000_000),
        by: By::system(),
    }
}

fn volume() -> VolumeId {
    VolumeId("vol".to_owned())
}

fn mapping() -> Mapping {
    let column = |name: &str| Column {
        name: name.to_owned(),
        primary_key: false,
        kind: ColumnKind::Body,
    };
    Mapping {
        columns: vec![column("id"), column("text")],
    }
}

fn sink_key() -> SinkKey {
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
    async fn new() -> Self {
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
            },
            name: "src".into(),
            description: String::new(),
            settings: [].into(),
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
            settings: [].into(),
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
        let staging = StagingConfig::Local(LocalStaging::new(dir.path().join("staging")));
        let table = SqliteTable::open(sqlite(dir.path())).unwrap();
        Self {
            repo,
            log,
            staging: Staging::open(&staging).unwrap(),
            tables: Tables::new(TableBackend::Sqlite).with(Arc::new(table)),
            clock: Arc::new(ManualClock::at(stamp().at.plus(Duration::from_secs(60)))),
            file: active.file.key.clone(),
            slice: active.slices[0].slice.value.clone(),
            dir,
        }
    }

    /// Appends `blocks` blocks of `rows` rows each.
    async fn append(&self, blocks: u32, rows: u32) {
        let stream = self.log.stream(&self.slice.key.to_string()).unwrap();
        let mut encoder = Encoder::new(self.slice.compression).unwrap();
        assert!(matches!(self.slice.compression, Compression::Gzip { .. }));
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
                codec: 1,
                raw_len,
                first_at_ms: 1,
                last_at_ms: 2,
                payload: payload.into(),
            };
            self.log.append(new).unwrap().await.unwrap();
        }
        self.log.close_stream(stream).unwrap().await.unwrap();
    }

    /// Closes the file and lets its slice be uploaded, with counts as the source would report them.
    async fn close(&self, records: u64, uncompressed_bytes: u64) {
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

    fn delivery(&self) -> Delivery {
        let random = AtomicU64::new(1);
        Delivery {
            repo: self.repo.clone(),
            clock: self.clock.clone(),
            random: Arc::new(move || random.fetch_add(1, Ordering::Relaxed)),
            backoff: Backoff::default(),
        }
    }

    fn uploader(&self) -> Uploader {
        Uploader::new(
            self.delivery(),
            self.log.clone(),
            volume(),
            self.staging.clone(),
            WorkConfig::default(),
        )
    }

    /// Runs uploader, importer and janitor until `done` holds.
    async fn run_until<F: Future<Output = bool>>(&self, done: impl Fn() -> F) {
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
        );
        let janitor = Janitor::new(
            self.delivery(),
            self.log.clone(),
            volume(),
            staging,
            tables,
            "cluster",
            JanitorConfig::default(),
        );
        tasks.spawn(uploader.run(stop.clone()));
        tasks.spawn(importer.run(stop.clone()));
        tasks.spawn(janitor.run(stop.clone()));
        let wait = async {
            while !done().await {
                // The steps of the coordinator.
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

    async fn is_imported(&self) -> bool {
        self.repo.imported_file(&self.file).await.is_ok()
    }

    /// Damages the first `blocks` blocks of rows on the disk, under the open log.
    fn damage(&self, blocks: usize) {
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

    fn rows(&self) -> Vec<(String, String)> {
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

fn sqlite(dir: &Path) -> SqliteConfig {
    SqliteConfig::new(dir.join("tables.db"))
}

trait Later {
    fn now_plus(&self, ms: u64) -> Timestamp;
}

impl Later for ManualClock {
    fn now_plus(&self, ms: u64) -> Timestamp {
        forebay_model::Clock::now(self).plus(Duration::from_millis(ms))
    }
}

/// Bytes of CSV that [`World::append`] makes.
fn csv_bytes(rows: u32) -> u64 {
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

#[tokio::test(flavor = "multi_thread")]
async fn rows_get_from_the_log_into_the_table_in_order_and_the_stream_goes() {
    let world = World::new().await;
    world.append(50, 7).await;
    world.close(350, csv_bytes(350)).await;
    world
        .run_until(|| async {
            world.is_imported().await && world.log.find(&world.slice.key.to_string()).is_none()
        })
        .await;
    let rows = world.rows();
    assert_eq!(rows.len(), 350);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, (id, text))| *id == i.to_string() && text == "a \"text\"\nof two lines")
    );
    assert_eq!(
        world.staging.size(&world.slice.staging_path).await.unwrap(),
        None
    );
    let balance = world.repo.balance(&sink_key()).await.unwrap();
    assert_eq!(
        (
            balance.accepted,
            balance.imported,
            balance.in_flight,
            balance.holds()
        ),
        (350, 350, 0, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_staging_has_lost_or_damaged_is_written_again() {
    let world = World::new().await;
    world.append(3, 100).await;
    world.close(300, csv_bytes(300)).await;
    let complete = world.repo.slice(&world.slice.key).await.unwrap();
    let object = world.uploader().upload(&complete).await.unwrap();
    assert_eq!(object.lost_records, 0);
    world
        .repo
        .slice_uploaded(&world.slice.key, object.bytes, 0, world.clock.now_plus(1))
        .await
        .unwrap();
    let path = world
        .dir
        .path()
        .join("staging")
        .join(&world.slice.staging_path);
    std::fs::write(&path, b"not gzip").unwrap();
    world
        .repo
        .file_importing(&world.file, world.clock.now_plus(1))
        .await
        .unwrap();
    let failed_once = || async {
        let file = world.repo.file(&world.file).await.unwrap();
        file.retry.attempt > 0
    };
    world.run_until(failed_once).await;
    let reason = world
        .repo
        .file(&world.file)
        .await
        .unwrap()
        .retry
        .reason
        .clone()
        .unwrap();
    assert!(reason.contains("uploaded again"), "{reason}");
    world.clock.advance(Duration::from_secs(3));
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_of_which_the_log_has_lost_everything_holds_nothing_back() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.damage(2);
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows(), []);
    let balance = world.repo.balance(&sink_key()).await.unwrap();
    assert_eq!((balance.accepted, balance.lost), (20, 20));
    assert!(balance.holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_staging_and_log_have_both_lost_is_counted_and_the_rest_is_imported() {
    let world = World::new().await;
    world.append(3, 10).await;
    world.close(30, csv_bytes(30)).await;
    let complete = world.repo.slice(&world.slice.key).await.unwrap();
    let object = world.uploader().upload(&complete).await.unwrap();
    world
        .repo
        .slice_uploaded(&world.slice.key, object.bytes, 0, world.clock.now_plus(1))
        .await
        .unwrap();
    world
        .staging
        .delete(&world.slice.staging_path)
        .await
        .unwrap();
    world.damage(1);
    world
        .repo
        .file_importing(&world.file, world.clock.now_plus(1))
        .await
        .unwrap();
    let failed_once = || async {
        let file = world.repo.file(&world.file).await.unwrap();
        file.retry.attempt > 0
    };
    world.run_until(failed_once).await;
    world.clock.advance(Duration::from_secs(3));
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 20);
    let balance = world.repo.balance(&sink_key()).await.unwrap();
    assert_eq!(
        (balance.accepted, balance.imported, balance.lost),
        (30, 20, 10)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_with_other_rows_than_the_log_counted_is_parked_and_not_imported() {
    let world = World::new().await;
    world.append(1, 5).await;
    world.close(6, csv_bytes(5)).await;
    let is_parked = || async {
        world
            .repo
            .slice(&world.slice.key)
            .await
            .unwrap()
            .retry
            .parked
    };
    world.run_until(is_parked).await;
    let slice = world.repo.slice(&world.slice.key).await.unwrap();
    assert_eq!(slice.state, SliceState::Uploading);
    assert!(
        slice.retry.reason.as_deref().unwrap().contains("5 records"),
        "{:?}",
        slice.retry.reason
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_done_before_a_crash_is_not_done_again() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.run_until(|| world.is_imported()).await;
    // The store forgets that it was imported: as if the process had died between the two commits.
    let world_before = world.rows();
    let import = forebay_remote::table::Import {
        id: format!("cluster/{}", world.file),
        table: "in.b.t".parse().unwrap(),
        mapping: mapping(),
    };
    let table = world.tables.get(TableBackend::Keboola).unwrap();
    let rows = futures::stream::empty();
    let again = table.import(&import, Box::pin(rows)).await.unwrap();
    assert!(again.already_done);
    assert_eq!(again.rows, 20);
    assert_eq!(world.rows(), world_before);
}
