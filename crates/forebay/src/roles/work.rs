//! The tasks of the roles source, storage and coordinator.

use std::sync::Arc;
use std::time::Duration;

use forebay_control::coordinator::Coordinator;
use forebay_flow::dead_letter::DeadLetters;
use forebay_flow::deliver::Delivery;
use forebay_flow::dispatch::Dispatcher;
use forebay_flow::follow::{FollowDeps, Follower};
use forebay_flow::import::Importer;
use forebay_flow::janitor::Janitor;
use forebay_flow::pipeline::{Appender, PipelineShared};
use forebay_flow::quota::{DiskUse, Gates};
use forebay_flow::report::Reporter;
use forebay_flow::source::http::{BindError, Deps, HttpSource};
use forebay_flow::topic::{TopicDeps, Topics};
use forebay_flow::upload::Uploader;
use forebay_log::StdEnv;
use forebay_meta::repo::tasks::TaskRetention;
use forebay_record::Limits;
use tokio::task::JoinSet;

use super::{Base, Ended};
use crate::config::Config;
use crate::failure::Failure;
use crate::random;
use crate::topics::{NodeTopics, Providers};
use crate::volume::Keeper;

/// How often open slices are reported.
const STATISTICS: Duration = Duration::from_millis(500);
/// How often it is measured what projects hold on disk.
const DISK_USE: Duration = Duration::from_secs(1);

impl Base {
    /// Role source: what keeps the routes and pipelines as the store says.
    pub(super) async fn follow(
        &self,
        lease: forebay_meta::store::LeaseId,
        appender: &Arc<dyn Appender>,
        dispatcher: &Arc<Dispatcher>,
        (pipelines, topics): (&Arc<PipelineShared>, &Arc<Topics>),
        tasks: &mut JoinSet<Ended>,
    ) -> Result<crate::health::Progress, Failure> {
        self.repo
            .register_source_node(&self.node, lease)
            .await
            .map_err(Failure::new)?;
        let reporter = Reporter::new(self.repo.clone(), self.node.clone(), Arc::clone(appender));
        let gates = Gates::new(self.quotas);
        let disk = DiskUse::new(Arc::clone(&gates), self.log.clone());
        let (follower, progress) = Follower::new(FollowDeps {
            repo: self.repo.clone(),
            node: self.node.clone(),
            lease,
            volume: self.volume.clone(),
            appender: Arc::clone(appender),
            dispatcher: Arc::clone(dispatcher),
            gates,
            pipelines: Arc::clone(pipelines),
            reporter: Arc::clone(&reporter),
            limits: Limits::default(),
            topics: Some(Arc::clone(topics)),
        });
        let stop = || self.stop.clone();
        let follow = follower.run(stop());
        tasks.spawn(async move { ("the follower", follow.await.map_err(|e| e.to_string())) });
        spawn(tasks, "the reporter", reporter.run(STATISTICS, stop()));
        let measure = disk.run(DISK_USE, stop());
        spawn(tasks, "the measuring of disk use", measure);
        Ok(progress)
    }

    /// Role storage: slices to staging, files into tables, what is done away.
    pub(super) fn deliver(
        &self,
        config: &Config,
        letters: &DeadLetters,
        tasks: &mut JoinSet<Ended>,
    ) {
        let delivery = Delivery {
            repo: self.repo.clone(),
            clock: Arc::clone(&self.clock),
            random: random::narrow(),
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
        .with_dead_letters(letters.clone());
        let janitor = Janitor::new(
            delivery,
            log,
            volume,
            self.staging.clone(),
            self.tables.clone(),
            &self.cluster_id,
            config.janitor.clone(),
        );
        let stop = || self.stop.clone();
        spawn(tasks, "the uploader", uploader.run(stop()));
        spawn(tasks, "the importer", importer.run(stop()));
        spawn(tasks, "the janitor", janitor.run(stop()));
    }

    /// The sinks whose messages go to providers.
    pub(super) fn topics(&self, config: &Config) -> Result<NodeTopics, Failure> {
        let providers = Providers::of(config)?;
        let topics = Topics::new(TopicDeps {
            log: self.log.clone(),
            env: Arc::new(StdEnv::new()),
            clock: Arc::clone(&self.clock),
            config: config.topics.clone(),
            connect: providers.connect(),
        });
        Ok(NodeTopics { topics, providers })
    }

    pub(super) fn deliver_topics(&self, topics: &NodeTopics, tasks: &mut JoinSet<Ended>) {
        let run = Arc::clone(&topics.topics).run(self.repo.clone(), self.stop.clone());
        spawn(tasks, "the topics", run);
    }

    /// Looks after the disk, for every role.
    pub(super) fn keep_disk(&self, config: &Config, tasks: &mut JoinSet<Ended>) {
        let keeper = Keeper::new(
            config,
            self.log.clone(),
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
        );
        let run = keeper.run(self.stop.clone());
        tasks.spawn(async move { ("the keeper of the disk", run.await) });
    }

    /// Role coordinator.
    pub(super) fn coordinate(&self, config: &Config, tasks: &mut JoinSet<Ended>) {
        let coordinator = Coordinator::new(
            self.repo.clone(),
            Arc::clone(&self.clock),
            random::narrow(),
            config.coordinator.clone(),
            TaskRetention::default(),
        );
        let run = coordinator.run(self.stop.clone());
        spawn(tasks, "the coordinator", run);
    }
}

pub(super) async fn bind_source(config: &Config, deps: Deps) -> Result<HttpSource, Failure> {
    let bound = HttpSource::bind(config.source.http.clone(), deps).await;
    bound.map_err(source_refused)
}

/// Why the source does not listen.
pub(crate) fn source_refused(error: BindError) -> Failure {
    Failure::new(error).hint("choose another address with --source-listen or source.http.listen")
}

/// Starts what goes on until it is told to stop.
fn spawn(
    tasks: &mut JoinSet<Ended>,
    name: &'static str,
    run: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        run.await;
        (name, Ok(()))
    });
}
