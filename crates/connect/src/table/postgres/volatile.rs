//! Tables whose rows are lost in a crash of the server.

use crate::table::TableError;

/// SQL expression for a relation `c`: `UNLOGGED` or `TEMPORARY` if it, or a partition of it, is so.
/// Null if committed rows survive a crash of the server.
pub(super) const VOLATILE: &str = "(SELECT CASE max(p.relpersistence::text)
        WHEN 'u' THEN 'UNLOGGED' WHEN 't' THEN 'TEMPORARY' END
    FROM pg_catalog.pg_class p
    WHERE p.relpersistence <> 'p' AND (p.oid = c.oid OR c.relkind = 'p'
        AND p.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t)))";

/// Rejects a table whose rows are lost in a crash of the server: Forebay deletes its own copy after
/// the commit.
pub(super) fn check_volatile(
    table: &dyn std::fmt::Display,
    kind: Option<&str>,
) -> Result<(), TableError> {
    match kind {
        None => Ok(()),
        Some(kind) => Err(TableError::Terminal(format!(
            "table \"{table}\" is {kind}: a crash of the server would empty it; run ALTER TABLE … SET LOGGED (of a partition, on the partition), or use another table"
        ))),
    }
}
