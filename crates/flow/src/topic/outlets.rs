//! Who delivers what: an outlet for each sink that has messages and is not paused.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use forebay_buffer::{LaneStats, Outlet};
use forebay_log::{AppendError, StreamId, Ticket};
use forebay_meta::repo::letters::LetterOwner;
use forebay_meta::{Mirror, Repo, Snapshot, StoreError, keys};
use forebay_model::{HttpMethod, Sink, SinkKey, TopicKind, TopicSink, TopicStatistics};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::settled::Settled;
use super::{MESSAGES, SETTLED, Stream, Topics, UNDELIVERED, undelivered};
use crate::metrics;

/// How often everything is looked through without a reason.
const TICK: Duration = Duration::from_secs(1);
/// In so many of these, streams are compared with the store.
const COMPARED: u32 = 20;

/// What of a sink its writer, its delivery and its statistics share.
#[derive(Debug)]
pub(super) struct Place {
    slot: Mutex<Slot>,
    /// Whoever has it decides whether there is an outlet, and what becomes of letters.
    turn: Mutex<()>,
    /// Which letters are done with, once that was read.
    pub(super) settled: Mutex<Option<Settled>>,
    /// Its figures from before letters were on their way, as long as they are: meanwhile some are
    /// letters and messages.
    pub(super) before: Mutex<Option<TopicStatistics>>,
    woken: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Slot {
    outlet: Option<(Wanted, Arc<Outlet>)>,
    /// Why there is none that should be there.
    problem: Option<String>,
}

/// What an outlet is for: when it changes there is another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    stream: String,
    kind: TopicKind,
    provider: String,
    topic: String,
    batches: bool,
    method: HttpMethod,
}

/// How the delivery of a sink is.
pub(super) enum Delivered {
    /// As the lane says.
    Lane(LaneStats),
    /// There is none, for this reason.
    Problem(String),
}

impl Place {
    pub(super) fn new(woken: Arc<Notify>) -> Self {
        Self {
            slot: Mutex::default(),
            turn: Mutex::default(),
            settled: Mutex::default(),
            before: Mutex::default(),
            woken,
        }
    }

    /// Waits for its turn.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        // What a panic has left half done is found in the log.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its turn, if nobody has it.
    pub(super) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Changes are complete before anything could panic.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows these figures until there are none, and keeps as long all that is in the stream. Whoever
    /// calls it has the turn.
    pub(super) fn hold(&self, figures: Option<TopicStatistics>) {
        if let Some((_, outlet)) = &self.slot().outlet {
            outlet.hold_cursor(figures.is_some());
        }
        // Replaced as a whole.
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// Whether letters are on their way, as far as is known.
    pub(super) fn is_moving(&self) -> bool {
        let settled = self.settled.lock();
        let settled = settled.unwrap_or_else(PoisonError::into_inner);
        settled.as_ref().is_some_and(|s| s.moving.is_some())
    }

    /// A block was committed.
    pub(super) fn wake(&self) {
        match &self.slot().outlet {
            Some((_, outlet)) => outlet.wake(),
            None => self.woken.notify_one(),
        }
    }

    /// How its delivery is; `None` when there is nothing to deliver or it is paused.
    pub(super) fn delivered(&self) -> Option<Delivered> {
        let slot = self.slot();
        if let Some(problem) = &slot.problem {
            return Some(Delivered::Problem(problem.clone()));
        }
        let outlet = slot.outlet.as_ref().map(|(_, outlet)| Arc::clone(outlet));
        drop(slot);
        outlet.map(|o| Delivered::Lane(o.stats()))
    }

    /// Ends the outlet; returns when its cursor is on disk.
    pub(super) fn leave(&self) {
        let outlet = self.slot().outlet.take();
        if let Some((_, outlet)) = outlet {
            outlet.close();
        }
    }
}

impl Topics {
    /// Delivers until `stop`.
    pub async fn run(self: Arc<Self>, repo: Repo, stop: CancellationToken) {
        let store = repo.store();
        let (sinks, a) = Mirror::<Sink>::new(Arc::clone(store), keys::SINKS);
        let (deleted, b) = Mirror::<Sink>::new(Arc::clone(store), keys::DELETED_SINKS);
        let mut filling = JoinSet::new();
        filling.spawn(a.run(stop.clone()));
        filling.spawn(b.run(stop.clone()));
        let mut changes = (sinks.changes(), deleted.changes());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = changes.0.next() => if change.is_err() { break },
                change = changes.1.next() => if change.is_err() { break },
                () = self.woken.notified() => {}
                _ = tick.tick() => {
                    ticks += 1;
                    if ticks % COMPARED == 0 && let Err(error) = self.compare(&repo).await {
                        tracing::warn!(%error, "streams of topics could not be compared with the store");
                    }
                }
            }
            let (this, sinks, deleted) = (Arc::clone(&self), sinks.snapshot(), deleted.snapshot());
            let settled = tokio::task::spawn_blocking(move || this.settle(&sinks, &deleted));
            if let Err(error) = settled.await {
                tracing::error!(%error, "topics could not be looked after");
            }
        }
        drop(tokio::task::spawn_blocking(move || self.leave_all()).await);
        while filling.join_next().await.is_some() {}
    }

    /// All outlets end, at the same time.
    fn leave_all(&self) {
        let places: Vec<_> = self.places().values().cloned().collect();
        for place in &places {
            if let Some((_, outlet)) = &place.slot().outlet {
                outlet.stop();
            }
        }
        places.iter().for_each(|p| p.leave());
    }

    /// Makes it so that each sink's messages are delivered as its definition says.
    fn settle(&self, sinks: &Snapshot<Sink>, deleted: &Snapshot<Sink>) {
        let mut streams = self.streams(MESSAGES);
        let mut known = BTreeSet::new();
        let all = sinks.entries.values().map(|s| (s, false));
        let all = all.chain(deleted.entries.values().map(|s| (s, true)));
        for (sink, is_deleted) in all {
            let Some(topic) = sink.target.topic() else {
                continue;
            };
            if known.insert(sink.key.clone()) {
                let streams = streams.remove(&sink.key).unwrap_or_default();
                self.look_after(sink, topic, is_deleted, &streams);
            }
        }
        let unknown: Vec<_> = {
            let places = self.places();
            let unknown = places.iter().filter(|(key, _)| !known.contains(key));
            unknown.map(|(_, place)| Arc::clone(place)).collect()
        };
        unknown.iter().for_each(|place| place.leave());
    }

    pub(super) fn look_after(
        &self,
        sink: &Sink,
        topic: &TopicSink,
        is_deleted: bool,
        streams: &[Stream],
    ) {
        let place = self.place(&sink.key);
        let mut left = Vec::new();
        for stream in streams {
            if is_deleted && !stream.stats.closed {
                // No message comes in any more; what is left of it is seen the next time.
                let log = &self.deps.log;
                done(
                    &stream.stats.name,
                    "closed",
                    |id| log.close_stream(id),
                    stream.stats.id,
                );
                self.woken.notify_one();
                left.push(stream);
            } else if stream.stats.closed && stream.is_drained() {
                place.leave();
                self.remove(&stream.stats.name);
            } else {
                left.push(stream);
            }
        }
        let first = left.iter().find(|s| !s.is_drained()).or(left.last());
        let wanted = first.filter(|_| sink.paused.is_none());
        let wanted = wanted.map(|stream| Wanted {
            stream: stream.stats.name.clone(),
            kind: topic.kind,
            provider: topic.provider.clone(),
            topic: topic.topic.clone(),
            batches: topic.batches,
            method: topic.method,
        });
        self.open_or_leave(&place, sink, topic, wanted);
        self.measure(sink);
    }

    fn open_or_leave(&self, place: &Place, sink: &Sink, topic: &TopicSink, wanted: Option<Wanted>) {
        let Some(_turn) = place.try_turn() else {
            // Letters are on their way into the stream; we are woken after it.
            return;
        };
        if place.slot().outlet.as_ref().map(|(w, _)| w) == wanted.as_ref() {
            if wanted.is_none() {
                place.slot().problem = None;
            }
            return;
        }
        place.leave();
        let opened = wanted.map(|wanted| {
            // Before a message can go: whose letter it was is only known while it is there.
            let settled = self.settled(place, &sink.key);
            settled.map_err(|e| e.to_string())?;
            let provider = (self.deps.connect)(topic)?;
            let outlet = Outlet::open(
                &self.deps.log,
                Arc::clone(&self.deps.env),
                &self.stands(&wanted),
                self.deps.config.delivery(),
                provider,
            );
            let outlet = outlet.map_err(|e| e.to_string())?;
            Ok::<_, String>((wanted, Arc::new(outlet)))
        });
        let mut slot = place.slot();
        match opened.transpose() {
            Ok(outlet) => {
                *slot = Slot {
                    outlet,
                    problem: None,
                }
            }
            Err(problem) => slot.problem = Some(problem),
        }
    }

    fn stands(&self, wanted: &Wanted) -> forebay_buffer::Place {
        let volume = self.deps.log.volume_stats().volume;
        forebay_buffer::Place {
            stream: wanted.stream.clone(),
            dead: undelivered(&wanted.stream),
            lane: wanted.topic.as_str().into(),
            id: id(&format!("{volume:016x}/{}", wanted.stream)),
        }
    }

    /// A stream that is closed and delivered goes away, and its dead letters if there are none.
    fn remove(&self, name: &str) {
        let log = &self.deps.log;
        let letters = undelivered(name);
        let has_none = |id: &StreamId| log.stats(*id).is_some_and(|s| s.next_seq == 0);
        let both = [log.find(&letters).filter(has_none), log.find(name)];
        for (name, id) in [letters.as_str(), name].into_iter().zip(both) {
            if let Some(id) = id {
                done(name, "deleted", |id| log.delete_stream(id), id);
            }
        }
    }

    /// Streams of sinks that were forgotten for good go with them; those of sinks that the store has
    /// never known are kept.
    async fn compare(&self, repo: &Repo) -> Result<(), StoreError> {
        let mut by_sink = self.streams(MESSAGES);
        for prefix in [UNDELIVERED, SETTLED] {
            for (sink, mut letters) in self.streams(prefix) {
                by_sink.entry(sink).or_default().append(&mut letters);
            }
        }
        for (sink, streams) in by_sink {
            match repo.letter_owner(&sink).await? {
                LetterOwner::Sink => {}
                LetterOwner::Forgotten => self.forget(&sink, &streams),
                LetterOwner::Unknown => {
                    tracing::warn!(%sink, "the store does not know the sink of these messages, they are kept");
                }
            }
        }
        Ok(())
    }

    fn forget(&self, sink: &SinkKey, streams: &[Stream]) {
        let place = self.places().remove(sink);
        let log = &self.deps.log;
        // What says which letters are done with is the last and goes first: it must not outlive them,
        // or it would say so of those of a later sink of that id.
        for stream in streams.iter().rev() {
            // Not waited for: what is not deleted now is found again.
            if let Err(error) = log.delete_stream(stream.stats.id) {
                tracing::warn!(stream = stream.stats.name, %error, "a stream could not be deleted");
            }
        }
        drop(place);
    }

    fn measure(&self, sink: &Sink) {
        metrics::topic(&sink.key, &self.statistics(sink));
    }
}

/// Waits until something is done with a stream, and says if not: then it is tried again.
fn done(
    name: &str,
    what: &'static str,
    act: impl FnOnce(StreamId) -> Result<Ticket, AppendError>,
    id: StreamId,
) {
    let acted = act(id).map_err(|e| e.to_string());
    let acted = acted.and_then(|ticket| ticket.wait().map_err(|e| e.to_string()));
    if let Err(error) = acted {
        tracing::warn!(stream = name, error, "a stream could not be {what}");
    }
}

/// 64 bits of a name, the same for ever: FNV-1a.
fn id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn ids_stay_what_they_are() {
        // Providers know streams by them.
        assert_eq!(id(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(id("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
