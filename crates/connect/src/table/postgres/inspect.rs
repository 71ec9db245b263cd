//! Read-only inspection of a table and of the user's privileges.

use forebay_model::{Mapping, TableId};
use tokio_postgres::Row;

use crate::table::mapping_fit::{self, quote};
use crate::table::postgres::connect::PostgresConnection;
use crate::table::postgres::schema;
use crate::table::{InspectionFinding, TableError, TableInspection};

use super::connect::text;

/// The user's privileges on the database, the schema, the table and the ledger. All are false for a
/// missing object.
const PRIVILEGES: &str = "
    SELECT n.oid IS NOT NULL, l.oid IS NOT NULL, t.oid IS NOT NULL,
        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
        coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
        coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false),
        coalesce(pg_catalog.has_table_privilege(c.oid, 'INSERT'), false),
        coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT')
            AND pg_catalog.has_table_privilege(c.oid, 'UPDATE'), false),
        coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false),
        coalesce(c.relispartition, false),
        coalesce(c.relkind = 'p' AND NOT EXISTS (
            SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), false),
        coalesce(pg_catalog.has_schema_privilege(l.oid, 'USAGE'), false),
        coalesce(pg_catalog.has_schema_privilege(l.oid, 'CREATE'), false),
        coalesce(pg_catalog.has_table_privilege(t.oid, 'INSERT')
            AND pg_catalog.has_table_privilege(t.oid, 'SELECT')
            AND pg_catalog.has_table_privilege(t.oid, 'UPDATE')
            AND pg_catalog.has_table_privilege(t.oid, 'DELETE'), false)
    FROM (SELECT 1) AS one
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1
    LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = $2
    LEFT JOIN pg_catalog.pg_namespace l ON l.nspname = $3
    LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = l.oid AND t.relname = 'imports'";

pub(super) async fn run(
    connection: &PostgresConnection,
    table: &TableId,
    mapping: &Mapping,
) -> Result<TableInspection, TableError> {
    let (schema, name) = (table.bucket_id(), table.table());
    let ledger = connection.ledger_schema.as_str();
    let action = format!("look up the privileges on table \"{table}\"");
    let parameters = [text(&schema), text(&name), text(&ledger)];
    let rows = connection.query(&action, PRIVILEGES, &parameters).await?;
    let may = rows.first().map(Privileges::from_row).unwrap_or_default();
    let mut denials = may.ledger_denials(ledger);
    let mut findings = Vec::new();
    let exists = match schema::columns(connection, table).await? {
        None => {
            denials.extend(may.create_denial(&schema));
            false
        }
        Some(Err(problem)) => {
            findings.push(InspectionFinding::for_table(problem.to_string()));
            true
        }
        Some(Ok(columns)) => {
            let (fit, found) = mapping_fit::try_fit(table, mapping, &columns);
            findings = found;
            let has_key = mapping.primary_key().next().is_some();
            denials.extend(may.write_denials(&schema, has_key, !fit.missing.is_empty()));
            true
        }
    };
    let denials = denials.into_iter();
    findings.extend(
        denials.map(|text| InspectionFinding::for_table(format!("table \"{table}\": {text}"))),
    );
    Ok(TableInspection { exists, findings })
}

#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one of PostgreSQL's privileges"
)]
struct Privileges {
    has_schema: bool,
    has_ledger_schema: bool,
    has_ledger: bool,
    create_schema: bool,
    use_schema: bool,
    create_table: bool,
    insert: bool,
    upsert: bool,
    alter: bool,
    is_partition: bool,
    has_no_partition: bool,
    use_ledger_schema: bool,
    create_ledger: bool,
    write_ledger: bool,
}

impl Privileges {
    fn from_row(row: &Row) -> Self {
        Self {
            has_schema: row.get(0),
            has_ledger_schema: row.get(1),
            has_ledger: row.get(2),
            create_schema: row.get(3),
            use_schema: row.get(4),
            create_table: row.get(5),
            insert: row.get(6),
            upsert: row.get(7),
            alter: row.get(8),
            is_partition: row.get(9),
            has_no_partition: row.get(10),
            use_ledger_schema: row.get(11),
            create_ledger: row.get(12),
            write_ledger: row.get(13),
        }
    }

    /// Missing privilege to create the table.
    fn create_denial(self, schema: &str) -> Option<String> {
        let schema = quote(schema);
        if !self.has_schema {
            return (!self.create_schema).then(|| {
                format!("schema {schema} does not exist and PostgreSQL's user may not create it")
            });
        }
        (!self.use_schema || !self.create_table)
            .then(|| format!("PostgreSQL's user may not create tables in schema {schema}"))
    }

    /// Missing privileges and other obstacles to write to the existing table.
    fn write_denials(self, schema: &str, has_key: bool, lacks_columns: bool) -> Vec<String> {
        let mut denials = Vec::new();
        if !self.use_schema {
            let schema = quote(schema);
            denials.push(format!("PostgreSQL's user may not use schema {schema}"));
        }
        if !self.insert {
            denials.push("PostgreSQL's user may not insert into it".to_owned());
        }
        if has_key && !self.upsert {
            let text =
                "PostgreSQL's user may not select and update in it, which its primary key needs";
            denials.push(text.to_owned());
        }
        if lacks_columns && !self.alter {
            let text = "it lacks columns of the mapping and PostgreSQL's user, who does not own it, may not add them";
            denials.push(text.to_owned());
        }
        if self.is_partition {
            denials.push("it is a partition: use its parent table".to_owned());
        }
        if self.has_no_partition {
            denials.push("it is partitioned and has no partition for rows".to_owned());
        }
        denials
    }

    /// Missing privilege to write the ledger.
    fn ledger_denials(self, schema: &str) -> Vec<String> {
        let may = if self.has_ledger {
            self.use_ledger_schema && self.write_ledger
        } else if self.has_ledger_schema {
            self.use_ledger_schema && self.create_ledger
        } else {
            self.create_schema
        };
        let schema = quote(schema);
        let text = || {
            format!(
                "PostgreSQL's user may not create or write the ledger of imports in schema {schema}"
            )
        };
        (!may).then(text).into_iter().collect()
    }
}
