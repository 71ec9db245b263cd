//! Schemas, tables and their columns.

use forebay_model::{DataType, Mapping, TableId};

use crate::table::mapping_fit::{self, ColumnStorage, ExistingColumn, MappingFit, quote, quoted};
use crate::table::postgres::connect::PostgresConnection;
use crate::table::postgres::ledger;
use crate::table::{InspectionFinding, TableError};

use super::connect::text;
use super::keyed::declared;
use super::volatile::{VOLATILE, check_volatile};

/// PostgreSQL silently truncates longer names.
const NAME_BYTES_MAX: usize = 63;
/// Columns that every table has.
const SYSTEM_COLUMNS: [&str; 7] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "oid"];
/// Advisory lock that serializes creation: `IF NOT EXISTS` does not, and concurrent statements may
/// both fail. An arbitrary number; this one spells "forebay".
const LOCK: i64 = 0x0066_6f72_6562_6179;
/// Comment of the schemas created by Forebay: only those are deleted.
const SCHEMA_COMMENT: &str = "Made by Forebay; deleted with its last table.";

/// `"<stage>.<bucket>"."<table>"`.
pub(super) fn qualified(table: &TableId) -> String {
    format!("{}.{}", quote(&table.bucket_id()), quote(table.table()))
}

/// Creates schema, table and ledger, adds columns, or does nothing.
pub(super) async fn prepare(
    connection: &mut PostgresConnection,
    table: &TableId,
    mapping: &Mapping,
) -> Result<(), TableError> {
    mapping_fit::check_mapping(table, mapping)?;
    let names = check_names(table, mapping, &connection.ledger_schema);
    if let Some(error) = mapping_fit::first(names) {
        return Err(error);
    }
    let is_ready = match fit(connection, table, mapping).await? {
        Some(fit) => fit.missing.is_empty() && ledger::exists(connection).await?,
        None => false,
    };
    if is_ready {
        return Ok(());
    }
    let action = format!("prepare table \"{table}\"");
    connection
        .execute(
            &action,
            &format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({LOCK})"),
        )
        .await?;
    let mut statements = String::new();
    if !ledger::exists(connection).await? {
        create_schema(connection, &connection.ledger_schema, &mut statements).await?;
        statements.push_str(&ledger::create(connection));
        statements.push(';');
    }
    match fit(connection, table, mapping).await? {
        None => {
            create_schema(connection, &table.bucket_id(), &mut statements).await?;
            statements.push_str(&create(table, mapping));
            tracing::info!(%table, columns = mapping.columns.len(), "creating table");
        }
        Some(fit) => {
            let missing = fit.missing.iter();
            for column in missing.filter_map(|&i| mapping.columns.get(i)) {
                let (name, data_type) = (&column.name, declared(column.data_type));
                tracing::info!(%table, column = name, "adding column");
                statements.push_str(&format!(
                    "ALTER TABLE {} ADD COLUMN {} {data_type};",
                    qualified(table),
                    quote(name)
                ));
            }
        }
    }
    // An error leaves the transaction open; dropping the connection rolls it back.
    connection
        .execute(&action, &format!("{statements}; COMMIT"))
        .await
}

/// Deletes a table, and its schema if it was created by Forebay and is empty.
pub(super) async fn delete(
    connection: &PostgresConnection,
    table: &TableId,
) -> Result<(), TableError> {
    let action = format!("delete table \"{table}\"");
    // Under the lock of creation, so that no concurrent creation relies on the schema.
    let begin = format!(
        "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({LOCK}); DROP TABLE IF EXISTS {}",
        qualified(table)
    );
    connection.execute(&action, &begin).await?;
    let sql = "SELECT 1 FROM pg_catalog.pg_namespace n
        WHERE n.nspname = $1 AND pg_catalog.obj_description(n.oid, 'pg_namespace') = $2
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
                WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid)";
    let (schema, comment) = (table.bucket_id(), SCHEMA_COMMENT);
    let parameters = [text(&schema), text(&comment)];
    let is_left_over = !connection
        .query(&action, sql, &parameters)
        .await?
        .is_empty();
    let end = if is_left_over {
        format!("DROP SCHEMA {}; COMMIT", quote(&schema))
    } else {
        "COMMIT".to_owned()
    };
    connection.execute(&action, &end).await
}

/// Fits the mapping to the table; `None` if there is no table.
pub(super) async fn fit(
    connection: &PostgresConnection,
    table: &TableId,
    mapping: &Mapping,
) -> Result<Option<MappingFit>, TableError> {
    match columns(connection, table).await? {
        Some(columns) => mapping_fit::fit(table, mapping, &columns?).map(Some),
        None => Ok(None),
    }
}

/// Columns of an existing table, or why the existing object can't be imported into.
pub(super) async fn columns(
    connection: &PostgresConnection,
    table: &TableId,
) -> Result<Option<Result<Vec<ExistingColumn>, TableError>>, TableError> {
    // Partitioning and inheritance don't matter; a view or foreign table can't be imported into.
    let sql = format!(
        "SELECT c.relkind::text, a.attname::text,
            pg_catalog.format_type(a.atttypid, a.atttypmod),
            t.typname::text,
            a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
            a.attgenerated <> '' OR a.attidentity = 'a',
            coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false),
            {VOLATILE}, coalesce(a.attnotnull, false)
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_attribute a
            ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_type t
            ON t.oid = a.atttypid AND t.typnamespace = 'pg_catalog'::regnamespace
                AND a.atttypmod = -1
        LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
        WHERE n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum"
    );
    let action = format!("look up table \"{table}\"");
    let (schema, name) = (table.bucket_id(), table.table());
    let parameters = [text(&schema), text(&name)];
    let rows = connection.query(&action, &sql, &parameters).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let kind: &str = first.get(0);
    if !matches!(kind, "r" | "p") {
        return Ok(Some(Err(TableError::Terminal(format!(
            "\"{table}\" exists but is not a table: it can't be imported into"
        )))));
    }
    check_volatile(table, first.get(7))?;
    let columns: Vec<ExistingColumn> = rows
        .iter()
        // A table without columns yields one row of nulls.
        .filter_map(|row| {
            Some(ExistingColumn {
                name: row.get::<_, Option<String>>(1)?,
                type_name: row.get(2),
                storage: row
                    .get::<_, Option<&str>>(3)
                    .map(storage)
                    .unwrap_or_default(),
                is_not_null: row.get(8),
                is_required: row.get(4),
                is_generated: row.get(5),
                in_key: row.get(6),
            })
        })
        .collect();
    Ok(Some(Ok(columns)))
}

/// Values that a column of one of the server's types, without a length, stores unchanged.
fn storage(type_name: &str) -> ColumnStorage {
    match type_name {
        "text" | "varchar" => ColumnStorage::Text,
        "int8" => ColumnStorage::Typed(DataType::Integer),
        "float8" => ColumnStorage::Typed(DataType::Double),
        "bool" => ColumnStorage::Typed(DataType::Boolean),
        "timestamptz" => ColumnStorage::Typed(DataType::Timestamp),
        // `jsonb` rejects `\u0000`, and changes the order of keys.
        "json" => ColumnStorage::Typed(DataType::Json),
        "numeric" => ColumnStorage::Numeric,
        _ => ColumnStorage::Foreign,
    }
}

/// Looks the schema up first, as it may exist without the permission to create any.
async fn create_schema(
    connection: &PostgresConnection,
    schema: &str,
    statements: &mut String,
) -> Result<(), TableError> {
    let sql = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let action = format!("look up schema \"{schema}\"");
    if connection
        .query(&action, sql, &[text(&schema)])
        .await?
        .is_empty()
    {
        let schema = quote(schema);
        statements.push_str(&format!(
            "CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS '{SCHEMA_COMMENT}';"
        ));
    }
    Ok(())
}

fn create(table: &TableId, mapping: &Mapping) -> String {
    let mut parts: Vec<String> = mapping
        .columns
        .iter()
        .map(|c| format!("{} {}", quote(&c.name), declared(c.data_type)))
        .collect();
    let key = quoted(mapping.primary_key());
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({key})"));
    }
    format!("CREATE TABLE {} ({})", qualified(table), parts.join(", "))
}

/// Names that PostgreSQL or the ledger doesn't allow.
pub(super) fn check_names(
    table: &TableId,
    mapping: &Mapping,
    ledger_schema: &str,
) -> Vec<InspectionFinding> {
    let too_long = |what: &str, name: &str| {
        (name.len() > NAME_BYTES_MAX).then(|| {
            format!(
                "table \"{table}\": {what} \"{name}\" has {} bytes, PostgreSQL allows {NAME_BYTES_MAX}",
                name.len()
            )
        })
    };
    let schema = table.bucket_id();
    let reserved = (schema == ledger_schema).then(|| {
        format!(
            "table \"{table}\": schema \"{schema}\" is reserved for the ledger, use another bucket"
        )
    });
    let of_table = [
        reserved,
        too_long("the schema", &schema),
        too_long("the name", table.table()),
    ];
    let mut findings: Vec<InspectionFinding> = of_table
        .into_iter()
        .flatten()
        .map(InspectionFinding::for_table)
        .collect();
    for (i, column) in mapping.columns.iter().enumerate() {
        let name = column.name.as_str();
        let problem = if SYSTEM_COLUMNS.contains(&name) {
            Some(format!(
                "table \"{table}\": PostgreSQL reserves the column name \"{name}\""
            ))
        } else {
            too_long("column", name)
        };
        findings.extend(problem.map(|message| InspectionFinding::for_column(i, message)));
    }
    findings
}
