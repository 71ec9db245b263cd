//! Transactions on the tables of the database.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::history::CommittedTxn;
use super::lease::LeaseTable;
use super::rows::{self, from_sql, to_sql, upper_bound};
use crate::kv::store::{
    KeyCondition, LeaseId, Precondition, Revision, StoreEntry, StoreError, Txn, TxnError, TxnOp,
    WatchEvent,
};

/// Checks the preconditions against the state within this batch.
pub(super) fn check(
    db: &Connection,
    leases: &LeaseTable,
    ended: &[LeaseId],
    txn: &Txn,
) -> rusqlite::Result<Result<(), TxnError>> {
    for op in &txn.ops {
        if let TxnOp::Put {
            lease: Some(lease), ..
        } = op
        {
            let alive = if ended.contains(lease) {
                Err(StoreError::LeaseNotFound(*lease))
            } else {
                leases.check(*lease)
            };
            if let Err(e) = alive {
                return Ok(Err(TxnError::Store(e)));
            }
        }
    }
    for (i, precondition) in txn.preconditions.iter().enumerate() {
        let holds = match precondition {
            Precondition::Key { key, expect } => key_holds(db, key, *expect)?,
            Precondition::NotNewer { prefix, revision } => {
                rows::newest_below(db, prefix)? <= *revision
            }
        };
        if !holds {
            return Ok(Err(TxnError::Conflict(i)));
        }
    }
    Ok(Ok(()))
}

fn key_holds(db: &Connection, key: &str, expect: KeyCondition) -> rusqlite::Result<bool> {
    let mut modified = db.prepare_cached("SELECT modified FROM kv WHERE key = ?1")?;
    let found: Option<i64> = modified.query_row([key], |row| row.get(0)).optional()?;
    Ok(match expect {
        KeyCondition::Revision(r) => found.map(from_sql) == Some(r),
        KeyCondition::Absent => found.is_none(),
        KeyCondition::Exists => found.is_some(),
    })
}

/// Applies the operations as the transaction after `head`; returns the new head, unchanged if
/// nothing was changed.
pub(super) fn apply(
    db: &Connection,
    txn: Txn,
    head: Revision,
    past: &mut Vec<CommittedTxn>,
) -> rusqlite::Result<Revision> {
    let revision = head.next();
    let mut events = Vec::with_capacity(txn.ops.len());
    for op in txn.ops {
        match op {
            TxnOp::Put { key, value, lease } => {
                events.push(put(db, key, value, lease, revision)?);
            }
            TxnOp::Delete { key } => {
                let mut delete = db.prepare_cached("DELETE FROM kv WHERE key = ?1")?;
                if delete.execute([&key])? > 0 {
                    events.push(WatchEvent::Delete { key, revision });
                }
            }
            TxnOp::DeletePrefix { prefix } => {
                let mut delete = db.prepare_cached(
                    "DELETE FROM kv WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) RETURNING key",
                )?;
                delete_returning(
                    &mut delete,
                    params![prefix, upper_bound(&prefix)],
                    revision,
                    &mut events,
                )?;
            }
        }
    }
    Ok(push_committed(events, revision, head, past))
}

fn put(
    db: &Connection,
    key: String,
    value: Bytes,
    lease: Option<LeaseId>,
    revision: Revision,
) -> rusqlite::Result<WatchEvent> {
    let mut put = db.prepare_cached(
        "INSERT INTO kv (key, value, created, modified, lease) VALUES (?1, ?2, ?3, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3, lease = ?4
         RETURNING created",
    )?;
    let lease_sql = lease.map(|l| i64::try_from(l.0).unwrap_or(i64::MAX));
    let created: i64 = put.query_row(
        params![key, value.as_ref(), to_sql(revision), lease_sql],
        |row| row.get(0),
    )?;
    Ok(WatchEvent::Put(StoreEntry {
        key,
        value,
        create_revision: from_sql(created),
        mod_revision: revision,
        lease,
    }))
}

/// Runs a `DELETE … RETURNING key`; returns its events in key order.
fn delete_returning(
    delete: &mut rusqlite::Statement<'_>,
    params: impl rusqlite::Params,
    revision: Revision,
    events: &mut Vec<WatchEvent>,
) -> rusqlite::Result<()> {
    let keys = delete.query_map(params, |row| row.get::<_, String>(0))?;
    let mut keys: Vec<String> = keys.collect::<rusqlite::Result<_>>()?;
    keys.sort_unstable();
    events.extend(
        keys.into_iter()
            .map(|key| WatchEvent::Delete { key, revision }),
    );
    Ok(())
}

/// Deletes the keys of a lease, as the transaction after `head`.
pub(super) fn end_lease(
    db: &Connection,
    lease: LeaseId,
    head: Revision,
    past: &mut Vec<CommittedTxn>,
) -> rusqlite::Result<Revision> {
    let revision = head.next();
    let mut events = Vec::new();
    let mut delete = db.prepare_cached("DELETE FROM kv WHERE lease = ?1 RETURNING key")?;
    let id = i64::try_from(lease.0).unwrap_or(i64::MAX);
    delete_returning(&mut delete, [id], revision, &mut events)?;
    Ok(push_committed(events, revision, head, past))
}

fn push_committed(
    events: Vec<WatchEvent>,
    revision: Revision,
    head: Revision,
    past: &mut Vec<CommittedTxn>,
) -> Revision {
    if events.is_empty() {
        return head;
    }
    past.push(CommittedTxn { revision, events });
    revision
}

/// Deletes the keys of all leases of an earlier run: their holders were in that process.
pub(super) fn end_all_leases(db: &mut Connection) -> rusqlite::Result<(Revision, u64)> {
    let txn = db.transaction()?;
    let value = |name: &str| {
        txn.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get::<_, i64>(0)
        })
    };
    let (head, opened) = (value("revision")?, value("opened")? + 1);
    let removed = txn.execute("DELETE FROM kv WHERE lease IS NOT NULL", ())?;
    let head = if removed > 0 { head + 1 } else { head };
    let set = "UPDATE meta SET value = ?1 WHERE name = ?2";
    txn.execute(set, params![head, "revision"])?;
    txn.execute(set, params![opened, "opened"])?;
    txn.commit()?;
    Ok((from_sql(head), u64::try_from(opened).unwrap_or(0)))
}
