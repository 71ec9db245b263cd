//! Watch cache: a prefix of the store in memory (Kubernetes informer).
//!
//! The cache reads a prefix, then applies the changes of a watch. A snapshot is always consistent:
//! it has all transactions up to [`Snapshot::revision`] and none after it. When the watch ends, by
//! an error or because the cache was too slow, the cache reloads; meanwhile it shows its last
//! snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::Backoff;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::catalog::Versioned;
use crate::catalog::stored::Stored;
use crate::kv::store::{
    RANGE_ENTRIES_MAX, Revision, Store, StoreEntry, WatchBatch, WatchError, WatchEvent,
};

/// Waits before a reload.
const RELOAD_BACKOFF: Backoff =
    Backoff::doubling(Duration::from_millis(50), Duration::from_secs(5));

/// Pause between two snapshots, for each entry: building a snapshot and processing it in its
/// readers cost some microseconds an entry. With few entries every change is shown at once; with
/// 10,000 that change constantly, ten times a second.
const PAUSE_PER_ENTRY: Duration = Duration::from_micros(10);

/// Content of the prefix at one revision.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// The snapshot has all transactions up to this one, and none after it.
    pub revision: Revision,
    /// Last transaction that changed an entry, or the revision of the last full read, since that
    /// can't show earlier deletions.
    pub changed_at: Revision,
    /// By key (`crate::catalog::keys`).
    pub entries: Arc<BTreeMap<String, Versioned<Arc<T>>>>,
    /// Number of entries that can't be decoded (newer version or damaged). They are logged.
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

    pub fn get(&self, key: &str) -> Option<&Versioned<Arc<T>>> {
        self.entries.get(key)
    }

    /// The entries below a prefix, in key order.
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

/// The cache's task has ended; there are no further snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch cache has stopped")]
pub struct CacheStopped;

/// Reader of the cache. Cheap to clone.
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
    /// Creates a cache of the entries that begin with `prefix`, and the task that fills it: it runs
    /// until its token is cancelled; its owner awaits its end.
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

    /// The latest snapshot; empty, with revision 0, before the first read.
    pub fn snapshot(&self) -> Arc<Snapshot<T>> {
        Arc::clone(&self.shown.borrow())
    }

    /// Waits for the first read.
    pub async fn ready(&self) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        self.wait(|s| s.loaded).await
    }

    /// Waits until the snapshot has all transactions up to `revision`.
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

    /// Subscribes to snapshots; the first one is the latest at the first call of
    /// [`CacheChanges::next`], once there is one.
    pub fn changes(&self) -> CacheChanges<T> {
        CacheChanges {
            shown: self.shown.clone(),
            seen: None,
        }
    }
}

/// Subscription to the changes of a cache.
#[derive(Debug)]
pub struct CacheChanges<T> {
    shown: watch::Receiver<Arc<Snapshot<T>>>,
    seen: Option<Arc<BTreeMap<String, Versioned<Arc<T>>>>>,
}

impl<T> CacheChanges<T> {
    /// Waits until the entries differ from the last call. Several changes may be merged. Cancel
    /// safe.
    pub async fn next(&mut self) -> Result<Arc<Snapshot<T>>, CacheStopped> {
        let seen = &self.seen;
        // The map is replaced exactly when an entry changes.
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

/// The task that fills a cache.
#[derive(Debug)]
pub struct WatchCacheTask<T> {
    store: Arc<dyn Store>,
    prefix: String,
    show: watch::Sender<Arc<Snapshot<T>>>,
}

impl<T: Stored + Send + Sync + 'static> WatchCacheTask<T> {
    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.run_loop() => {}
        }
    }

    async fn run_loop(&self) {
        let mut failures = 0;
        loop {
            let mut progress = false;
            let Err(error) = self.read_and_watch(&mut progress).await;
            if progress {
                failures = 0;
            }
            failures += 1;
            match &error {
                WatchError::Compacted { .. } => {
                    tracing::info!(prefix = self.prefix, "watch fell behind, reloading");
                }
                WatchError::Store(e) => {
                    tracing::warn!(prefix = self.prefix, error = %e, "watch of the metadata store failed, reloading");
                }
            }
            tokio::time::sleep(RELOAD_BACKOFF.delay(failures)).await;
        }
    }

    /// Reads everything, then watches; ends only by an error.
    async fn read_and_watch(
        &self,
        progress: &mut bool,
    ) -> Result<std::convert::Infallible, WatchError> {
        let (mut next, from, until) = self.read().await?;
        let mut watch = self.store.watch(&self.prefix, from.next()).await?;
        // Pages of several revisions are consistent once the watch has reached the last of them.
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

    /// Reads all pages; returns the revisions of the first and the last one too.
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
                tracing::error!(key = entry.key, error = %e, "can't decode a value of the metadata store");
            }
        }
    }

    fn apply(&self, next: &mut Snapshot<T>, batch: WatchBatch) {
        next.revision = batch.revision;
        for event in batch.events {
            // A later page may have shown this change, or an even later one.
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
        // If a reload found no difference, keep the map, so that no subscriber is woken.
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
