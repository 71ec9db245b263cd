//! Files whose rows become dead letters, because their table rejects them and an operator decided
//! not to wait.
//!
//! The dead letters are in the log; the number of the file's rows that were moved is recorded here
//! after each block. Blocks that were not recorded before a crash are found again in the log. A row
//! counts as in flight until its block is recorded, and as a dead letter from then on.

use std::ops::ControlFlow;

use forebay_model::{
    AuditStamp, DeadRows, File, FileKey, FileState, Slice, Statistics, Timestamp, VolumeId,
};

use super::audit::{AuditAction, AuditEvent, AuditSubject};
use super::files::FileError;
use super::transaction::either;
use super::{Repo, Versioned};
use crate::catalog::keys::StoreKey;
use crate::catalog::stored::dead_letters::DeadLetterCounts;

impl Repo {
    /// Decides that the rows of a parked file become dead letters. The file is no longer imported.
    pub async fn reject_file(
        &self,
        key: &FileKey,
        stamp: &AuditStamp,
    ) -> Result<Versioned<File>, FileError> {
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                let read = txn.file(key).await?;
                if read.dead_rows.is_some() {
                    return Ok(ControlFlow::Break(read));
                }
                if read.state != FileState::Importing || !read.retry.parked {
                    return Err(FileError::NotParked(key.clone()));
                }
                let mut file = read.value;
                file.dead_rows = Some(DeadRows {
                    cause: file.retry.reason.clone().unwrap_or_default(),
                    ..DeadRows::default()
                });
                file.retry.retry_now();
                txn.put(StoreKey::File(key), &file)?;
                let change = AuditEvent {
                    project: key.sink.source.branch.project,
                    what: AuditSubject::Sink(key.sink.clone()),
                    action: AuditAction::RejectFile,
                    description: format!(
                        "The rows of the file of {} become dead letters.",
                        key.opened_at
                    ),
                    old_version: None,
                    new_version: None,
                    stamp: stamp.clone(),
                };
                self.add_unversioned_audit(txn, change).await?;
                Ok(ControlFlow::Continue(file))
            })
        });
        done.await.map(either)
    }

    /// Records how many rows of the file are dead letters on that volume.
    pub async fn record_dead_rows(
        &self,
        key: &FileKey,
        volume: &VolumeId,
        progress: (u64, u64),
        counts: &DeadLetterCounts,
    ) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.file(key).await?.value;
                let Some(dead) = &mut file.dead_rows else {
                    return Err(FileError::NotParked(key.clone()));
                };
                (dead.moved, dead.next_dead_letter) = (progress.0, Some(progress.1));
                txn.put(StoreKey::File(key), &file)?;
                self.add_dead_letter_counts(txn, &key.sink, volume, counts)
                    .await?;
                Ok(())
            })
        })
        .await
        .map(drop)
    }

    /// Finishes a file whose rows are all dead letters: it and its slices are finished and hold
    /// nothing.
    pub async fn file_rejected(&self, key: &FileKey, now: Timestamp) -> Result<(), FileError> {
        self.transact(|txn| {
            Box::pin(async move {
                let mut file = txn.file(key).await?.value;
                let slices = txn.unchanged_slices(self, key).await?;
                file.transition(FileState::Imported, now)?;
                let emptied = slices.into_iter().map(|read| Slice {
                    statistics: Statistics {
                        lost_records: read.statistics.lost_records,
                        ..Statistics::default()
                    },
                    ..read.value
                });
                txn.put_imported(&file, emptied)
            })
        })
        .await
        .map(drop)
    }
}
