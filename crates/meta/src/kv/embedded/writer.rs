//! Writer thread: executes all queued transactions in one SQLite transaction and commits once
//! (group commit), so that many callers share one fsync.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::apply::{apply, check, end_lease};
use super::history::{CommittedTxn, WatchHistory};
use super::lease::{LeaseTable, MonotonicClock};
use super::revision_file::RevisionFile;
use super::rows::to_sql;
use crate::kv::store::{LeaseId, Revision, StoreError, Txn, TxnError};

/// Maximum number of transactions in one commit.
const BATCH_MAX: usize = 256;
/// Maximum delay until the expiry of a lease is noticed.
const LEASE_TICK: Duration = Duration::from_millis(50);

type CommandReply<T, E = StoreError> = oneshot::Sender<Result<T, E>>;

pub(super) enum StoreCommand {
    Txn(Txn, CommandReply<Revision, TxnError>),
    Grant(Duration, CommandReply<LeaseId>),
    KeepAlive(LeaseId, CommandReply<()>),
    Revoke(LeaseId, CommandReply<()>),
    /// Runs between two transactions.
    RunPaused(Box<dyn FnOnce(Revision) + Send>),
    Checkpoint(CommandReply<()>),
    /// Stops the thread; the last command.
    Stop,
}

/// A command and its permit for the bounded queue.
pub(super) struct QueuedCommand {
    pub(super) command: StoreCommand,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// A reply that is sent after the commit.
enum PendingReply {
    Txn(CommandReply<Revision, TxnError>, Result<Revision, TxnError>),
    Revoke(CommandReply<()>),
}

pub(super) struct StoreWriter {
    pub(super) db: Connection,
    pub(super) file: PathBuf,
    pub(super) queue: Receiver<QueuedCommand>,
    pub(super) history: Arc<WatchHistory>,
    pub(super) leases: LeaseTable,
    pub(super) clock: Arc<dyn MonotonicClock>,
    pub(super) head: Revision,
    /// The first disk failure (latched). A second sync of the same pages may report success for
    /// data that the first one lost, so nothing is written until the store is reopened.
    pub(super) failed: Arc<OnceLock<StoreError>>,
    pub(super) revision_file: RevisionFile,
}

impl StoreWriter {
    /// Runs until [`StoreCommand::Stop`], or until all senders are dropped.
    pub(super) fn run(mut self) {
        loop {
            let (batch, stop) = self.collect_batch();
            self.process_batch(batch);
            if stop {
                break;
            }
        }
        self.revision_file.sync(self.clock.elapsed());
        // Checkpoint explicitly: closing does not checkpoint while another process has the database
        // open.
        if self.failed.get().is_none()
            && let Err(e) = checkpoint(&self.db, "TRUNCATE")
        {
            tracing::warn!(error = %e, file = %self.file.display(), "metadata store checkpoint on close failed");
        }
        if let Err((_, e)) = self.db.close() {
            tracing::warn!(error = %e, file = %self.file.display(), "closing the metadata store failed");
        }
    }

    /// Waits for the first command and takes all that are queued behind it.
    fn collect_batch(&self) -> (Vec<QueuedCommand>, bool) {
        let first = if self.leases.is_empty() {
            self.queue
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            self.queue.recv_timeout(LEASE_TICK)
        };
        let mut batch = Vec::new();
        match first {
            Ok(queued) => batch.push(queued),
            Err(RecvTimeoutError::Timeout) => return (batch, false),
            Err(RecvTimeoutError::Disconnected) => return (batch, true),
        }
        while batch.len() < BATCH_MAX {
            match self.queue.try_recv() {
                Ok(queued) => batch.push(queued),
                Err(_) => break,
            }
        }
        let stop = batch
            .iter()
            .any(|q| matches!(q.command, StoreCommand::Stop));
        (batch, stop)
    }

    fn process_batch(&mut self, batch: Vec<QueuedCommand>) {
        let now = self.clock.elapsed();
        // Leases renewed by this batch have not expired.
        let mut writes = Vec::new();
        let mut permits = Vec::new();
        let mut after = Vec::new();
        for queued in batch {
            permits.push(queued.permit);
            match queued.command {
                StoreCommand::Grant(ttl, reply) => {
                    send_reply(reply, Ok(self.leases.grant(ttl, now)))
                }
                StoreCommand::KeepAlive(id, reply) => {
                    send_reply(reply, self.leases.keep_alive(id, now))
                }
                StoreCommand::Stop => {}
                write @ (StoreCommand::Txn(..) | StoreCommand::Revoke(..)) => writes.push(write),
                other @ (StoreCommand::RunPaused(_) | StoreCommand::Checkpoint(_)) => {
                    after.push(other)
                }
            }
        }
        let expired = self.leases.expired(now);
        if !writes.is_empty() || !expired.is_empty() {
            match self.failed.get() {
                Some(failed) => writes.into_iter().for_each(|write| reject(write, failed)),
                None => self.commit(writes, expired),
            }
        }
        for command in after {
            match command {
                StoreCommand::RunPaused(run) => run(self.head),
                StoreCommand::Checkpoint(reply) => send_reply(reply, self.checkpoint()),
                _ => {}
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), StoreError> {
        if let Some(failed) = self.failed.get() {
            return Err(failed.clone());
        }
        self.revision_file.sync(self.clock.elapsed());
        checkpoint(&self.db, "PASSIVE").map_err(|e| self.classify_failure(&e))
    }

    /// Commits `writes` and the end of the `expired` leases in one SQLite transaction. Limits were
    /// checked before, so an error is one of the disk and fails the whole batch.
    fn commit(&mut self, writes: Vec<StoreCommand>, expired: Vec<LeaseId>) {
        let mut writes = writes.into_iter();
        let mut batch = TxnBatch {
            head: self.head,
            ended: expired,
            past: Vec::new(),
            waiting: Vec::new(),
        };
        match batch.write(&mut self.db, &self.leases, &mut writes) {
            Ok(()) => {
                self.head = batch.head;
                self.revision_file.write(self.head, self.clock.elapsed());
                for lease in batch.ended {
                    self.leases.end(lease);
                }
                // Before the replies, so that a caller finds its revision in the watch history.
                self.history.add(batch.past);
                for one in batch.waiting {
                    match one {
                        PendingReply::Txn(reply, result) => send_reply(reply, result),
                        PendingReply::Revoke(reply) => send_reply(reply, Ok(())),
                    }
                }
            }
            Err(e) => {
                let store_error = self.classify_failure(&e);
                for one in batch.waiting {
                    match one {
                        PendingReply::Txn(reply, _) => {
                            send_reply(reply, Err(TxnError::Store(store_error.clone())))
                        }
                        PendingReply::Revoke(reply) => send_reply(reply, Err(store_error.clone())),
                    }
                }
                writes.for_each(|write| reject(write, &store_error));
            }
        }
    }

    /// Returns the error that the batch gets for a disk failure.
    fn classify_failure(&mut self, error: &rusqlite::Error) -> StoreError {
        let text = format!("{}: {error}", self.file.display());
        // Full: SQLite has rolled back, and works again when there is space.
        // Busy: another program holds a write lock on the file; nothing was written.
        let passing = [
            ErrorCode::DiskFull,
            ErrorCode::DatabaseBusy,
            ErrorCode::DatabaseLocked,
        ];
        if error
            .sqlite_error_code()
            .is_some_and(|code| passing.contains(&code))
        {
            return StoreError::Unavailable(text);
        }
        tracing::error!(error = %error, file = %self.file.display(), "metadata store write failed; it accepts no writes until it is reopened");
        // Keep the first failure.
        _ = self.failed.set(StoreError::Terminal(text.clone()));
        StoreError::Uncertain(text)
    }
}

/// State of one group commit.
struct TxnBatch {
    head: Revision,
    /// Leases that end with this commit.
    ended: Vec<LeaseId>,
    past: Vec<CommittedTxn>,
    waiting: Vec<PendingReply>,
}

impl TxnBatch {
    fn write(
        &mut self,
        db: &mut Connection,
        leases: &LeaseTable,
        writes: &mut impl Iterator<Item = StoreCommand>,
    ) -> rusqlite::Result<()> {
        let txn = db.transaction()?;
        for lease in &self.ended {
            self.head = end_lease(&txn, *lease, self.head, &mut self.past)?;
        }
        for write in writes {
            match write {
                StoreCommand::Txn(wanted, reply) => {
                    // Push the reply first, so that a disk error does not lose it.
                    self.waiting.push(PendingReply::Txn(reply, Ok(self.head)));
                    let result = match check(&txn, leases, &self.ended, &wanted)? {
                        Ok(()) => {
                            self.head = apply(&txn, wanted, self.head, &mut self.past)?;
                            Ok(self.head)
                        }
                        Err(e) => Err(e),
                    };
                    if let Some(PendingReply::Txn(_, slot)) = self.waiting.last_mut() {
                        *slot = result;
                    }
                }
                StoreCommand::Revoke(lease, reply) => {
                    self.waiting.push(PendingReply::Revoke(reply));
                    self.ended.push(lease);
                    self.head = end_lease(&txn, lease, self.head, &mut self.past)?;
                }
                _ => {}
            }
        }
        txn.execute(
            "UPDATE meta SET value = ?1 WHERE name = 'revision'",
            [to_sql(self.head)],
        )?;
        txn.commit()
    }
}

fn reject(write: StoreCommand, failed: &StoreError) {
    match write {
        StoreCommand::Txn(_, reply) => send_reply(reply, Err(TxnError::Store(failed.clone()))),
        StoreCommand::Revoke(_, reply) => send_reply(reply, Err(failed.clone())),
        _ => {}
    }
}

/// Checkpoints the write-ahead log. Pages that readers still need stay in it until the next
/// checkpoint.
fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(()))
}

/// Ignores callers that no longer wait.
fn send_reply<T, E>(reply: CommandReply<T, E>, result: Result<T, E>) {
    drop(reply.send(result));
}
