//! A part of the store, followed in memory.
//!
//! A mirror reads a prefix, then follows it by a watch. What it shows is always one moment of the
//! store: all transactions up to [`Snapshot::revision`] and none after it. When the watch ends, by an
//! error or because the mirror was too slow, it reads anew; until then it goes on showing what it
//! had.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::catalog::Versioned;
use crate::catalog::stored::Stored;
use crate::kv::store::{
    RANGE_ENTRIES_MAX, Revision, Store, StoreEntry, WatchBatch, WatchError, WatchEvent,
};

/// Waits between attempts to read anew.
const RETRY_INITIAL: Duration = Duration::from_millis(50);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Between two snapshots, for each entry: both the next snapshot and what its readers do with it
/// cost some microseconds an entry. With few entries every change shows at once; with 10,000 that
/// change all the time, ten times a second.
const PAUSE_PER_ENTRY: Duration = Duration::from_micros(10);

/// What the store had at one moment.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// All transactions up to this one, and none after it.
    pub revision: Revision,
    /// No later transaction has changed something in here. It is the last one that has, or that as of
    /// which the mirror has read everything: what was removed before, no reading shows.
    pub changed_at: Revision,
    /// By key (`crate::catalog::keys`).
    pub entries: Arc<BTreeMap<String, Versioned<Arc<T>>>>,
    /// Entries that can't be read, of another version or damaged. They are logged.
    pub undecodable: usize,
    loaded: bool,
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self {
            revision: self.revision,
            changed_at: self.changed_at,
            entries: Arc::clone(&self.entries),
            undecodable: self.undecodable,
            loaded: self.loaded,
        }
    }
}

impl<T> Snapshot<T> {
    fn empty() -> Self {
        Self {
            revision: Revision::default(),
            changed_at: Revision::default(),
            entries: Arc::default(),
            undecodable: 0,
            loaded: false,
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Versioned<Arc<T>>> {
        self.entries.get(key)
    }

    /// The entries below a prefix, in the order of their keys.
    pub fn below<'s>(
        &'s self,
        prefix: &'s str,
    ) -> impl Iterator<Item = (&'s String, &'s Versioned<Arc<T>>)> {
        self.entries
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// The mirror's task has ended; nothing new will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mirror has stopped")]
pub struct CacheStopped;

/// What reads the mirror. Cheap to clone.
#[derive(Debug)]
pub struct WatchCache<T> {
    shown: watch::Receiver<Arc<Snapshot<T>>>,
}

impl<T> Clone for WatchCache<T> {
    fn clone(&self) -> Self {
        Self {
            shown: self.shown.clone(),
        }
    }
}

impl<T: Stored + Send + Sync + 'static> WatchCache<T> {
    /// A mirror of the entries that begin with `prefix`, and the work that fills it: it runs until
    /// its token is cancelled, and whoever owns it awaits its end.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, prefix: impl Into<String>) -> (Self, WatchCacheTask<T>) {
        let (show, shown) = watch::channel(Arc::new(Snapshot::empty()));
        let task = WatchCacheTask {
            store,
            prefix: prefix.into(),
            show,
        };
        (Self { shown }, task)
    }

    /// What is known now; empty, of revision 0, before the first reading.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot<T>> {
        Arc::clone(&self.shown.borrow())
    }

    /// Waits for the first reading.
    ///
    /// # Errors
    /// [`CacheStopped`].
    pub async fn ready(&self) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        self.wait(|s| s.loaded).await
    }

    /// Waits until the mirror shows all transactions up to `revision`.
    ///
    /// # Errors
    /// [`CacheStopped`].
    pub async fn wait_for(&self, revision: Revision) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        self.wait(|s| s.loaded && s.revision >= revision).await
    }

    async fn wait(
        &self,
        mut until: impl FnMut(&Snapshot<T>) -> bool,
    ) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        let mut shown = self.shown.clone();
        match shown.wait_for(|s| until(s)).await {
            Ok(snapshot) => Ok(Arc::clone(&snapshot)),
            Err(_) => Err(CacheStopped),
        }
    }

    /// Follows the mirror's changes; the first one is what it shows at the time of the call to
    /// [`CacheChanges::next`], as soon as it has read anything.
    #[must_use]
    pub fn changes(&self) -> CacheChanges<T> {
        CacheChanges {
            shown: self.shown.clone(),
            seen: None,
        }
    }
}

/// Follows the changes of a mirror.
#[derive(Debug)]
pub struct CacheChanges<T> {
    shown: watch::Receiver<Arc<Snapshot<T>>>,
    seen: Option<Arc<BTreeMap<String, Versioned<Arc<T>>>>>,
}

impl<T> CacheChanges<T> {
    /// Waits until the entries are others than at the last call. Several changes can be one.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`CacheStopped`].
    pub async fn next(&mut self) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        let seen = &self.seen;
        // The map is replaced by another exactly when something in it changes.
        let is_new = |s: &Arc<Snapshot<T>>| {
            s.loaded
                && seen
                    .as_ref()
                    .is_none_or(|seen| !Arc::ptr_eq(seen, &s.entries))
        };
        let snapshot = match self.shown.wait_for(is_new).await {
            Ok(snapshot) => Arc::clone(&snapshot),
            Err(_) => return Err(CacheStopped),
        };
        self.seen = Some(Arc::clone(&snapshot.entries));
        Ok(snapshot)
    }
}

/// The work that fills a mirror.
#[derive(Debug)]
pub struct WatchCacheTask<T> {
    store: Arc<dyn Store>,
    prefix: String,
    show: watch::Sender<Arc<Snapshot<T>>>,
}

impl<T: Stored + Send + Sync + 'static> WatchCacheTask<T> {
    /// Follows the store until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.run_loop() => {}
        }
    }

    async fn run_loop(&self) {
        let mut wait = RETRY_INITIAL;
        loop {
            let mut progress = false;
            let Err(error) = self.read_and_watch(&mut progress).await;
            if progress {
                wait = RETRY_INITIAL;
            }
            match &error {
                WatchError::Compacted { .. } => {
                    tracing::info!(prefix = self.prefix, "too slow to follow, reading anew");
                }
                WatchError::Store(e) => {
                    tracing::warn!(prefix = self.prefix, error = %e, "can't follow the metadata store, reading anew");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Reads everything, then follows; ends only by an error.
    async fn read_and_watch(
        &self,
        progress: &mut bool,
    ) -> Result<std::convert::Infallible, WatchError> {
        let (mut next, from, until) = self.read().await?;
        let mut watch = self.store.watch(&self.prefix, from.next()).await?;
        // Pages of several moments become one when the watch has reached the last of them.
        if until <= from {
            self.publish(&mut next);
            *progress = true;
        }
        let mut not_before = Instant::now();
        loop {
            let ended = || WatchError::Compacted { oldest: from };
            let batch = watch.next().await.ok_or_else(ended)?;
            self.apply(&mut next, batch?);
            while Instant::now() < not_before
                && let Ok(more) = timeout_at(not_before, watch.next()).await
            {
                self.apply(&mut next, more.ok_or_else(ended)??);
            }
            if next.revision >= until {
                self.publish(&mut next);
                *progress = true;
                let entries = u32::try_from(next.entries.len()).unwrap_or(u32::MAX);
                not_before = Instant::now() + PAUSE_PER_ENTRY * entries;
            }
        }
    }

    /// All pages; the revisions of the first and of the last one.
    async fn read(&self) -> Result<(Snapshot<T>, Revision, Revision), WatchError> {
        let mut next = Snapshot::empty();
        let mut entries = BTreeMap::new();
        let (mut first, mut after): (Option<Revision>, Option<String>) = (None, None);
        loop {
            let page = self
                .store
                .range(&self.prefix, after.as_deref(), RANGE_ENTRIES_MAX)
                .await?;
            let from = *first.get_or_insert(page.revision);
            after = page.entries.last().map(|e| e.key.clone());
            for entry in page.entries {
                next.changed_at = next.changed_at.max(entry.mod_revision);
                self.insert(&mut entries, &mut next.undecodable, entry);
            }
            if !page.more {
                next.revision = from;
                next.changed_at = next.changed_at.max(from);
                next.loaded = true;
                next.entries = Arc::new(entries);
                return Ok((next, from, page.revision));
            }
        }
    }

    fn insert(
        &self,
        entries: &mut BTreeMap<String, Versioned<Arc<T>>>,
        undecodable: &mut usize,
        entry: StoreEntry,
    ) {
        match T::decode(&entry.value) {
            Ok(value) => {
                let value = Versioned {
                    value: Arc::new(value),
                    revision: entry.mod_revision,
                };
                entries.insert(entry.key, value);
            }
            Err(e) => {
                *undecodable += 1;
                entries.remove(&entry.key);
                tracing::error!(key = entry.key, error = %e, "a value of the metadata store can't be read");
            }
        }
    }

    fn apply(&self, next: &mut Snapshot<T>, batch: WatchBatch) {
        next.revision = batch.revision;
        for event in batch.events {
            // A later page may have shown it already, or even what came after it.
            let known = next.entries.get(event.key()).map(|e| e.revision);
            if known.is_some_and(|known| known >= event.revision()) {
                continue;
            }
            next.changed_at = next.changed_at.max(event.revision());
            let entries = Arc::make_mut(&mut next.entries);
            match event {
                WatchEvent::Put(entry) => self.insert(entries, &mut next.undecodable, entry),
                WatchEvent::Delete { key, .. } => drop(entries.remove(&key)),
            }
        }
    }

    fn publish(&self, next: &mut Snapshot<T>) {
        // A reading that found the same leaves the map as it was, so that nobody is woken.
        let same = {
            let shown = self.show.borrow();
            shown.loaded && same_entries(&shown.entries, &next.entries)
        };
        if same {
            next.entries = Arc::clone(&self.show.borrow().entries);
        }
        let snapshot = Arc::new(next.clone());
        self.show.send_replace(snapshot);
    }
}

/// Whether two maps have the same keys at the same revisions.
fn same_entries<T>(
    a: &Arc<BTreeMap<String, Versioned<Arc<T>>>>,
    b: &Arc<BTreeMap<String, Versioned<Arc<T>>>>,
) -> bool {
    if Arc::ptr_eq(a, b) {
        return true;
    }
    a.len() == b.len()
        && a.iter()
            .zip(b.iter())
            .all(|((ka, va), (kb, vb))| ka == kb && va.revision == vb.revision)
}
