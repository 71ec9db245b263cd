//! One process: the real parts of a node in a simulated environment, built as the binary builds
//! them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forebay_connect::staging::Staging;
use forebay_control::coordinator::{Coordinator, CoordinatorConfig};
use forebay_delivery::garbage_collector::{GarbageCollector, GarbageCollectorConfig};
use forebay_delivery::import::{Importer, TableRegistry};
use forebay_delivery::losses::{LossError, record_losses, remembered_volume};
use forebay_delivery::upload::Uploader;
use forebay_delivery::work_queue::{DeliveryContext, WorkConfig};
use forebay_ingest::dispatch::Dispatcher;
use forebay_ingest::memory_limiter::MemoryLimiter;
use forebay_ingest::pipeline::{Appender, LocalLog, PipelineShared};
use forebay_ingest::reconciler::{ReconcilerDeps, RouteReconciler};
use forebay_ingest::statistics_reporter::StatisticsReporter;
use forebay_log::{Env, Log, LogConfig, RecoveryReport};
use forebay_meta::catalog::runtime::{Node as NodeEntry, RegisteredVolume};
use forebay_meta::catalog::tasks::TaskRetention;
use forebay_meta::kv::embedded::TokioMonotonicClock;
use forebay_meta::kv::session::Session;
use forebay_meta::kv::store::LeaseId;
use forebay_meta::{Repo, Store};
use forebay_model::{
    Clock, HumanDuration, NodeId, SinkSettings, TableBackend, Timestamp, VolumeId,
};
use forebay_record::RowLimits;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::disk::SimAppender;
use crate::gate::Gates;
use crate::staging::SimStaging;
use crate::store::{self, SimStore};
use crate::table::SimTable;

/// Wall-clock time: advances with the runtime's, and jumps.
#[derive(Debug)]
pub(crate) struct SimClock {
    /// Time at the start of the process, jumps since then included.
    shown: AtomicI64,
    began: std::sync::Mutex<Option<Instant>>,
    /// Latest time that was ever shown.
    latest: AtomicI64,
}

impl SimClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shown: AtomicI64::new(1_800_000_000_000),
            began: std::sync::Mutex::new(None),
            latest: AtomicI64::new(0),
        })
    }

    fn elapsed_ms(&self) -> i64 {
        let began = *self.began.lock().unwrap();
        began.map_or(0, |at| i64::try_from(at.elapsed().as_millis()).unwrap())
    }

    /// Begins a runtime; called inside of it.
    fn begin(&self) {
        *self.began.lock().unwrap() = Some(Instant::now());
    }

    /// Ends the runtime; called inside of it.
    pub(crate) fn end(&self) {
        self.jump(self.elapsed_ms());
        *self.began.lock().unwrap() = None;
    }

    pub(crate) fn jump(&self, ms: i64) {
        self.shown.fetch_add(ms, Ordering::SeqCst);
    }

    /// Advances to the latest time ever shown, so that nothing was opened in the future. Between
    /// processes.
    pub(crate) fn catch_up(&self) {
        let latest = self.latest.load(Ordering::SeqCst);
        self.shown.fetch_max(latest, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let now = self.shown.load(Ordering::SeqCst) + self.elapsed_ms();
        self.latest.fetch_max(now, Ordering::SeqCst);
        Timestamp::from_millis(now)
    }
}

/// State that outlives processes.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) disk: Arc<dyn Env>,
    pub(crate) meta: store::Disk,
    pub(crate) staging: SimStaging,
    pub(crate) table: SimTable,
    pub(crate) gates: Gates,
    pub(crate) clock: Arc<SimClock>,
    /// Deliberate bug: blocks are acknowledged before they are synced.
    pub(crate) acknowledges_early: bool,
}

/// How a task has ended: its name, and why if that was an error.
pub(crate) type Ended = (&'static str, Result<(), String>);

pub(crate) struct Node {
    pub(crate) repo: Repo,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
    pub(crate) volume: VolumeId,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) limiter: Arc<MemoryLimiter>,
    pub(crate) tasks: JoinSet<Ended>,
    pipelines: Arc<PipelineShared>,
    stop: CancellationToken,
}

/// Small segments, so that there are many; no threads.
fn log_config() -> LogConfig {
    LogConfig {
        segment_size: 32 << 10,
        max_payload: 24 << 10,
        queue_bytes: 64 << 10,
        min_free_bytes: 0,
        spare_segments: 1,
        preallocate_step: 4 << 10,
        manual: true,
        ..LogConfig::default()
    }
}

/// Slices and files are rotated after a few records, so that there are many.
fn settings() -> SinkSettings {
    let mut settings = SinkSettings::default();
    settings.upload.count = 4;
    settings.upload.interval = HumanDuration::secs(10);
    settings.import.count = 10;
    settings.import.interval = HumanDuration::secs(30);
    settings.import.slices = 5;
    settings.import.expiration = HumanDuration::mins(5);
    settings
}

fn coordinator_config() -> CoordinatorConfig {
    CoordinatorConfig {
        check_interval: HumanDuration::secs(1),
        cleanup_interval: HumanDuration::secs(30),
        archived_file_expiration: HumanDuration::mins(1),
        archived_file_retention_per_sink: 1,
        retry_max: HumanDuration::secs(60),
        ..CoordinatorConfig::default()
    }
}

impl Node {
    /// Opens everything and starts all roles. Gates must be open meanwhile.
    pub(crate) async fn start(around: &Around) -> Result<Self, String> {
        around.clock.begin();
        let dir = Path::new("/log");
        let elapsed = Arc::new(TokioMonotonicClock::start());
        let store = SimStore::open(&around.meta, elapsed, around.gates.clone());
        let store: Arc<dyn Store> = Arc::new(store);
        let repo = Repo::new(Arc::clone(&store), settings());
        let losses = |e: LossError| e.to_string();
        let config = LogConfig {
            volume: remembered_volume(&repo).await.map_err(losses)?,
            ..log_config()
        };
        let (log, report) = Log::open(Arc::clone(&around.disk), dir, config)
            .map_err(|e| format!("the log: {e}"))?;
        let volume = VolumeId(format!("{:016x}", log.volume_stats().volume));
        record_losses(&repo, &log, &volume, around.clock.now())
            .await
            .map_err(losses)?;
        let counter = Arc::new(AtomicU64::new(0));
        let wide = Arc::clone(&counter);
        let limiter = MemoryLimiter::new(64 << 20);
        let mut node = Self {
            dispatcher: Dispatcher::new(
                None,
                Arc::new(move || u128::from(wide.fetch_add(1, Ordering::SeqCst))),
            ),
            pipelines: PipelineShared::new(Arc::clone(&limiter)),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            repo,
            log,
            report,
            volume,
            limiter,
        };
        node.run(around, &store, counter)
            .await
            .map_err(|e| e.to_string())?;
        Ok(node)
    }

    async fn run(
        &mut self,
        around: &Around,
        store: &Arc<dyn Store>,
        counter: Arc<AtomicU64>,
    ) -> Result<(), forebay_meta::StoreError> {
        let cluster = self.repo.cluster_id(7).await?;
        let session = Session::open(Arc::clone(store), Duration::from_secs(15)).await?;
        let lease = session.lease();
        let id = NodeId("n1".to_owned());
        let entry = NodeEntry {
            id: id.clone(),
            started_at: around.clock.now(),
            roles: Vec::new(),
        };
        self.repo.register_node(&entry, lease).await?;
        let volume = RegisteredVolume {
            id: self.volume.clone(),
            node: id.clone(),
        };
        self.repo.register_volume(&volume, lease).await?;
        self.repo.register_source_node(&id, lease).await?;
        let stop = self.stop.clone();
        self.spawn("the session", async move {
            session.keep_alive(stop).await.map_err(|e| e.to_string())
        });
        self.start_source(around, id, lease);
        self.deliver(around, &cluster, &counter);
        let coordinator = Coordinator::new(
            self.repo.clone(),
            around.clock.clone(),
            random(&counter),
            coordinator_config(),
            TaskRetention::default(),
        );
        let stop = self.stop.clone();
        self.spawn("the coordinator", async move {
            coordinator.run(stop).await;
            Ok(())
        });
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Role source, without the HTTP listener.
    fn start_source(&mut self, around: &Around, node: NodeId, lease: LeaseId) {
        let appender: Arc<dyn Appender> = Arc::new(SimAppender {
            log: LocalLog::new(self.log.clone(), self.volume.clone()),
            gates: around.gates.clone(),
            acknowledges_early: around.acknowledges_early,
        });
        let reporter =
            StatisticsReporter::new(self.repo.clone(), node.clone(), Arc::clone(&appender));
        let (reconciler, _) = RouteReconciler::new(ReconcilerDeps {
            repo: self.repo.clone(),
            node,
            lease,
            volume: self.volume.clone(),
            appender,
            dispatcher: Arc::clone(&self.dispatcher),
            limiters: forebay_ingest::quota::LimiterRegistry::new(
                forebay_model::quota::Quotas::default(),
            ),
            pipelines: Arc::clone(&self.pipelines),
            reporter: Arc::clone(&reporter),
            limits: RowLimits::default(),
            topics: None,
        });
        let stop = self.stop.clone();
        self.spawn("the reconciler", async move {
            reconciler.run(stop).await.map_err(|e| e.to_string())
        });
        let stop = self.stop.clone();
        self.spawn("the reporter", async move {
            reporter.run(Duration::from_secs(2), stop).await;
            Ok(())
        });
    }

    /// Role storage.
    fn deliver(&mut self, around: &Around, cluster: &str, counter: &Arc<AtomicU64>) {
        let delivery = DeliveryContext {
            repo: self.repo.clone(),
            clock: around.clock.clone(),
            random: random(counter),
            backoff: coordinator_config().backoff(),
        };
        let staging = Staging::with_store(Arc::new(around.staging.clone()), "simulated staging");
        let tables = TableRegistry::new(TableBackend::Sqlite).with(Arc::new(around.table.clone()));
        let uploader = Uploader::new(
            delivery.clone(),
            self.log.clone(),
            self.volume.clone(),
            staging.clone(),
            WorkConfig::default(),
        );
        let importer = Importer::new(
            delivery.clone(),
            staging.clone(),
            tables.clone(),
            uploader.clone(),
            cluster,
            WorkConfig::default(),
        );
        let garbage_collector = GarbageCollector::new(
            delivery,
            self.log.clone(),
            self.volume.clone(),
            staging,
            tables,
            cluster,
            GarbageCollectorConfig::default(),
        );
        let (a, b, c) = (self.stop.clone(), self.stop.clone(), self.stop.clone());
        self.spawn("the uploader", async move {
            uploader.run(a).await;
            Ok(())
        });
        self.spawn("the importer", async move {
            importer.run(b).await;
            Ok(())
        });
        self.spawn("garbage collector", async move {
            garbage_collector.run(c).await;
            Ok(())
        });
    }

    /// Why the process has to stop, if one of its tasks has ended.
    pub(crate) fn failed(&mut self) -> Option<String> {
        match self.tasks.try_join_next()? {
            Ok((name, result)) => Some(format!("{name} has ended: {result:?}")),
            Err(error) => Some(format!("a task has failed: {error}")),
        }
    }

    /// Stops in order, as the binary does after the last request.
    pub(crate) async fn stop(mut self) {
        self.pipelines.drained().await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.log.shutdown();
    }
}

fn random(counter: &Arc<AtomicU64>) -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let counter = Arc::clone(counter);
    Arc::new(move || counter.fetch_add(1, Ordering::SeqCst))
}
