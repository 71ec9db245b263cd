//! From a closed stream to rows in the table: upload, import and what is taken away afterwards, on
//! the real log, store, staging folder and database. The transitions that the coordinator would
//! decide are made by hand.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[path = "delivery/silent.rs"]
mod silent;

use bytes::Bytes;
use forebay_flow::dead_letter::{DeadLetters, Which};
use forebay_flow::deliver::{Delivery, WorkConfig};
use forebay_flow::import::{Importer, Tables};
use forebay_flow::janitor::{Janitor, JanitorConfig};
use forebay_flow::pipeline::LocalLog;
use forebay_flow::upload::Uploader;
use forebay_log::{Log, LogConfig, NewBlock, StdEnv};
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, SinkContent, SourceContent};
use forebay_model::{
    Backoff, BranchId, BranchKey, By, Column, ColumnKind, Compression, FileKey, ManualClock,
    Mapping, ProjectId, SinkId, SinkKey, SinkSettings, Slice, SliceState, SourceId, SourceKey,
    SourceKind, Span, Stamp, Statistics, TableBackend, TableSink, Timestamp, VolumeId,
};
use forebay_record::{Encoder, Limits, block, csv};
use forebay_remote::services;
use forebay_remote::staging::{LocalStaging, Staging, StagingConfig};
use forebay_remote::table::sqlite::{SqliteConfig, SqliteTable};
use futures::stream::{self, StreamExt, TryStreamExt};
use silent::SilentTable;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const COMPRESSION: &str = "storage.level.local.encoding.compression.type";

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
        Self::with("gzip").await
    }

    /// The same with another compression.
    async fn with(compression: &str) -> Self {
        let local = |dir: &Path| StagingConfig::Local(LocalStaging::new(dir.join("staging")));
        Self::staging_in(compression, local).await
    }

    /// The same with another staging, which may be made of a directory that no other test has.
    async fn staging_in(compression: &str, staging: impl Fn(&Path) -> StagingConfig) -> Self {
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
            settings: [(COMPRESSION.to_owned(), compression.into())].into(),
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
                    Compression::None => 0,
                    Compression::Gzip { .. } => 1,
                    Compression::Zstd { .. } => 2,
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

    fn letters(&self) -> DeadLetters {
        DeadLetters {
            repo: self.repo.clone(),
            log: self.log.clone(),
            volume: volume(),
            appender: Arc::new(LocalLog::new(self.log.clone(), volume())),
            clock: self.clock.clone(),
            templates: None,
            random: Arc::new(|| 0),
            limits: Limits::default(),
            turn: Arc::default(),
        }
    }

    /// The sink with columns of other names, or other ones.
    async fn define(&self, columns: &[&str], table: &str) {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            primary_key: false,
            kind: ColumnKind::Body,
        };
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

    /// The project has filled the table before.
    async fn own_table(&self) {
        let (project, backend) = (ProjectId(1), TableBackend::Keboola);
        let table = "in.b.t".parse().unwrap();
        self.repo
            .fill_table(project, backend, &table, false, &stamp())
            .await
            .unwrap();
    }

    fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(sqlite(self.dir.path()).path).unwrap();
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        db.execute_batch(sql).unwrap();
    }

    /// In staging and ready for its import.
    async fn upload(&self) {
        let complete = self.repo.slice(&self.slice.key).await.unwrap();
        let object = self.uploader().upload(&complete).await.unwrap();
        let now = self.clock.now_plus(1);
        self.repo
            .slice_uploaded(&self.slice.key, object.staged, 0, now)
            .await
            .unwrap();
        self.repo.file_importing(&self.file, now).await.unwrap();
    }

    async fn failure(&self) -> Option<String> {
        let file = self.repo.file(&self.file).await.ok()?;
        file.value.retry.reason
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
        )
        .with_dead_letters(self.letters());
        let janitor = Janitor::new(
            self.delivery(),
            self.log.clone(),
            volume(),
            staging,
            tables,
            "cluster",
            JanitorConfig {
                interval: Span::secs(1),
                ledger_interval: Span::secs(1),
            },
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

    /// No rows when there is no table.
    fn rows_or_none(&self) -> Vec<(String, String)> {
        let db = rusqlite::Connection::open(sqlite(self.dir.path()).path).unwrap();
        if db.table_exists(None, "in.b.t").unwrap() {
            return self.rows();
        }
        Vec::new()
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
        .slice_uploaded(&world.slice.key, object.staged, 0, world.clock.now_plus(1))
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
        .slice_uploaded(&world.slice.key, object.staged, 0, world.clock.now_plus(1))
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
async fn later_rows_go_past_a_slice_whose_stream_the_log_lacks() {
    let mut world = World::new().await;
    let (stuck, lacking) = (world.file.clone(), world.slice.key.clone());
    world.close(5, csv_bytes(5)).await;
    let open = world.repo.active_files(Some(&sink_key())).await.unwrap();
    let next = open.iter().find(|f| f.file.key != stuck).unwrap();
    (world.file, world.slice) = (next.file.key.clone(), next.slices[0].slice.value.clone());
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 20);
    let slice = world.repo.slice(&lacking).await.unwrap();
    assert!(slice.retry.parked, "{:?}", slice.retry);
    // What is missing is not forgotten.
    let balance = world.repo.balance(&sink_key()).await.unwrap();
    assert!(balance.holds(), "{balance:?}");
    assert_eq!((balance.imported, balance.in_flight), (20, 5));
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
    let rows = stream::empty();
    let again = table.import(&import, Box::pin(rows)).await.unwrap();
    assert!(again.already_done);
    assert_eq!(again.rows, 20);
    assert_eq!(world.rows(), world_before);
}

/// Done to an object in staging, and whether it can still be read as rows.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_other_bytes_than_were_uploaded_is_never_imported() {
    let damages: [Damage; 5] = [
        ("a cell has another letter", |b| {
            let at = b
                .iter()
                .position(|b| *b == b'x' || *b == b't')
                .unwrap_or(40);
            b[at] ^= 1;
        }),
        ("cut", |b| b.truncate(b.len() / 2)),
        ("without its last row", |b| {
            let end = b.len() - 1;
            let at = b[..end].iter().rposition(|b| *b == b'\n').unwrap_or(end);
            b.truncate(at + 1);
        }),
        ("longer", |b| b.extend_from_within(..)),
        ("empty", Vec::clear),
    ];
    for compression in ["none", "gzip", "zstd"] {
        for (what, damage) in damages {
            let world = World::with(compression).await;
            world.append(1, 50).await;
            world.close(50, csv_bytes(50)).await;
            world.upload().await;
            let path = world.dir.path().join("staging");
            let path = path.join(&world.slice.staging_path);
            let mut bytes = std::fs::read(&path).unwrap();
            let before = bytes.clone();
            damage(&mut bytes);
            assert_ne!(bytes, before);
            std::fs::write(&path, &bytes).unwrap();
            world
                .run_until(|| async { world.failure().await.is_some() })
                .await;
            let why = world.failure().await.unwrap();
            assert!(
                why.contains("uploaded again"),
                "{compression}, {what}: {why}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), before);
            world.clock.advance(Duration::from_secs(3));
            world.run_until(|| world.is_imported()).await;
            let rows = world.rows();
            assert_eq!(rows.len(), 50, "{compression}, {what}");
            assert!(
                rows.iter()
                    .all(|(_, text)| text == "a \"text\"\nof two lines")
            );
        }
    }
}

/// Whole objects of the same length and compression, with the same rows but for a letter.
fn other_rows(object: &[u8], compression: Compression) -> Vec<u8> {
    let raw = block::decode(object, compression, usize::try_from(csv_bytes(50)).unwrap()).unwrap();
    // Compressed, not every letter makes the same length.
    let other = (b'b'..=b'z')
        .filter(|b| !raw.contains(b))
        .find_map(|letter| {
            let swapped = |b: &u8| if *b == b'w' { letter } else { *b };
            let raw: Vec<u8> = raw.iter().map(swapped).collect();
            let encoded = Encoder::new(compression).unwrap().encode(&raw).unwrap();
            (encoded.len() == object.len()).then(|| encoded.to_vec())
        });
    other.unwrap()
}

/// Some bytes are not as they were.
fn damaged(object: &[u8], _: Compression) -> Vec<u8> {
    let mut bytes = object.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// What is made of an object.
type Replacement = fn(&[u8], Compression) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_other_bytes_of_the_same_length_on_s3_is_never_imported() {
    let Some(service) = services::s3("other bytes on S3") else {
        return;
    };
    let replacements: [(&str, Replacement); 2] = [("other rows", other_rows), ("damaged", damaged)];
    for compression in ["none", "gzip"] {
        for (what, replace) in replacements {
            let world = World::staging_in(compression, |dir| {
                let name = dir.file_name().unwrap().to_string_lossy();
                StagingConfig::S3(Box::new(service.staging(&format!("test{name}/delivery"))))
            })
            .await;
            world.append(1, 50).await;
            world.close(50, csv_bytes(50)).await;
            world.upload().await;
            let (staging, path) = (&world.staging, &world.slice.staging_path);
            let read = || async {
                let chunks: Vec<Bytes> = staging
                    .get(path)
                    .await
                    .unwrap()
                    .try_collect()
                    .await
                    .unwrap();
                chunks.concat()
            };
            let before = read().await;
            let other = replace(&before, world.slice.compression);
            assert_eq!(other.len(), before.len(), "{compression}, {what}");
            assert_ne!(other, before, "{compression}, {what}");
            let chunk = stream::iter([Ok(Bytes::from(other.clone()))]);
            staging.put(path, chunk.boxed()).await.unwrap();
            assert_eq!(read().await, other, "{compression}, {what}");
            world
                .run_until(|| async { world.failure().await.is_some() })
                .await;
            let why = world.failure().await.unwrap();
            assert!(
                why.contains("uploaded again"),
                "{compression}, {what}: {why}"
            );
            assert_eq!(world.rows_or_none(), [], "{compression}, {what}");
            assert_eq!(read().await, before, "{compression}, {what}");
            world.clock.advance(Duration::from_secs(3));
            world
                .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
                .await;
            let rows = world.rows();
            assert_eq!(rows.len(), 50, "{compression}, {what}");
            assert!(
                rows.iter()
                    .all(|(_, text)| text == "a \"text\"\nof two lines")
            );
            staging.delete(path).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_its_table_has_lost_is_done_again_while_somebody_has_the_rows() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.upload().await;
    // The importer alone, so that nothing is taken away: the process dies right after it.
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let id = format!("cluster/{}", world.file);
    let now = world.clock.now_plus(1);
    world
        .repo
        .file_imported(&world.file, 20, now)
        .await
        .unwrap();
    assert_eq!(table.imported(&id).await.unwrap(), None);
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    // Nothing was taken away before the table was asked.
    assert_eq!(table.imported(&id).await.unwrap(), Some(20));
    let balance = world.repo.balance(&sink_key()).await.unwrap();
    assert!(balance.holds());
    assert_eq!(world.rows().len(), 20);
    assert_eq!((balance.imported, balance.lost), (20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_away_while_a_table_can_not_be_asked() {
    let mut world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.upload().await;
    let now = world.clock.now_plus(1);
    world
        .repo
        .file_imported(&world.file, 20, now)
        .await
        .unwrap();
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let silent = Arc::new(SilentTable {
        table: Arc::clone(table),
        is_silent: true.into(),
        unanswered: 0.into(),
    });
    world.tables = Tables::new(TableBackend::Sqlite).with(silent.clone());
    // What follows the first one was done then.
    world
        .run_until(|| async { silent.unanswered.load(Ordering::Relaxed) > 2 })
        .await;
    let object = world.staging.size(&world.slice.staging_path).await.unwrap();
    assert!(object.is_some() && world.log.streams().len() == 1);
    silent.is_silent.store(false, Ordering::Relaxed);
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    assert_eq!(world.rows().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_has_lost_count_as_lost_until_it_has_them_again() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    let lost = |n: u64| {
        let repo = &world.repo;
        move || async move {
            let b = repo.balance(&sink_key()).await.unwrap();
            assert!(b.holds(), "{b:?}");
            (b.accepted, b.imported, b.lost) == (20, 20 - n, n)
        }
    };
    world.sql("CREATE TABLE kept AS SELECT * FROM _forebay_imports; DELETE FROM _forebay_imports;");
    world.run_until(lost(20)).await;
    // The right database is back.
    world.sql("INSERT INTO _forebay_imports SELECT * FROM kept");
    world.run_until(lost(0)).await;
    // What is removed stays counted as it was.
    world.sql("DELETE FROM _forebay_imports");
    world.run_until(lost(20)).await;
    world.repo.remove_imported(&world.file).await.unwrap();
    assert!(lost(20)().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_file_that_was_removed_is_forgotten_and_no_other() {
    let world = World::new().await;
    world.append(1, 10).await;
    world.close(10, csv_bytes(10)).await;
    world.run_until(|| world.is_imported()).await;
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let id = format!("cluster/{}", world.file);
    assert_eq!(table.imported(&id).await.unwrap(), Some(10));
    world.sql("INSERT INTO _forebay_imports SELECT 'cluster/1/1/src/snk/2099-01-01T00:00:00.000Z', table_id, rows, replaced_cells, imported_at FROM _forebay_imports");
    world.repo.remove_imported(&world.file).await.unwrap();
    world
        .run_until(|| async { table.imported(&id).await.unwrap().is_none() })
        .await;
    let later = "cluster/1/1/src/snk/2099-01-01T00:00:00.000Z";
    assert_eq!(table.imported(later).await.unwrap(), Some(10));
    assert_eq!(world.rows().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_file_follows_its_sink() {
    for (columns, table) in [(["id", "note"], "in.b.t"), (["id", "text"], "in.b.other")] {
        let world = World::new().await;
        world.own_table().await;
        world.sql("CREATE TABLE \"in.b.t\" (id TEXT, text INTEGER)");
        world.append(1, 10).await;
        world.close(10, csv_bytes(10)).await;
        let parked = || async {
            let file = world.repo.file(&world.file).await;
            file.is_ok_and(|f| f.retry.parked)
        };
        world.run_until(parked).await;
        let why = world.failure().await.unwrap();
        assert!(why.contains("has type INTEGER"), "{why}");
        // Columns that its rows are not rows of change nothing.
        world.define(&["id", "text", "more"], "in.b.t").await;
        world.clock.advance(Duration::from_secs(400));
        world.run_until(parked).await;
        world.define(&columns, table).await;
        world.run_until(|| world.is_imported()).await;
        let sql = format!(
            "CREATE TABLE seen AS SELECT {} AS x FROM \"{table}\"",
            columns[1]
        );
        world.sql(&sql);
        let db = rusqlite::Connection::open(sqlite(world.dir.path()).path).unwrap();
        let sql = "SELECT count(*) FROM seen WHERE x LIKE 'a \"text\"%'";
        let n: i64 = db.query_row(sql, [], |r| r.get(0)).unwrap();
        assert_eq!(n, 10, "{table}");
        assert!(world.repo.balance(&sink_key()).await.unwrap().holds());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_can_not_take_become_dead_letters_once_and_can_be_replayed() {
    let world = World::new().await;
    world.own_table().await;
    world.sql("CREATE TABLE \"in.b.t\" (id TEXT, text TEXT CHECK (id <> '3'))");
    world.append(3, 10).await;
    world.close(30, csv_bytes(30)).await;
    let parked = || async {
        let file = world.repo.file(&world.file).await;
        file.is_ok_and(|f| f.retry.parked)
    };
    assert!(
        world.repo.reject_file(&world.file, &stamp()).await.is_err(),
        "only a parked one"
    );
    world.run_until(parked).await;
    world.repo.reject_file(&world.file, &stamp()).await.unwrap();
    world.run_until(|| world.is_imported()).await;
    let counts = || async {
        let b = world.repo.balance(&sink_key()).await.unwrap();
        assert!(b.holds(), "{b:?}");
        (b.accepted, b.imported, b.dead, b.in_flight)
    };
    assert_eq!(counts().await, (30, 0, 30, 0));
    assert_eq!(world.rows(), []);
    let letters = world.letters();
    let kept = letters
        .list(&sink_key(), Which::From(0, 100))
        .await
        .unwrap();
    assert_eq!(kept.len(), 30);
    let shown = std::str::from_utf8(&kept[3].letter.body).unwrap();
    assert_eq!(shown, r#"{"id": "3", "text": "a \"text\"\nof two lines"}"#);
    assert!(
        kept[3].letter.message.contains("constraint"),
        "{:?}",
        kept[3].letter
    );
    // All but the one, into the file that is open now.
    let good: Vec<u64> = kept.iter().map(|k| k.number).filter(|n| *n != 3).collect();
    let replayed = letters
        .replay(&sink_key(), Which::These(good))
        .await
        .unwrap();
    assert_eq!((replayed.replayed, replayed.refused), (29, Vec::new()));
    assert_eq!(counts().await, (30, 0, 1, 29));
}
