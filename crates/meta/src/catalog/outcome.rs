//! Outcome of a transaction whose reply was lost.
//!
//! The conditions and the written keys of the transaction tell it. A key that it both expects and
//! writes is afterwards in one of three states: as expected (the transaction was not applied), as
//! the transaction leaves it, or another one (a later transaction has written it, or a concurrent
//! one before it). All of its keys change at once, so one that is as expected decides.

use super::Repo;
use crate::kv::store::{
    KeyCondition, Precondition, Revision, StoreEntry, StoreError, Txn, TxnError, TxnOp,
};

/// Number of times that a transaction without a known outcome is sent.
const SENT_MAX: u32 = 4;

/// Outcome of a transaction, as the store shows it.
#[derive(Debug, PartialEq, Eq)]
enum TxnOutcome {
    Applied(Revision),
    /// It can be sent again.
    NotApplied,
    /// The condition of this index no longer holds.
    Conflict(usize),
}

/// State of a key that the transaction expects and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyOutcome {
    /// The condition still holds.
    AsExpected,
    /// As the transaction leaves it; with its revision if it is present. Another transaction may
    /// have left it so as well, except for a key that was absent before.
    AsLeft(Option<Revision>, WasAbsent),
    Other,
}

/// Whether the condition is that the key is absent.
type WasAbsent = bool;

impl Repo {
    /// Sends a transaction until its outcome is known.
    pub(super) async fn send(&self, txn: Txn) -> Result<Revision, TxnError> {
        for _ in 1..SENT_MAX {
            match self.store.txn(txn.clone()).await {
                Err(TxnError::Store(StoreError::Uncertain(reason))) => {
                    let uncertain = || StoreError::Uncertain(reason.clone()).into();
                    // A store that accepts no writes may show what is not on its disk.
                    if self.store.health().is_err() {
                        return Err(uncertain());
                    }
                    tracing::info!(reason, "looking up the outcome of a transaction");
                    match self.outcome(&txn).await {
                        Ok(TxnOutcome::Applied(revision)) => return Ok(revision),
                        Ok(TxnOutcome::NotApplied) => {}
                        Ok(TxnOutcome::Conflict(index)) => return Err(TxnError::Conflict(index)),
                        Err(_) => return Err(uncertain()),
                    }
                }
                known => return known,
            }
        }
        self.store.txn(txn).await
    }

    async fn outcome(&self, txn: &Txn) -> Result<TxnOutcome, StoreError> {
        let mut keys = Vec::new();
        for (index, precondition) in txn.preconditions.iter().enumerate() {
            let Precondition::Key { key, expect } = precondition else {
                continue;
            };
            let op = txn.ops.iter().find(|op| match op {
                TxnOp::Put { key: written, .. } | TxnOp::Delete { key: written } => written == key,
                TxnOp::DeletePrefix { .. } => false,
            });
            if let Some(op) = op {
                let found = self.store.get(key).await?;
                keys.push((index, key_outcome(*expect, op, found.as_ref())));
            }
        }
        Ok(decide(&keys))
    }
}

fn key_outcome(expect: KeyCondition, op: &TxnOp, found: Option<&StoreEntry>) -> KeyOutcome {
    let is_as_expected = match expect {
        KeyCondition::Revision(revision) => found.is_some_and(|e| e.mod_revision == revision),
        KeyCondition::Absent => found.is_none(),
        // What it writes does not make it false: it tells nothing.
        KeyCondition::Exists => false,
    };
    let was_absent = expect == KeyCondition::Absent;
    match (op, found) {
        _ if is_as_expected => KeyOutcome::AsExpected,
        (TxnOp::Put { value, .. }, Some(entry)) if entry.value == value => {
            KeyOutcome::AsLeft(Some(entry.mod_revision), was_absent)
        }
        (TxnOp::Delete { .. }, None) => KeyOutcome::AsLeft(None, was_absent),
        _ => KeyOutcome::Other,
    }
}

fn decide(keys: &[(usize, KeyOutcome)]) -> TxnOutcome {
    let other_than_expected = keys.iter().find(|(_, k)| *k != KeyOutcome::AsExpected);
    let Some((changed, _)) = other_than_expected else {
        // Also without such a key: the transaction may be repeated.
        return TxnOutcome::NotApplied;
    };
    if keys.iter().any(|(_, k)| *k == KeyOutcome::AsExpected) {
        return TxnOutcome::Conflict(*changed);
    }
    let revision = |created: bool| {
        keys.iter().find_map(|(_, k)| match k {
            KeyOutcome::AsLeft(Some(revision), was_absent) if *was_absent || !created => {
                Some(*revision)
            }
            _ => None,
        })
    };
    // A key that did not exist before has a value that only this transaction gives it.
    if let Some(revision) = revision(true) {
        return TxnOutcome::Applied(revision);
    }
    let other = keys.iter().find(|(_, k)| *k == KeyOutcome::Other);
    match (other, revision(false)) {
        (None, Some(revision)) => TxnOutcome::Applied(revision),
        (Some((index, _)), _) => TxnOutcome::Conflict(*index),
        (None, None) => TxnOutcome::Conflict(*changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_as_expected_decides() {
        const R: Revision = Revision(7);
        let created = KeyOutcome::AsLeft(Some(R), true);
        let rewritten = KeyOutcome::AsLeft(Some(R), false);
        let deleted = KeyOutcome::AsLeft(None, false);
        let (expected, other) = (KeyOutcome::AsExpected, KeyOutcome::Other);
        for (keys, outcome) in [
            (&[][..], TxnOutcome::NotApplied),
            (&[expected, expected], TxnOutcome::NotApplied),
            (&[expected, other], TxnOutcome::Conflict(1)),
            // Another transaction has rewritten the first one with the same value.
            (&[rewritten, expected], TxnOutcome::Conflict(0)),
            (&[rewritten, other], TxnOutcome::Conflict(1)),
            (&[deleted, other], TxnOutcome::Conflict(1)),
            (&[created, deleted, rewritten], TxnOutcome::Applied(R)),
            (&[rewritten, rewritten], TxnOutcome::Applied(R)),
            // Later transactions have written the others.
            (&[other, created], TxnOutcome::Applied(R)),
            (&[deleted, deleted], TxnOutcome::Conflict(0)),
        ] {
            let keys: Vec<_> = keys.iter().copied().enumerate().collect();
            assert_eq!(decide(&keys), outcome, "{keys:?}");
        }
    }
}
