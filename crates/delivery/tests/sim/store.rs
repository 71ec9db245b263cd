//! Metadata store in memory: a power cut loses exactly what was not committed. It passes the
//! conformance suite, and fails when it is told to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_meta::kv::embedded::MonotonicClock;
use forebay_meta::kv::store::{
    EntryPage, KeyCondition, LeaseId, Precondition, RANGE_ENTRIES_MAX, Revision, Store, StoreEntry,
    StoreError, Txn, TxnError, TxnOp, WatchBatch, WatchError, WatchEvent, WatchStream, check_key,
};
use tokio::sync::Notify;

use crate::gate::{Gates, Step, Verdict};

/// Disk of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    head: Revision,
    opened: u64,
    entries: BTreeMap<String, StoreEntry>,
    outage: bool,
    /// Deliberate bug: entries as of this revision reappear after a power cut.
    forgets: Option<(Revision, BTreeMap<String, StoreEntry>)>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_outage(&self, outage: bool) {
        self.lock().outage = outage;
    }

    /// Saves the current content, for [`Self::lose_the_last`].
    pub(crate) fn remember(&self) {
        let mut kept = self.lock();
        kept.forgets = Some((kept.head, kept.entries.clone()));
    }

    /// Deliberate bug: committed transactions are lost.
    pub(crate) fn lose_the_last(&self) {
        let mut kept = self.lock();
        if let Some((_, entries)) = kept.forgets.take() {
            kept.entries = entries;
        }
    }
}

struct Lease {
    ttl: Duration,
    ends: Duration,
}

/// State of a process in memory.
#[derive(Default)]
struct Session {
    /// First transaction that is remembered.
    first: u64,
    past: Vec<Arc<Vec<WatchEvent>>>,
    leases: BTreeMap<LeaseId, Lease>,
    granted: u64,
}

/// A store, as one process sees it.
pub(crate) struct SimStore(Arc<Shared>);

struct Shared {
    disk: Disk,
    session: Mutex<Session>,
    /// Wakes the watches in the order in which they wait, unlike a `watch` channel.
    committed: Notify,
    clock: Arc<dyn MonotonicClock>,
    gates: Gates,
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl SimStore {
    /// Opens the store: all earlier leases have ended.
    pub(crate) fn open(disk: &Disk, clock: Arc<dyn MonotonicClock>, gates: Gates) -> Self {
        let mut kept = disk.lock();
        kept.opened += 1;
        let leased = kept.entries.values().any(|e| e.lease.is_some());
        if leased {
            kept.head = kept.head.next();
            kept.entries.retain(|_, e| e.lease.is_none());
        }
        let session = Session {
            first: kept.head.0 + 1,
            ..Session::default()
        };
        drop(kept);
        Self(Arc::new(Shared {
            disk: disk.clone(),
            session: Mutex::new(session),
            committed: Notify::new(),
            clock,
            gates,
        }))
    }

    /// Compacts all changes up to now.
    pub(crate) fn compact(&self) {
        let head = self.0.disk.lock().head;
        let mut session = self.0.session();
        session.first = head.0 + 1;
        session.past.clear();
    }

    /// Ends expired leases.
    pub(crate) fn expire(&self) {
        let now = self.0.clock.elapsed();
        let over: Vec<LeaseId> = {
            let session = self.0.session();
            let over = session.leases.iter().filter(|(_, l)| l.ends <= now);
            over.map(|(id, _)| *id).collect()
        };
        for id in over {
            self.0.end(id);
        }
    }

    fn available(&self) -> Result<(), StoreError> {
        self.expire();
        if self.0.disk.lock().outage {
            return Err(StoreError::Unavailable("outage".to_owned()));
        }
        Ok(())
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, lease: LeaseId) {
        self.session().leases.remove(&lease);
        let keys: Vec<String> = {
            let kept = self.disk.lock();
            let hung = kept.entries.values().filter(|e| e.lease == Some(lease));
            hung.map(|e| e.key.clone()).collect()
        };
        let mut txn = Txn::new();
        for key in keys {
            txn.delete(key);
        }
        // It has no preconditions.
        drop(self.commit(&txn));
    }

    /// Makes the changes, if all preconditions hold.
    fn commit(&self, txn: &Txn) -> Result<Revision, TxnError> {
        let mut kept = self.disk.lock();
        for op in &txn.ops {
            if let TxnOp::Put { lease: Some(l), .. } = op
                && !self.session().leases.contains_key(l)
            {
                return Err(StoreError::LeaseNotFound(*l).into());
            }
        }
        let mut expected = txn.preconditions.iter();
        if let Some(failed) = expected.position(|p| !kept.holds(p)) {
            return Err(TxnError::Conflict(failed));
        }
        let revision = kept.head.next();
        let mut events = Vec::new();
        for op in &txn.ops {
            kept.apply(op, revision, &mut events);
        }
        if events.is_empty() {
            return Ok(kept.head);
        }
        kept.head = revision;
        self.session().past.push(Arc::new(events));
        self.committed.notify_waiters();
        Ok(revision)
    }

    fn batch(&self, prefix: &str, from: Revision) -> Result<Option<WatchBatch>, WatchError> {
        let session = self.session();
        let Some(skip) = from.0.checked_sub(session.first) else {
            return Err(WatchError::Compacted {
                oldest: Revision(session.first),
            });
        };
        let past = session.past.iter().skip(usize::try_from(skip).unwrap());
        let mut batch = WatchBatch {
            events: Vec::new(),
            revision: Revision(session.first + session.past.len() as u64 - 1),
        };
        if batch.revision < from {
            return Ok(None);
        }
        for events in past {
            let ours = events.iter().filter(|e| e.key().starts_with(prefix));
            batch.events.extend(ours.cloned());
        }
        Ok(Some(batch))
    }
}

impl Kept {
    fn apply(&mut self, op: &TxnOp, revision: Revision, events: &mut Vec<WatchEvent>) {
        match op {
            TxnOp::Put { key, value, lease } => {
                let before = self.entries.get(key);
                let entry = StoreEntry {
                    key: key.clone(),
                    value: value.clone(),
                    create_revision: before.map_or(revision, |e| e.create_revision),
                    mod_revision: revision,
                    lease: *lease,
                };
                events.push(WatchEvent::Put(entry.clone()));
                self.entries.insert(key.clone(), entry);
            }
            TxnOp::Delete { key } => {
                if self.entries.remove(key).is_some() {
                    let key = key.clone();
                    events.push(WatchEvent::Delete { key, revision });
                }
            }
            TxnOp::DeletePrefix { prefix } => {
                let keys = self.entries.keys().filter(|k| k.starts_with(prefix));
                for key in keys.cloned().collect::<Vec<_>>() {
                    self.entries.remove(&key);
                    events.push(WatchEvent::Delete { key, revision });
                }
            }
        }
    }

    fn holds(&self, precondition: &Precondition) -> bool {
        let (key, expect) = match precondition {
            Precondition::Key { key, expect } => (key, *expect),
            Precondition::NotNewer { prefix, revision } => {
                let below = self.entries.range(prefix.clone()..);
                let mut below = below.take_while(|(key, _)| key.starts_with(prefix));
                return below.all(|(_, e)| e.mod_revision <= *revision);
            }
        };
        match (self.entries.get(key), expect) {
            (Some(e), KeyCondition::Revision(r)) => e.mod_revision == r,
            (entry, KeyCondition::Absent) => entry.is_none(),
            (entry, KeyCondition::Exists) => entry.is_some(),
            (None, KeyCondition::Revision(_)) => false,
        }
    }
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        check_key(key)?;
        if self.0.gates.pass(Step::Get, key).await == Verdict::Fail {
            return Err(StoreError::Unavailable("the read failed".to_owned()));
        }
        self.available()?;
        Ok(self.0.disk.lock().entries.get(key).cloned())
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError> {
        self.available()?;
        let kept = self.0.disk.lock();
        let limit = limit.min(RANGE_ENTRIES_MAX);
        let mut found = kept
            .entries
            .range(prefix.to_owned()..)
            .take_while(|(k, _)| k.starts_with(prefix))
            .filter(|(k, _)| after.is_none_or(|a| k.as_str() > a))
            .map(|(_, e)| e.clone());
        let entries: Vec<StoreEntry> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        drop(found);
        Ok(EntryPage {
            entries,
            more,
            revision: kept.head,
        })
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        txn.check()?;
        let what = txn.ops.first().map_or("nothing", |op| match op {
            TxnOp::Put { key, .. }
            | TxnOp::Delete { key }
            | TxnOp::DeletePrefix { prefix: key } => key,
        });
        if self.0.gates.pass(Step::Commit, what).await == Verdict::Fail {
            // Not done, and the caller can't know.
            return Err(StoreError::Uncertain("no answer".to_owned()).into());
        }
        self.available()?;
        let revision = self.0.commit(&txn)?;
        if self.0.gates.pass(Step::Committed, what).await == Verdict::Fail {
            // Done, and the caller can't know.
            return Err(StoreError::Uncertain("no answer".to_owned()).into());
        }
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        self.available()?;
        self.0.batch(prefix, from)?;
        let state = (Arc::clone(&self.0), prefix.to_owned(), Some(from));
        Ok(Box::pin(futures::stream::unfold(
            state,
            |(shared, prefix, from)| async move {
                let mut at = from?;
                let item = loop {
                    // Subscribe before checking, so that no change is missed.
                    let committed = shared.committed.notified();
                    match shared.batch(&prefix, at) {
                        Ok(Some(batch)) => {
                            at = batch.revision.next();
                            break Ok(batch);
                        }
                        Err(e) => break Err(e),
                        Ok(None) => committed.await,
                    }
                };
                let next = item.is_ok().then_some(at);
                Some((item, (shared, prefix, next)))
            },
        )))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.available()?;
        let now = self.0.clock.elapsed();
        let opened = self.0.disk.lock().opened;
        let mut session = self.0.session();
        session.granted += 1;
        let id = LeaseId((opened << 32) | session.granted);
        let ends = now + ttl;
        session.leases.insert(id, Lease { ttl, ends });
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.available()?;
        let now = self.0.clock.elapsed();
        match self.0.session().leases.get_mut(&lease) {
            Some(lease) => {
                lease.ends = now + lease.ttl;
                Ok(())
            }
            None => Err(StoreError::LeaseNotFound(lease)),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.available()?;
        self.0.end(lease);
        Ok(())
    }
}

mod conformance {
    use forebay_meta::kv::conformance::StoreFixture;
    use forebay_meta::kv::embedded::ManualMonotonicClock;

    use super::*;

    struct Simulated {
        store: Arc<SimStore>,
        clock: Arc<ManualMonotonicClock>,
    }

    impl Simulated {
        fn new() -> Self {
            let clock = Arc::new(ManualMonotonicClock::default());
            let gates = Gates::default();
            gates.set_open(true);
            let store = SimStore::open(&Disk::default(), clock.clone(), gates);
            Self {
                store: Arc::new(store),
                clock,
            }
        }
    }

    #[async_trait]
    impl StoreFixture for Simulated {
        fn store(&self) -> Arc<dyn Store> {
            self.store.clone()
        }

        async fn advance_time(&self, time: Duration) {
            self.clock.advance(time);
            self.store.expire();
        }

        async fn compact(&self) {
            self.store.compact();
        }
    }

    forebay_meta::conformance_tests!(Simulated::new());
}
