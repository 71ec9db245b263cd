//! The position of an API source, and the records that it returned.

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use super::{JobState, StateError};

/// Records per read of the inbox.
const READ_AT_ONCE: i64 = 1000;

impl JobState {
    /// The stored position of the source; `None` before the first page.
    pub(crate) async fn api_position(&self) -> Result<Option<String>, StateError> {
        self.meta("api").await
    }

    /// Stores a page's records and the position after it in one transaction. Returns the number of the first
    /// record; the others follow.
    pub(crate) async fn accept_page(
        &self,
        position: String,
        records: Vec<Bytes>,
    ) -> Result<u64, StateError> {
        self.with(move |c| {
            let transaction = c.transaction()?;
            let last: i64 = transaction
                .query_row("SELECT value FROM meta WHERE key = 'last_seq'", [], |r| {
                    r.get::<_, String>(0)
                })
                .optional()?
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            let mut seq = last;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO inbox VALUES (?1, ?2)")?;
                for record in &records {
                    seq += 1;
                    insert.execute(params![seq, &record[..]])?;
                }
            }
            let mut set =
                transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
            set.execute(params!["last_seq", seq.to_string()])?;
            set.execute(params!["api", position])?;
            drop(set);
            transaction.commit()?;
            Ok(u64::try_from(last + 1).unwrap_or(1))
        })
        .await
    }

    /// Unacknowledged records after a number, in order; empty at the end.
    pub(crate) async fn unacknowledged(&self, after: u64) -> Result<Vec<(u64, Bytes)>, StateError> {
        self.with(move |c| {
            let mut select = c.prepare_cached(
                "SELECT seq, body FROM inbox WHERE seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = select.query_map(params![after, READ_AT_ONCE], |r| {
                let seq: i64 = r.get(0)?;
                let body: Vec<u8> = r.get(1)?;
                Ok((u64::try_from(seq).unwrap_or(0), Bytes::from(body)))
            })?;
            rows.collect()
        })
        .await
    }
}
