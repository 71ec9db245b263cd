//! Reconciles delivery workers: one for each sink that has messages and is not paused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::DeliveryWorker;
use forebay_log::{LogAppendError, StreamId, Ticket};
use forebay_meta::catalog::dead_letters::DeadLetterOwner;
use forebay_meta::catalog::keys::{self, StoreKey};
use forebay_meta::{Repo, Snapshot, StoreError, WatchCache};
use forebay_model::{Sink, SinkKey, Source, SourceKey, TopicSink};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::shared_topic::{DeliverySlot, DeliverySpec, SharedTopic};
use super::{SinkStream, TopicRegistry};
use forebay_ingest::streams::{
    TOPIC_DEAD_LETTER_PREFIX, TOPIC_PREFIX, TOPIC_RESOLVED_PREFIX, topic_dead_letter_stream,
};

/// Interval of reconciliation without a change.
const TICK: Duration = Duration::from_secs(1);
/// Streams are compared with the store in one of so many intervals.
const COMPARE_EVERY: u32 = 20;

impl TopicRegistry {
    /// Delivers until `stop`.
    pub async fn run(self: Arc<Self>, repo: Repo, stop: CancellationToken) {
        let store = repo.store();
        let (sinks, a) = WatchCache::<Sink>::new(Arc::clone(store), keys::SINKS);
        let (deleted, b) = WatchCache::<Sink>::new(Arc::clone(store), keys::DELETED_SINKS);
        let (sources, c) = WatchCache::<Source>::new(Arc::clone(store), keys::SOURCES);
        let (gone, d) = WatchCache::<Source>::new(Arc::clone(store), keys::DELETED_SOURCES);
        let mut filling = JoinSet::new();
        filling.spawn(a.run(stop.clone()));
        filling.spawn(b.run(stop.clone()));
        filling.spawn(c.run(stop.clone()));
        filling.spawn(d.run(stop.clone()));
        let mut changes = (sinks.changes(), deleted.changes(), gone.changes());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = changes.0.next() => if change.is_err() { break },
                change = changes.1.next() => if change.is_err() { break },
                change = changes.2.next() => if change.is_err() { break },
                () = self.wake.notified() => {}
                _ = tick.tick() => {
                    ticks += 1;
                    if ticks % COMPARE_EVERY == 0 && let Err(error) = self.compare_with_store(&repo).await {
                        tracing::warn!(%error, "comparing topic streams with the store failed");
                    }
                }
            }
            let sources = DeletedSources {
                present: sources.snapshot(),
                deleted: gone.snapshot(),
            };
            let (this, sinks, deleted) = (Arc::clone(&self), sinks.snapshot(), deleted.snapshot());
            let reconciled =
                tokio::task::spawn_blocking(move || this.reconcile(&sinks, &deleted, &sources));
            if let Err(error) = reconciled.await {
                tracing::error!(%error, "topic reconciliation failed");
            }
        }
        drop(tokio::task::spawn_blocking(move || self.detach_all()).await);
        while filling.join_next().await.is_some() {}
    }

    /// Detaches all workers concurrently.
    fn detach_all(&self) {
        let shared_topics: Vec<_> = self.shared_topics().values().cloned().collect();
        for shared_topic in &shared_topics {
            if let Some((_, worker)) = &shared_topic.delivery().worker {
                worker.stop();
            }
        }
        shared_topics.iter().for_each(|p| p.detach());
    }

    /// Reconciles delivery workers with the sink definitions.
    fn reconcile(
        &self,
        sinks: &Snapshot<Sink>,
        deleted: &Snapshot<Sink>,
        sources: &DeletedSources,
    ) {
        let mut streams = self.streams(TOPIC_PREFIX);
        let mut known = BTreeSet::new();
        let all = sinks.entries.values();
        let all = all.map(|s| (s, sources.contain(&s.key.source)));
        let all = all.chain(deleted.entries.values().map(|s| (s, true)));
        for (sink, is_deleted) in all {
            let Some(topic) = sink.target.topic() else {
                continue;
            };
            if known.insert(sink.key.clone()) {
                let streams = streams.remove(&sink.key).unwrap_or_default();
                self.reconcile_sink(sink, topic, is_deleted, &streams);
            }
        }
        let unknown: Vec<_> = {
            let shared_topics = self.shared_topics();
            let unknown = shared_topics.iter().filter(|(key, _)| !known.contains(key));
            unknown
                .map(|(_, shared_topic)| Arc::clone(shared_topic))
                .collect()
        };
        unknown
            .iter()
            .for_each(|shared_topic| shared_topic.detach());
    }

    pub(super) fn reconcile_sink(
        &self,
        sink: &Sink,
        topic: &TopicSink,
        is_deleted: bool,
        streams: &[SinkStream],
    ) {
        let shared_topic = self.shared_topic(&sink.key);
        let mut remaining = Vec::new();
        for stream in streams {
            if is_deleted && !stream.stats.closed {
                // No message arrives any more; the rest is handled the next time.
                let log = &self.deps.log;
                await_change(
                    &stream.stats.name,
                    "closed",
                    |id| log.close_stream(id),
                    stream.stats.id,
                );
                self.wake.notify_one();
                remaining.push(stream);
            } else if stream.stats.closed && stream.is_drained() {
                shared_topic.detach();
                self.delete_drained(&stream.stats.name);
            } else {
                remaining.push(stream);
            }
        }
        let first = remaining
            .iter()
            .find(|s| !s.is_drained())
            .or(remaining.last());
        let spec = first.filter(|_| sink.paused.is_none());
        let spec = spec.map(|stream| DeliverySpec {
            stream: stream.stats.name.clone(),
            kind: topic.kind,
            provider: topic.provider.clone(),
            topic: topic.topic.clone(),
            batches: topic.batches,
            method: topic.method,
        });
        self.open_or_detach(&shared_topic, sink, topic, spec);
    }

    fn open_or_detach(
        &self,
        shared_topic: &SharedTopic,
        sink: &Sink,
        topic: &TopicSink,
        spec: Option<DeliverySpec>,
    ) {
        let Some(_lock) = shared_topic.try_lock() else {
            // A replay is in progress, which wakes us when it ends.
            return;
        };
        if shared_topic.delivery().worker.as_ref().map(|(w, _)| w) == spec.as_ref() {
            if spec.is_none() {
                shared_topic.delivery().problem = None;
            }
            return;
        }
        shared_topic.detach();
        let opened = spec.map(|wanted| {
            // Before a message is delivered: only while it exists can its dead letter be
            // identified.
            let acked = self.acked_ranges(shared_topic, &sink.key);
            acked.map_err(|e| e.to_string())?;
            let provider = (self.deps.connect)(topic)?;
            let worker = DeliveryWorker::open(
                &self.deps.log,
                Arc::clone(&self.deps.env),
                &self.stream_binding(&wanted),
                self.deps.config.buffer_config(),
                provider,
            );
            let worker = worker.map_err(|e| e.to_string())?;
            Ok::<_, String>((wanted, Arc::new(worker)))
        });
        let mut slot = shared_topic.delivery();
        match opened.transpose() {
            Ok(worker) => {
                *slot = DeliverySlot {
                    worker,
                    problem: None,
                }
            }
            Err(problem) => slot.problem = Some(problem),
        }
    }

    fn stream_binding(&self, spec: &DeliverySpec) -> forebay_buffer::StreamBinding {
        let volume = self.deps.log.volume_stats().volume;
        forebay_buffer::StreamBinding {
            stream: spec.stream.clone(),
            dead: topic_dead_letter_stream(&spec.stream),
            partition: spec.topic.as_str().into(),
            id: fnv1a(&format!("{volume:016x}/{}", spec.stream)),
        }
    }

    /// Deletes a stream that is closed and delivered, and its dead-letter stream if that is empty.
    fn delete_drained(&self, name: &str) {
        let log = &self.deps.log;
        let dead_letters = topic_dead_letter_stream(name);
        let has_none = |id: &StreamId| log.stats(*id).is_some_and(|s| s.next_seq == 0);
        let both = [log.find(&dead_letters).filter(has_none), log.find(name)];
        for (name, id) in [dead_letters.as_str(), name].into_iter().zip(both) {
            if let Some(id) = id {
                await_change(name, "deleted", |id| log.delete_stream(id), id);
            }
        }
    }

    /// Deletes streams of sinks that were removed for good; those of sinks that the store has never
    /// known are kept.
    async fn compare_with_store(&self, repo: &Repo) -> Result<(), StoreError> {
        let mut by_sink = self.streams(TOPIC_PREFIX);
        for prefix in [TOPIC_DEAD_LETTER_PREFIX, TOPIC_RESOLVED_PREFIX] {
            for (sink, mut dead_letters) in self.streams(prefix) {
                by_sink.entry(sink).or_default().append(&mut dead_letters);
            }
        }
        for (sink, streams) in by_sink {
            match repo.dead_letter_owner(&sink).await? {
                DeadLetterOwner::Sink => {}
                DeadLetterOwner::Forgotten => self.delete_streams(&sink, &streams),
                DeadLetterOwner::Unknown => {
                    tracing::warn!(%sink, "sink of these messages is unknown to the store; they are kept");
                }
            }
        }
        Ok(())
    }

    fn delete_streams(&self, sink: &SinkKey, streams: &[SinkStream]) {
        let shared_topic = self.shared_topics().remove(sink);
        let log = &self.deps.log;
        // The record of resolved dead letters is the last and goes first: if it outlived them, it
        // would apply to those of a later sink of that id.
        for stream in streams.iter().rev() {
            // Not awaited: what is not deleted now is found again.
            if let Err(error) = log.delete_stream(stream.stats.id) {
                tracing::warn!(stream = stream.stats.name, %error, "deleting a stream failed");
            }
        }
        drop(shared_topic);
    }
}

/// Sources that are deleted, and with them their sinks.
struct DeletedSources {
    present: Arc<Snapshot<Source>>,
    deleted: Arc<Snapshot<Source>>,
}

impl DeletedSources {
    /// A source that was deleted or restored a moment ago may be in both or in none: then it counts
    /// as present, since the stream of a sink that accepts records must stay open.
    fn contain(&self, source: &SourceKey) -> bool {
        let deleted = StoreKey::DeletedSource(source).to_string();
        let present = StoreKey::Source(source).to_string();
        self.deleted.get(&deleted).is_some() && self.present.get(&present).is_none()
    }
}

/// Waits for a change of a stream, and logs its failure: then it is retried.
fn await_change(
    name: &str,
    what: &'static str,
    act: impl FnOnce(StreamId) -> Result<Ticket, LogAppendError>,
    id: StreamId,
) {
    let acted = act(id).map_err(|e| e.to_string());
    let acted = acted.and_then(|ticket| ticket.wait().map_err(|e| e.to_string()));
    if let Err(error) = acted {
        tracing::warn!(stream = name, error, "a stream could not be {what}");
    }
}

/// 64 bits of a name, stable for ever: FNV-1a.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn ids_are_stable() {
        // Providers identify streams by them.
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
