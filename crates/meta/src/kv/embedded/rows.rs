//! Conversion between SQLite rows and store entries.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::kv::store::{EntryPage, LeaseId, Revision, StoreEntry};

/// SQLite integers are signed; a revision never reaches the sign bit.
pub(super) fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(value: i64) -> Revision {
    Revision(u64::try_from(value).unwrap_or(0))
}

/// Returns the first text after all that begin with `prefix`; `None` if there is none.
pub(super) fn upper_bound(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Skip the surrogate gap. Characters are ordered as their bytes.
        let next = match u32::from(last) + 1 {
            0xD800 => 0xE000,
            n => n,
        };
        if let Some(next) = char::from_u32(next) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn entry(row: &Row<'_>) -> rusqlite::Result<StoreEntry> {
    let lease: Option<i64> = row.get(4)?;
    Ok(StoreEntry {
        key: row.get(0)?,
        value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        create_revision: from_sql(row.get(2)?),
        mod_revision: from_sql(row.get(3)?),
        lease: lease.map(|l| LeaseId(u64::try_from(l).unwrap_or(0))),
    })
}

pub(super) fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<StoreEntry>> {
    let mut get =
        db.prepare_cached("SELECT key, value, created, modified, lease FROM kv WHERE key = ?1")?;
    get.query_row([key], entry).optional()
}

pub(super) fn range(
    db: &mut Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<EntryPage> {
    // One read transaction, so that the revision matches the rows.
    let txn = db.transaction()?;
    let revision: i64 = txn.query_row(
        "SELECT value FROM meta WHERE name = 'revision'",
        (),
        |row| row.get(0),
    )?;
    let mut range = txn.prepare_cached(
        "SELECT key, value, created, modified, lease FROM kv
         WHERE key >= ?1 AND (?2 IS NULL OR key < ?2) AND (?3 IS NULL OR key > ?3)
         ORDER BY key LIMIT ?4",
    )?;
    let limit_sql = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let rows = range.query_map(
        params![prefix, upper_bound(prefix), after, limit_sql],
        entry,
    )?;
    let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    Ok(EntryPage {
        entries,
        revision: from_sql(revision),
        more,
    })
}

/// Counts by the key index only; values are not read.
pub(super) fn count(db: &Connection, prefix: &str) -> rusqlite::Result<usize> {
    let mut count =
        db.prepare_cached("SELECT count(*) FROM kv WHERE key >= ?1 AND (?2 IS NULL OR key < ?2)")?;
    let found: i64 = count.query_row(params![prefix, upper_bound(prefix)], |row| row.get(0))?;
    Ok(usize::try_from(found).unwrap_or_default())
}

/// Newest revision that wrote a present key below `prefix`; 0 if there is none.
pub(super) fn newest_below(db: &Connection, prefix: &str) -> rusqlite::Result<Revision> {
    let mut newest = db.prepare_cached(
        "SELECT max(modified) FROM kv WHERE key >= ?1 AND (?2 IS NULL OR key < ?2)",
    )?;
    let found: Option<i64> =
        newest.query_row(params![prefix, upper_bound(prefix)], |row| row.get(0))?;
    Ok(found.map(from_sql).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::upper_bound;

    #[test]
    fn the_bound_is_the_first_text_after_the_prefix() {
        for (prefix, bound) in [
            ("a/", Some("a0")),
            ("", None),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("a\u{d7ff}", Some("a\u{e000}")),
        ] {
            assert_eq!(upper_bound(prefix).as_deref(), bound);
        }
    }
}
