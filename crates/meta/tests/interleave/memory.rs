//! An in-memory store that can be copied, and one that interleaves other operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use forebay_meta::kv::store::{
    EntryPage, KeyCondition, LeaseId, Precondition, RANGE_ENTRIES_MAX, Revision, Store, StoreEntry,
    StoreError, Txn, TxnError, TxnOp, WatchError, WatchStream, check_key,
};
use futures::future::BoxFuture;

#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    entries: BTreeMap<String, StoreEntry>,
    revision: Revision,
}

impl Content {
    /// Keys and values, without revisions.
    pub(crate) fn values(&self) -> BTreeMap<&str, &[u8]> {
        let entries = self.entries.values();
        entries.map(|e| (e.key.as_str(), &*e.value)).collect()
    }

    /// Keys whose values differ, or that are in only one of the two.
    pub(crate) fn differing(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.values(), other.values());
        let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let differing = keys
            .into_iter()
            .filter(|k| ours.get(**k) != theirs.get(**k));
        differing.map(|k| (*k).to_owned()).collect()
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
        let found = self.entries.get(key);
        match expect {
            KeyCondition::Revision(revision) => found.is_some_and(|e| e.mod_revision == revision),
            KeyCondition::Absent => found.is_none(),
            KeyCondition::Exists => found.is_some(),
        }
    }

    fn apply(&mut self, op: TxnOp, revision: Revision) -> bool {
        match op {
            TxnOp::Put { key, value, lease } => {
                let before = self.entries.get(&key).map(|e| e.create_revision);
                let entry = StoreEntry {
                    key: key.clone(),
                    value,
                    create_revision: before.unwrap_or(revision),
                    mod_revision: revision,
                    lease,
                };
                self.entries.insert(key, entry);
                true
            }
            TxnOp::Delete { key } => self.entries.remove(&key).is_some(),
            TxnOp::DeletePrefix { prefix } => {
                let before = self.entries.len();
                self.entries.retain(|key, _| !key.starts_with(&prefix));
                self.entries.len() != before
            }
        }
    }
}

/// In-memory store without watches and leases: the repository's transactions need none.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Content>);

impl Memory {
    pub(crate) fn with(content: Content) -> Self {
        Self(Mutex::new(content))
    }

    pub(crate) fn content(&self) -> Content {
        self.0.lock().unwrap().clone()
    }
}

fn missing() -> StoreError {
    StoreError::Terminal("the in-memory store has no watches and leases".to_owned())
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        check_key(key)?;
        Ok(self.0.lock().unwrap().entries.get(key).cloned())
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError> {
        let content = self.0.lock().unwrap();
        let limit = limit.min(RANGE_ENTRIES_MAX);
        let below = content.entries.range(prefix.to_owned()..);
        let below = below.take_while(|(key, _)| key.starts_with(prefix));
        let mut left = below.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let entries = left.by_ref().take(limit).map(|(_, e)| e.clone()).collect();
        Ok(EntryPage {
            entries,
            revision: content.revision,
            more: left.next().is_some(),
        })
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        txn.check()?;
        let mut content = self.0.lock().unwrap();
        let failed = |p: &Precondition| !content.holds(p);
        if let Some(index) = txn.preconditions.iter().position(failed) {
            return Err(TxnError::Conflict(index));
        }
        let next = content.revision.next();
        let mut changed = false;
        for op in txn.ops {
            changed |= content.apply(op, next);
        }
        if changed {
            content.revision = next;
        }
        Ok(content.revision)
    }

    async fn watch(&self, _prefix: &str, _from: Revision) -> Result<WatchStream, WatchError> {
        Err(missing().into())
    }

    async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
        Err(missing())
    }

    async fn keep_alive(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(missing())
    }

    async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(missing())
    }
}

/// An operation to interleave, and before which call to the store.
struct Plan {
    calls_before: usize,
    act: BoxFuture<'static, ()>,
}

/// A store that interleaves other operations before certain calls.
pub(crate) struct InterleavingStore {
    inner: Arc<Memory>,
    plans: Mutex<Vec<Plan>>,
    calls: Mutex<usize>,
    looked_at: Mutex<Vec<Look>>,
}

/// A read of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Key(String),
    /// All keys that begin with the prefix.
    Below(String),
}

impl Look {
    /// Whether it reads that key.
    pub(crate) fn sees(&self, key: &str) -> bool {
        match self {
            Self::Key(seen) => seen == key,
            Self::Below(prefix) => key.starts_with(prefix),
        }
    }
}

impl fmt::Debug for InterleavingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterleavingStore").finish_non_exhaustive()
    }
}

impl InterleavingStore {
    pub(crate) fn new(inner: Arc<Memory>) -> Self {
        Self {
            inner,
            plans: Mutex::default(),
            calls: Mutex::default(),
            looked_at: Mutex::default(),
        }
    }

    /// All reads of all calls.
    pub(crate) fn looked_at(&self) -> Vec<Look> {
        self.looked_at.lock().unwrap().clone()
    }

    fn look(&self, look: Look) {
        self.looked_at.lock().unwrap().push(look);
    }

    /// Interleaves `act` after `calls_before` calls, before the next one; plans at the same
    /// position run in insertion order.
    pub(crate) fn after(&self, calls_before: usize, act: BoxFuture<'static, ()>) {
        self.plans.lock().unwrap().push(Plan { calls_before, act });
    }

    /// Number of calls.
    pub(crate) fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    async fn called(&self) {
        let calls = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls - 1
        };
        loop {
            let next = {
                let mut plans = self.plans.lock().unwrap();
                let due = plans.iter().position(|p| p.calls_before == calls);
                due.map(|i| plans.remove(i))
            };
            match next {
                Some(plan) => plan.act.await,
                None => return,
            }
        }
    }
}

#[async_trait]
impl Store for InterleavingStore {
    async fn get(&self, key: &str) -> Result<Option<StoreEntry>, StoreError> {
        self.look(Look::Key(key.to_owned()));
        self.called().await;
        self.inner.get(key).await
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<EntryPage, StoreError> {
        self.look(Look::Below(prefix.to_owned()));
        self.called().await;
        self.inner.range(prefix, after, limit).await
    }

    async fn txn(&self, txn: Txn) -> Result<Revision, TxnError> {
        for precondition in &txn.preconditions {
            self.look(match precondition {
                Precondition::Key { key, .. } => Look::Key(key.clone()),
                Precondition::NotNewer { prefix, .. } => Look::Below(prefix.clone()),
            });
        }
        self.called().await;
        self.inner.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, WatchError> {
        self.inner.watch(prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
}
