//! A node as the binary builds it, and the control plane's actions on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forebay_ingest::dispatch::Dispatcher;
use forebay_ingest::memory_limiter::MemoryLimiter;
use forebay_ingest::pipeline::{Appender, PipelineShared};
use forebay_ingest::quota::{DiskUse, LimiterRegistry};
use forebay_ingest::reconciler::{ReconcilerDeps, ReconcilerError, RouteReconciler};
use forebay_ingest::source::http::{HttpSourceDeps, HttpSourceServer};
use forebay_ingest::statistics_reporter::StatisticsReporter;
use forebay_meta::catalog::definitions::{SinkContent, SourceContent};
use forebay_meta::kv::session::Session;
use forebay_meta::{EmbeddedOptions, EmbeddedStore, Repo, Revision, Store};
use forebay_model::quota::Quotas;
use forebay_model::{
    Actor, AuditStamp, BranchKey, ColumnKind, NodeId, SettingsPatch, SinkKey, SinkSettings, Slice,
    SliceKey, SliceState, SourceKey, SourceKind, TableBackend, TableSink, Timestamp,
};
use forebay_record::RowLimits;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::volume::{Volume, volume_id};
use crate::world::{NOW, SECRET, config, mapping};

/// State that outlives a process.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
    pub(crate) volume: Volume,
    now: AtomicI64,
    pub(crate) quotas: Quotas,
}

/// A process.
pub(crate) struct Node {
    pub(crate) repo: Repo,
    pub(crate) source: HttpSourceServer,
    pub(crate) disk: DiskUse,
    pub(crate) reporter: Arc<StatisticsReporter>,
    pub(crate) pipelines: Arc<PipelineShared>,
    pub(crate) progress: watch::Receiver<Option<Revision>>,
    pub(crate) reconciler: JoinHandle<Result<(), ReconcilerError>>,
    stop: CancellationToken,
    session: JoinHandle<()>,
}

pub(crate) fn sink_key(id: &str) -> SinkKey {
    format!("1/2/s/{id}").parse().unwrap()
}

pub(crate) fn stamp() -> AuditStamp {
    AuditStamp {
        at: NOW.parse().unwrap(),
        by: Actor::system(),
    }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let now: Timestamp = NOW.parse().unwrap();
        Self {
            dir: TempDir::new().unwrap(),
            volume: Volume::new(),
            now: AtomicI64::new(now.as_millis()),
            quotas: Quotas::default(),
        }
    }

    /// A unique time.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.fetch_add(1, Ordering::SeqCst))
    }

    /// Starts a process.
    pub(crate) async fn start(&self) -> Node {
        let store = EmbeddedStore::open(self.dir.path(), EmbeddedOptions::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let repo = Repo::new(Arc::clone(&store), SinkSettings::default());
        let session = Session::open(Arc::clone(&store), Duration::from_secs(60))
            .await
            .unwrap();
        let lease = session.lease();
        let stop = CancellationToken::new();
        let keep = stop.clone();
        let session = tokio::spawn(async move { session.keep_alive(keep).await.unwrap() });
        let node = NodeId("n1".to_owned());
        repo.register_source_node(&node, lease).await.unwrap();
        let counter = AtomicU64::new(0);
        let random = Arc::new(move || u128::from(counter.fetch_add(1, Ordering::Relaxed)));
        let dispatcher = Dispatcher::new(None, random);
        let limiter = MemoryLimiter::new(64 << 20);
        let pipelines = PipelineShared::new(Arc::clone(&limiter));
        let appender: Arc<dyn Appender> = self.volume.shared();
        let reporter = StatisticsReporter::new(repo.clone(), node.clone(), Arc::clone(&appender));
        let limiters = LimiterRegistry::new(self.quotas);
        let disk = DiskUse::new(Arc::clone(&limiters), self.volume.log.clone());
        let (reconciler, progress) = RouteReconciler::new(ReconcilerDeps {
            repo: repo.clone(),
            node,
            lease,
            volume: volume_id(),
            appender,
            dispatcher: Arc::clone(&dispatcher),
            limiters,
            pipelines: Arc::clone(&pipelines),
            reporter: Arc::clone(&reporter),
            limits: RowLimits::default(),
            topics: None,
        });
        let reconciler = tokio::spawn(reconciler.run(stop.clone()));
        let deps = HttpSourceDeps {
            dispatcher,
            memory_limiter: limiter,
            clock: Arc::new(forebay_model::ManualClock::new(NOW.parse().unwrap())),
        };
        let source = HttpSourceServer::bind(config(), deps).await.unwrap();
        Node {
            repo,
            source,
            disk,
            reporter,
            pipelines,
            progress,
            reconciler,
            stop,
            session,
        }
    }

    /// Stops a process in order.
    pub(crate) async fn stop(&self, node: Node) {
        assert!(node.source.stop(Duration::from_secs(10)).await);
        node.pipelines.drained().await;
        node.stop.cancel();
        node.reconciler.await.unwrap().unwrap();
        node.session.await.unwrap();
        drop((node.repo, node.reporter));
    }
}

impl Node {
    pub(crate) async fn create_source(&self) {
        let key: SourceKey = "1/2/s".parse().unwrap();
        let branch: BranchKey = key.branch;
        self.repo
            .ensure_branch(&branch, true, &stamp())
            .await
            .unwrap();
        let content = SourceContent {
            kind: SourceKind::Http {
                secret: SECRET.to_owned(),
                verify: None,
            },
            name: "s".to_owned(),
            description: String::new(),
            settings: SettingsPatch::new(),
            definition_set: None,
        };
        self.repo
            .create_source(&key, content, "New source.", &stamp())
            .await
            .unwrap();
    }

    /// Creates a sink, which opens its first file, and waits until the node has applied it.
    pub(crate) async fn create_sink(&mut self, id: &str, columns: &[ColumnKind]) {
        self.create_sink_with(id, columns, SettingsPatch::new())
            .await;
    }

    /// As [`Self::create_sink`], with settings.
    pub(crate) async fn create_sink_with(
        &mut self,
        id: &str,
        columns: &[ColumnKind],
        settings: SettingsPatch,
    ) {
        let content = SinkContent {
            name: id.to_owned(),
            description: String::new(),
            target: table(columns).into(),
            settings,
            definition_set: None,
        };
        let key = sink_key(id);
        let made = self
            .repo
            .create_sink(&key, content, "New sink.", &[volume_id()], &stamp())
            .await;
        self.processed(made.unwrap().revision).await;
    }

    /// Waits until the node reports that it has detached all slices closed up to `revision`.
    pub(crate) async fn processed(&mut self, revision: Revision) {
        self.progress
            .wait_for(|r| *r >= Some(revision))
            .await
            .unwrap();
        let all = self.repo.processed_revisions().await.unwrap();
        assert!(
            all[0].revision >= revision,
            "the revision was reported before"
        );
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.source.address()).await
    }

    /// The sink's slices that are not imported, oldest first.
    pub(crate) async fn slices(&self, id: &str) -> Vec<Slice> {
        let files = self.repo.active_files(Some(&sink_key(id))).await.unwrap();
        let slices = files.into_iter().flat_map(|f| f.slices);
        slices.map(|s| s.slice.value).collect()
    }

    pub(crate) async fn writing(&self, id: &str) -> SliceKey {
        let slices = self.slices(id).await;
        let mut writing = slices
            .into_iter()
            .filter(|s| s.state == SliceState::Writing);
        writing.next().expect("an open slice").key
    }
}

pub(crate) fn table(columns: &[ColumnKind]) -> TableSink {
    TableSink {
        backend: TableBackend::Keboola,
        table: "in.c-b.t".parse().unwrap(),
        mapping: mapping(columns),
    }
}

impl Node {
    /// Kills all tasks of the process.
    pub(crate) async fn kill(self) {
        self.reconciler.abort();
        self.session.abort();
        drop(self.reconciler.await);
        drop(self.session.await);
        self.source.stop(Duration::ZERO).await;
        self.pipelines.drained().await;
    }
}
