//! Tasks of the roles source, storage and coordinator.

use std::sync::Arc;
use std::time::Duration;

use forebay_control::coordinator::Coordinator;
use forebay_control::sink_monitor::{SinkMonitor, SinkMonitorDeps};
use forebay_delivery::dead_letter::SinkDeadLetters;
use forebay_delivery::garbage_collector::GarbageCollector;
use forebay_delivery::import::Importer;
use forebay_delivery::topic::{TopicDeps, TopicRegistry};
use forebay_delivery::upload::Uploader;
use forebay_delivery::work_queue::DeliveryContext;
use forebay_ingest::dispatch::Dispatcher;
use forebay_ingest::pipeline::{Appender, PipelineShared};
use forebay_ingest::quota::{DiskUse, LimiterRegistry};
use forebay_ingest::reconciler::{ReconcilerDeps, RouteReconciler};
use forebay_ingest::source::http::{BindError, HttpSourceDeps, HttpSourceServer};
use forebay_ingest::statistics_reporter::StatisticsReporter;
use forebay_log::StdEnv;
use forebay_meta::catalog::tasks::TaskRetention;
use forebay_record::RowLimits;
use tokio::task::JoinSet;

use super::{NodeContext, TaskExit};
use crate::cli_error::CliError;
use crate::config::Config;
use crate::disk_housekeeping::DiskHousekeeping;
use crate::monitoring::ProcessMetrics;
use crate::random;
use crate::topics::{NodeTopics, ProviderRegistry};

const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// Interval of measuring the disk usage of projects.
const DISK_USE_INTERVAL: Duration = Duration::from_secs(1);

impl NodeContext {
    /// Role source: reconciles routes and pipelines with the store.
    pub(super) async fn start_reconciler(
        &self,
        lease: forebay_meta::kv::store::LeaseId,
        appender: &Arc<dyn Appender>,
        dispatcher: &Arc<Dispatcher>,
        (pipelines, topics): (&Arc<PipelineShared>, &Arc<TopicRegistry>),
        tasks: &mut JoinSet<TaskExit>,
    ) -> Result<crate::health::RouteProgress, CliError> {
        self.repo
            .register_source_node(&self.node, lease)
            .await
            .map_err(CliError::new)?;
        let reporter =
            StatisticsReporter::new(self.repo.clone(), self.node.clone(), Arc::clone(appender));
        let limiters = LimiterRegistry::new(self.quotas);
        let disk = DiskUse::new(Arc::clone(&limiters), self.log.clone());
        let (reconciler, progress) = RouteReconciler::new(ReconcilerDeps {
            repo: self.repo.clone(),
            node: self.node.clone(),
            lease,
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            dispatcher: Arc::clone(dispatcher),
            limiters,
            pipelines: Arc::clone(pipelines),
            reporter: Arc::clone(&reporter),
            limits: RowLimits::default(),
            topics: Some(Arc::<TopicRegistry>::clone(topics)),
        });
        let stop = || self.stop.clone();
        let reconcile = reconciler.run(stop());
        tasks.spawn(async move {
            (
                "route reconciler",
                reconcile.await.map_err(|e| e.to_string()),
            )
        });
        spawn(tasks, "reporter", reporter.run(REPORT_INTERVAL, stop()));
        let measure = disk.run(DISK_USE_INTERVAL, stop());
        spawn(tasks, "disk usage", measure);
        Ok(progress)
    }

    /// Role storage: uploads slices, imports files, deletes garbage.
    pub(super) fn start_delivery(
        &self,
        config: &Config,
        dead_letters: &SinkDeadLetters,
        tasks: &mut JoinSet<TaskExit>,
    ) {
        let delivery = DeliveryContext {
            repo: self.repo.clone(),
            clock: Arc::clone(&self.clock),
            random: random::jitter(),
            backoff: config.coordinator.backoff(),
        };
        let (log, volume) = (self.log.clone(), self.volume.clone());
        let uploader = Uploader::new(
            delivery.clone(),
            log.clone(),
            volume.clone(),
            self.staging.clone(),
            config.upload.clone(),
        );
        let importer = Importer::new(
            delivery.clone(),
            self.staging.clone(),
            self.tables.clone(),
            uploader.clone(),
            &self.cluster_id,
            config.import.clone(),
        )
        .with_dead_letters(dead_letters.clone());
        let garbage_collector = GarbageCollector::new(
            delivery,
            log,
            volume,
            self.staging.clone(),
            self.tables.clone(),
            &self.cluster_id,
            config.garbage_collection.clone(),
        );
        let stop = || self.stop.clone();
        spawn(tasks, "the uploader", uploader.run(stop()));
        spawn(tasks, "the importer", importer.run(stop()));
        spawn(tasks, "garbage collector", garbage_collector.run(stop()));
    }

    /// Topic sinks and their providers.
    pub(super) fn topics(&self, config: &Config) -> Result<NodeTopics, CliError> {
        let providers = ProviderRegistry::from_config(config)?;
        let topics = TopicRegistry::new(TopicDeps {
            log: self.log.clone(),
            env: Arc::new(StdEnv::new()),
            clock: Arc::clone(&self.clock),
            config: config.topics.clone(),
            connect: providers.connect(),
        });
        Ok(NodeTopics { topics, providers })
    }

    pub(super) fn start_topic_delivery(&self, topics: &NodeTopics, tasks: &mut JoinSet<TaskExit>) {
        let run = Arc::clone(&topics.topics).run(self.repo.clone(), self.stop.clone());
        spawn(tasks, "topic reconciler", run);
    }

    /// Disk housekeeping, for every role.
    pub(super) fn start_disk_housekeeping(&self, config: &Config, tasks: &mut JoinSet<TaskExit>) {
        let housekeeping = DiskHousekeeping::new(
            config,
            self.log.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
        );
        let run = housekeeping.run(self.stop.clone());
        tasks.spawn(async move { ("disk housekeeping", run.await) });
    }

    /// The monitor of sinks, for log lines, metrics and status.
    pub(super) fn start_sink_monitor(
        &self,
        config: &Config,
        topics: &NodeTopics,
        metrics: Option<&ProcessMetrics>,
        tasks: &mut JoinSet<TaskExit>,
    ) -> SinkMonitor {
        let section = &config.telemetry.metrics;
        let monitor = SinkMonitor::new(SinkMonitorDeps {
            repo: self.repo.clone(),
            topics: Arc::new(topics.clone()),
            clock: Arc::clone(&self.clock),
            interval: section.interval.0,
        });
        if let Some(metrics) = metrics {
            metrics.attach_sinks(monitor.clone(), section.max_sinks as usize);
        }
        let run = monitor.clone().run(self.stop.clone());
        spawn(tasks, "sink monitor", run);
        monitor
    }

    /// Role coordinator.
    pub(super) fn start_coordinator(&self, config: &Config, tasks: &mut JoinSet<TaskExit>) {
        let coordinator = Coordinator::new(
            self.repo.clone(),
            Arc::clone(&self.clock),
            random::jitter(),
            config.coordinator.clone(),
            TaskRetention::default(),
        );
        let run = coordinator.run(self.stop.clone());
        spawn(tasks, "coordinator", run);
    }
}

pub(super) async fn bind_source(
    config: &Config,
    deps: HttpSourceDeps,
) -> Result<HttpSourceServer, CliError> {
    let bound = HttpSourceServer::bind(config.source.http.clone(), deps).await;
    bound.map_err(source_bind_failure)
}

/// Error of the source listener.
pub(crate) fn source_bind_failure(error: BindError) -> CliError {
    CliError::new(error).hint("choose another address with --source-listen or source.http.listen")
}

/// Spawns a task that runs until it is stopped.
fn spawn(
    tasks: &mut JoinSet<TaskExit>,
    name: &'static str,
    run: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        run.await;
        (name, Ok(()))
    });
}
