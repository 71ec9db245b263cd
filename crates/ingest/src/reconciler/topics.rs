//! Pipelines of this node's topics: one for each sink that accepts records, replaced when its
//! definition or its settings change. All pipelines of a sink append to one stream, so none is
//! drained: what an earlier one has accepted is in the stream, and is delivered as it was rendered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_meta::catalog::keys;
use forebay_model::{Sink, SinkKey, SinkSettings, TopicSink};
use forebay_record::CompiledMessage;

use super::deps::ReconcilerDeps;
use super::routes::SinkRoutes;
use super::store_snapshot::StoreSnapshot;
use crate::pipeline::Pipeline;

#[derive(Debug, Default)]
pub(super) struct TopicPipelines {
    open: HashMap<SinkKey, OpenTopic>,
}

#[derive(Debug)]
struct OpenTopic {
    topic: TopicSink,
    settings: SinkSettings,
    pipeline: Arc<Pipeline>,
}

impl TopicPipelines {
    /// Opens the pipeline of each topic that accepts records, and removes the others. Returns
    /// whether all could be opened.
    pub(super) fn apply(
        &mut self,
        deps: &ReconcilerDeps,
        view: &StoreSnapshot,
        routes: &mut SinkRoutes,
    ) -> bool {
        let mut wanted = HashSet::new();
        let mut complete = true;
        for sink in view.sinks.entries.values().filter(|s| s.is_active()) {
            let Some(topic) = sink.target.topic() else {
                continue;
            };
            let source = view
                .sources
                .get(&keys::StoreKey::Source(&sink.key.source).to_string());
            let Some(source) = source.filter(|s| s.is_active()) else {
                continue;
            };
            wanted.insert(sink.key.clone());
            let defaults = deps.repo.defaults();
            let settings = defaults.with(&source.settings).with(&sink.settings);
            let same = |o: &OpenTopic| o.topic == *topic && o.settings == settings;
            if self.open.get(&sink.key).is_some_and(same) {
                continue;
            }
            complete &= self.open_one(deps, sink, topic, settings, routes);
        }
        self.open.retain(|key, open| {
            let keep = wanted.contains(key);
            if !keep {
                routes.sink(key).set_pipeline(None);
                open.pipeline.stop_accepting();
            }
            keep
        });
        complete
    }

    fn open_one(
        &mut self,
        deps: &ReconcilerDeps,
        sink: &Sink,
        topic: &TopicSink,
        settings: SinkSettings,
        routes: &mut SinkRoutes,
    ) -> bool {
        let opened = deps.topics.clone().map(|t| t.open(&sink.key));
        let stream = match opened {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                tracing::error!(sink = %sink.key, %error, "opening a topic failed; retrying");
                return false;
            }
            None => return true,
        };
        tracing::debug!(sink = %sink.key, topic = %topic.topic, "topic opened");
        let message = CompiledMessage::for_topic(topic, &deps.limits);
        let shared = Arc::clone(&deps.pipelines);
        let pipeline = Pipeline::for_topic(
            sink.key.clone(),
            &topic.topic,
            message,
            &settings,
            stream,
            shared,
        );
        routes
            .sink(&sink.key)
            .set_pipeline(Some(Arc::clone(&pipeline)));
        let open = OpenTopic {
            topic: topic.clone(),
            settings,
            pipeline,
        };
        if let Some(before) = self.open.insert(sink.key.clone(), open) {
            before.pipeline.stop_accepting();
        }
        true
    }
}
