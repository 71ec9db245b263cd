//! Dead letters, and the acknowledgement of records.

use bytes::Bytes;
use forebay_model::{DeadLetterSelection, DiscardReport, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Serialize, Serializer};

use super::{FileCheckpoint, JobState, StateError, files};
use crate::record::{DeadRecord, JobStage, RecordPosition};

/// A record that failed for good.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDeadLetter {
    /// Id, never reused.
    pub id: u64,
    /// Time of the failure.
    pub at: Timestamp,
    /// Failed stage: `parse`, `processing` or `storage`.
    pub stage: String,
    /// Origin of the record: `record 17`, `products.jsonl:57`.
    pub origin: String,
    /// Method and URL of the last request, or the table.
    pub request: String,
    /// Status of the last response, if there was one.
    pub status: Option<u16>,
    /// The error of the last attempt.
    pub error: String,
    /// Number of attempts.
    pub attempts: u32,
    /// Input of the failed stage; serialized as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
}

/// A page of dead letters, in the order of their ids.
#[derive(Clone, Debug)]
pub struct DeadLetterPage {
    pub dead_letters: Vec<JobDeadLetter>,
    /// Total number of dead letters of the job.
    pub total: u64,
}

const COLUMNS: &str = "id, at, stage, origin, request, status, error, attempts, body";

impl JobState {
    /// Stores the outcomes of records in one transaction: removes acknowledged records from the inbox or
    /// the dead letters, or updates file checkpoints, and inserts new dead letters.
    pub(crate) async fn acknowledge(
        &self,
        now: Timestamp,
        kind: CheckpointUpdate,
        done: Vec<(RecordPosition, usize)>,
        dead: Vec<DeadRecord>,
    ) -> Result<(), StateError> {
        self.with(move |c| {
            let transaction = c.transaction()?;
            let done = done.iter().map(|(position, _)| *position);
            let ended = done.chain(dead.iter().map(|d| d.position));
            match &kind {
                CheckpointUpdate::Inbox => {
                    let mut delete =
                        transaction.prepare_cached("DELETE FROM inbox WHERE seq = ?1")?;
                    for p in ended {
                        delete.execute([signed(p.0)])?;
                    }
                }
                CheckpointUpdate::Dead => {
                    let mut delete =
                        transaction.prepare_cached("DELETE FROM dead WHERE id = ?1")?;
                    for p in ended {
                        delete.execute([signed(p.0)])?;
                    }
                }
                CheckpointUpdate::Files(points) => files::write(&transaction, points)?,
            }
            for dead_record in &dead {
                insert(&transaction, now, dead_record)?;
            }
            transaction.commit()
        })
        .await
    }

    /// At most `limit` dead letters with ids above `after`.
    pub async fn dead_letters(&self, after: u64, limit: u32) -> Result<DeadLetterPage, StateError> {
        self.with(move |c| {
            let total: i64 = c.query_row("SELECT count(*) FROM dead", [], |r| r.get(0))?;
            let mut select = c.prepare(&format!(
                "SELECT {COLUMNS} FROM dead WHERE id > ?1 ORDER BY id LIMIT ?2"
            ))?;
            let dead_letters = select
                .query_map(params![signed(after), limit], read)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(DeadLetterPage {
                dead_letters,
                total: u64::try_from(total).unwrap_or(0),
            })
        })
        .await
    }

    pub async fn dead_letter(&self, id: u64) -> Result<Option<JobDeadLetter>, StateError> {
        self.with(move |c| {
            let sql = format!("SELECT {COLUMNS} FROM dead WHERE id = ?1");
            c.query_row(&sql, [signed(id)], read).optional()
        })
        .await
    }

    /// Deletes the selected dead letters that exist.
    pub async fn discard_dead_letters(
        &self,
        selection: DeadLetterSelection,
    ) -> Result<DiscardReport, StateError> {
        self.with(move |c| {
            let transaction = c.transaction()?;
            let dropped = match &selection {
                DeadLetterSelection::After(after) => {
                    let first = after.map_or(0, |id| id.saturating_add(1));
                    transaction.execute("DELETE FROM dead WHERE id >= ?1", [signed(first)])?
                }
                DeadLetterSelection::These(ids) => {
                    let mut delete = transaction.prepare("DELETE FROM dead WHERE id = ?1")?;
                    let mut dropped = 0;
                    for id in ids {
                        dropped += delete.execute([signed(*id)])?;
                    }
                    dropped
                }
            };
            transaction.commit()?;
            Ok(DiscardReport {
                dropped: dropped as u64,
                more_after: None,
            })
        })
        .await
    }
}

/// The source of the acknowledged records.
#[derive(Clone, Debug)]
pub(crate) enum CheckpointUpdate {
    /// An API.
    Inbox,
    /// A replay.
    Dead,
    /// Files, with their new checkpoints.
    Files(Vec<FileCheckpoint>),
}

fn insert(
    c: &rusqlite::Connection,
    now: Timestamp,
    dead_record: &DeadRecord,
) -> rusqlite::Result<()> {
    // A part of a file that is read again, or a second run over the same files, finds the same bad lines:
    // each is stored once.
    let mut insert = c.prepare_cached(
        "INSERT INTO dead (at, stage, origin, request, status, error, attempts, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (stage, origin) DO UPDATE SET at = excluded.at, request = excluded.request,
             status = excluded.status, error = excluded.error, attempts = excluded.attempts,
             body = excluded.body",
    )?;
    insert.execute(params![
        now.as_millis(),
        dead_record.stage.name(),
        dead_record.origin.to_string(),
        dead_record.request,
        dead_record.status,
        dead_record.error,
        dead_record.attempts,
        &dead_record.body[..],
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<JobDeadLetter> {
    let body: Vec<u8> = row.get(8)?;
    let id: i64 = row.get(0)?;
    Ok(JobDeadLetter {
        id: u64::try_from(id).unwrap_or(0),
        at: Timestamp::from_millis(row.get(1)?),
        stage: row.get(2)?,
        origin: row.get(3)?,
        request: row.get(4)?,
        status: row.get(5)?,
        error: row.get(6)?,
        attempts: row.get(7)?,
        body: Bytes::from(body),
    })
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

impl JobDeadLetter {
    /// The stage where the record failed.
    pub(crate) fn failed_stage(&self) -> JobStage {
        JobStage::from_name(&self.stage).unwrap_or(JobStage::Storage)
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
