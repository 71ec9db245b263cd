//! Dead letters, and the end of records.

use bytes::Bytes;
use forebay_model::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Serialize, Serializer};

use super::{FileCheckpoint, JobState, StateError, files};
use crate::record::{DeadRecord, JobStage, RecordPosition};

/// A record that was given up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDeadLetter {
    /// Its number, never given again.
    pub id: u64,
    /// When it was given up.
    pub at: Timestamp,
    /// Where: `parse`, `processing` or `storage`.
    pub stage: String,
    /// Where the record comes from: `record 17`, `products.jsonl:57`.
    pub origin: String,
    /// Method and address of the last request, or the table.
    pub request: String,
    /// Of the last answer, when there was one.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the failed stage was given; shown as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
}

/// Some dead letters, in the order of their numbers.
#[derive(Clone, Debug)]
pub struct DeadLetterPage {
    /// They.
    pub dead_letters: Vec<JobDeadLetter>,
    /// How many there are in all.
    pub total: u64,
}

const COLUMNS: &str = "id, at, stage, origin, request, status, error, attempts, body";

impl JobState {
    /// Notes what has become of records: of files how far they are done, of others that they leave
    /// the inbox or are no dead letters any more.
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
            for letter in &dead {
                insert(&transaction, now, letter)?;
            }
            transaction.commit()
        })
        .await
    }

    /// Dead letters with numbers above `after`, at most `limit`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn dead_letters(&self, after: u64, limit: u32) -> Result<DeadLetterPage, StateError> {
        self.with(move |c| {
            let total: i64 = c.query_row("SELECT count(*) FROM dead", [], |r| r.get(0))?;
            let mut select = c.prepare(&format!(
                "SELECT {COLUMNS} FROM dead WHERE id > ?1 ORDER BY id LIMIT ?2"
            ))?;
            let letters = select
                .query_map(params![signed(after), limit], read)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(DeadLetterPage {
                dead_letters: letters,
                total: u64::try_from(total).unwrap_or(0),
            })
        })
        .await
    }

    /// A dead letter.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn dead_letter(&self, id: u64) -> Result<Option<JobDeadLetter>, StateError> {
        self.with(move |c| {
            let sql = format!("SELECT {COLUMNS} FROM dead WHERE id = ?1");
            c.query_row(&sql, [signed(id)], read).optional()
        })
        .await
    }

    /// Drops dead letters for good; all when none is named. Answers how many there were.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn drop_dead_letters(&self, ids: Option<Vec<u64>>) -> Result<u64, StateError> {
        self.with(move |c| {
            let transaction = c.transaction()?;
            let dropped = match &ids {
                None => transaction.execute("DELETE FROM dead", [])?,
                Some(ids) => {
                    let mut delete = transaction.prepare("DELETE FROM dead WHERE id = ?1")?;
                    let mut dropped = 0;
                    for id in ids {
                        dropped += delete.execute([signed(*id)])?;
                    }
                    dropped
                }
            };
            transaction.commit()?;
            Ok(dropped as u64)
        })
        .await
    }
}

/// Of what source the records are.
#[derive(Clone, Debug)]
pub(crate) enum CheckpointUpdate {
    /// An API's.
    Inbox,
    /// A replay's.
    Dead,
    /// Files', with how far they are done.
    Files(Vec<FileCheckpoint>),
}

fn insert(
    c: &rusqlite::Connection,
    now: Timestamp,
    dead_record: &DeadRecord,
) -> rusqlite::Result<()> {
    // A part of a file that is read again, or a second run over the same files, finds the same bad
    // lines: each is there once.
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
    /// Where it failed.
    #[must_use]
    pub fn failed_stage(&self) -> JobStage {
        JobStage::from_name(&self.stage).unwrap_or(JobStage::Storage)
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
