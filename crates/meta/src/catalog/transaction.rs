//! Transactions of the catalog: what an operation has read is a precondition of what it writes.
//!
//! [`Repo::transact`] repeats an operation until its transaction succeeds: a conflict means that
//! something it had read has changed, so it reads again. [`Repo::commit`] is the only place that
//! learns the outcome of a transaction.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use forebay_model::TableKey;
use futures::future::BoxFuture;

use super::keys::StoreKey;
use super::stored::Stored;
use super::table_entry::TableRejection;
use super::{Repo, Versioned};
use crate::kv::store::{
    KeyCondition, LeaseId, Precondition, Revision, StoreError, Txn, TxnError, TxnOp, check_key,
};

/// Maximum number of attempts of a conflicting transaction.
const ATTEMPTS_MAX: u32 = 32;

impl Repo {
    /// Begins a transaction.
    pub(super) fn begin(&self) -> TxnBuilder<'_> {
        TxnBuilder {
            repo: self,
            txn: Txn::default(),
            bytes: 0,
            claims: BTreeMap::new(),
        }
    }

    /// Commits the transaction that `attempt` builds; returns its result and the revision. After a
    /// conflict `attempt` is called again, a bounded number of times.
    ///
    /// The future is boxed, since the compiler can't prove that the one of an async closure is
    /// `Send` (ADR 1511).
    pub(super) async fn transact<'e, T, E>(
        &'e self,
        mut attempt: impl for<'t> FnMut(&'t mut TxnBuilder<'e>) -> BoxFuture<'t, Result<T, E>> + Send,
    ) -> Result<Versioned<T>, E>
    where
        T: Send + 'e,
        E: From<StoreError> + From<TxnContention> + Send + 'e,
    {
        let done = self.transact_if(|txn| {
            let attempt = attempt(txn);
            Box::pin(async move { attempt.await.map(ControlFlow::Continue) })
        });
        done.await.map(either)
    }

    /// As [`Self::transact`], for an operation that may have nothing to change: on
    /// [`ControlFlow::Break`] nothing is committed.
    pub(super) async fn transact_if<'e, T, U, E>(
        &'e self,
        mut attempt: impl for<'t> FnMut(
            &'t mut TxnBuilder<'e>,
        ) -> BoxFuture<'t, Result<ControlFlow<U, T>, E>>
        + Send,
    ) -> Result<ControlFlow<U, Versioned<T>>, E>
    where
        T: Send,
        U: Send,
        E: From<StoreError> + From<TxnContention> + Send,
    {
        let mut attempts = TxnAttempts::default();
        loop {
            let mut txn = self.begin();
            let value = match attempt(&mut txn).await? {
                ControlFlow::Continue(value) => value,
                ControlFlow::Break(unchanged) => return Ok(ControlFlow::Break(unchanged)),
            };
            debug_assert!(
                !(txn.is_empty() && txn.txn.preconditions.is_empty()),
                "nothing to check or to change: break instead"
            );
            debug_assert!(
                txn.is_empty() || txn.writes_condition(),
                "a repeated transaction must fail, so it writes a key of its conditions: {:?}",
                txn.txn
            );
            if let Some(revision) = self.commit(txn).await? {
                return Ok(ControlFlow::Continue(Versioned { value, revision }));
            }
            attempts.retry().await?;
        }
    }

    /// Commits a transaction. Returns `None` if a precondition failed.
    pub(super) async fn commit(&self, txn: TxnBuilder<'_>) -> Result<Option<Revision>, StoreError> {
        Ok(self.try_commit(txn).await?.ok())
    }

    /// Commits a transaction. The inner error is the index of the first precondition that failed.
    ///
    /// [`StoreError::Uncertain`], a lost reply, is settled here ([`super::outcome`]): the transaction
    /// has succeeded, has failed, or is sent again, so that it is applied once. Only if that can't be
    /// found out, the error goes to the caller, which reads again before it repeats the operation.
    #[tracing::instrument(name = "transaction", level = "debug", skip_all, fields(
        conditions = txn.txn.preconditions.len(),
        ops = txn.txn.ops.len(),
    ))]
    pub(super) async fn try_commit(
        &self,
        txn: TxnBuilder<'_>,
    ) -> Result<Result<Revision, usize>, StoreError> {
        let newest_read = txn.newest_read();
        match self.send(txn.txn).await {
            Ok(revision) => {
                debug_assert!(
                    newest_read <= revision,
                    "committed at {revision}, after a read of {newest_read}"
                );
                Ok(Ok(revision))
            }
            Err(TxnError::Conflict(failed)) => {
                tracing::debug!(failed, "a precondition of the transaction failed");
                Ok(Err(failed))
            }
            Err(TxnError::Store(e)) => Err(e),
        }
    }
}

/// The result of an operation, whether it has changed something or not.
pub(super) fn either<T>(done: ControlFlow<T, T>) -> T {
    match done {
        ControlFlow::Break(value) | ControlFlow::Continue(value) => value,
    }
}

/// Builder of a transaction.
#[derive(Debug)]
pub(super) struct TxnBuilder<'r> {
    repo: &'r Repo,
    txn: Txn,
    /// Bytes of the written values.
    pub(super) bytes: usize,
    /// Table claims of its sinks and their results.
    pub(super) claims: BTreeMap<TableKey, Result<(), TableRejection>>,
}

impl TxnBuilder<'_> {
    /// Reads an entry, and requires that it is the same, or still absent, when the transaction is
    /// committed.
    pub(super) async fn read<T: Stored>(
        &mut self,
        key: StoreKey<'_>,
    ) -> Result<Option<Versioned<T>>, StoreError> {
        let read = self.repo.read(key).await?;
        // Ids come from URLs of clients. An invalid key stays absent.
        if check_key(&key.to_string()).is_ok() {
            self.expect_as_read(key, read.as_ref());
        }
        Ok(read)
    }

    /// Requires that the key was not written since it was read.
    pub(super) fn expect_unchanged<T>(&mut self, key: StoreKey<'_>, read: &Versioned<T>) {
        self.txn.expect(key, KeyCondition::Revision(read.revision));
    }

    /// Requires that the key is still absent.
    pub(super) fn expect_absent(&mut self, key: StoreKey<'_>) {
        self.txn.expect(key, KeyCondition::Absent);
    }

    /// Requires that the key exists, with any value.
    pub(super) fn expect_exists(&mut self, key: StoreKey<'_>) {
        self.txn.expect(key, KeyCondition::Exists);
    }

    /// Requires that the key is as it was read: not written, or still absent.
    pub(super) fn expect_as_read<T>(&mut self, key: StoreKey<'_>, read: Option<&Versioned<T>>) {
        match read {
            Some(read) => self.expect_unchanged(key, read),
            None => self.expect_absent(key),
        }
    }

    /// Requires that no key below the prefix was written after `revision`. Their deletion is not
    /// noticed.
    pub(super) fn expect_not_newer(&mut self, prefix: String, revision: Revision) {
        self.txn.expect_not_newer(prefix, revision);
    }

    pub(super) fn put<T: Stored>(
        &mut self,
        key: StoreKey<'_>,
        value: &T,
    ) -> Result<(), StoreError> {
        let value = encode(value)?;
        self.bytes += value.len();
        self.txn.put(key, value);
        Ok(())
    }

    pub(super) fn put_leased<T: Stored>(
        &mut self,
        key: StoreKey<'_>,
        value: &T,
        lease: LeaseId,
    ) -> Result<(), StoreError> {
        self.txn.put_leased(key, encode(value)?, lease);
        Ok(())
    }

    pub(super) fn delete(&mut self, key: impl Into<String>) {
        self.txn.delete(key);
    }

    pub(super) fn delete_below(&mut self, prefix: String) {
        self.txn.delete_prefix(prefix);
    }

    /// Whether the transaction changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.txn.ops.is_empty()
    }

    /// Number of operations or of preconditions, whichever is larger.
    pub(super) fn len(&self) -> usize {
        self.txn.ops.len().max(self.txn.preconditions.len())
    }

    /// Newest revision of the preconditions.
    fn newest_read(&self) -> Revision {
        let read = self.txn.preconditions.iter();
        let revisions = read.map(|precondition| match precondition {
            Precondition::Key {
                expect: KeyCondition::Revision(revision),
                ..
            }
            | Precondition::NotNewer { revision, .. } => *revision,
            Precondition::Key { .. } => Revision::default(),
        });
        revisions.max().unwrap_or_default()
    }

    /// Whether one of the written keys has a precondition.
    fn writes_condition(&self) -> bool {
        self.txn.ops.iter().any(|op| match op {
            TxnOp::Put { key, .. } | TxnOp::Delete { key } => {
                let conditions = &mut self.txn.preconditions.iter();
                conditions.any(|p| matches!(p, Precondition::Key { key: k, .. } if k == key))
            }
            TxnOp::DeletePrefix { .. } => false,
        })
    }
}

fn encode<T: Stored>(value: &T) -> Result<bytes::Bytes, StoreError> {
    value
        .encode()
        .map_err(|e| StoreError::Terminal(e.to_string()))
}

/// Number of attempts of a transaction.
#[derive(Debug, Default)]
pub(super) struct TxnAttempts(u32);

impl TxnAttempts {
    /// Allows another attempt. Each conflict means that another transaction succeeded, so the first
    /// retries don't wait.
    pub(super) async fn retry(&mut self) -> Result<(), TxnContention> {
        self.0 += 1;
        if self.0 >= ATTEMPTS_MAX {
            return Err(TxnContention);
        }
        if self.0 > 4 {
            tokio::time::sleep(Duration::from_millis(u64::from(self.0))).await;
        }
        Ok(())
    }
}

/// Too many conflicts with concurrent transactions; the `Conflict` of each error.
#[derive(Debug)]
pub(super) struct TxnContention;

impl From<TxnContention> for StoreError {
    fn from(_: TxnContention) -> Self {
        Self::Unavailable("conflicts".to_owned())
    }
}
