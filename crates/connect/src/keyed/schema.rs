//! Schema of a table, and its comparison with an existing table.

use std::collections::HashSet;

use crate::keyed::{DataType, KeyedBatch, RowRef, ValueRef};
use crate::table::TableError;

/// Maximum of columns.
const COLUMNS_MAX: usize = 250;
/// Maximum length of a name: PostgreSQL truncates longer ones, Cassandra rejects them for tables.
const NAME_MAX: usize = 48;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Name in the store: `products`; `shop.products` with a schema or keyspace.
    pub table: String,
    /// In the order of a row's cells.
    pub columns: Vec<ColumnSchema>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSchema {
    pub name: String,
    pub kind: DataType,
    /// Part of the key.
    pub is_key: bool,
    /// Type name of a column of an existing table whose type is not a [`DataType`]: it is read as
    /// text and never written.
    pub foreign: Option<String>,
}

/// A schema that is no valid table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchema(pub String);

impl TableSchema {
    /// Checks the rules that apply to every store; fails with the first violation.
    pub fn check(&self) -> Result<(), InvalidSchema> {
        let reject = |text: String| Err(InvalidSchema(text));
        let parts: Vec<&str> = self.table.split('.').collect();
        if parts.len() > 3 || !parts.iter().all(|p| is_name(p)) {
            return reject(format!(
                "table \"{}\": use letters, digits and _, beginning with a letter, at most {NAME_MAX} characters, with dots between schema and table",
                self.table
            ));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return reject(format!(
                "table \"{}\" has {} columns, allowed is 1 to {COLUMNS_MAX}",
                self.table,
                self.columns.len()
            ));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if !is_name(&column.name) {
                return reject(format!(
                    "column \"{}\": use letters, digits and _, beginning with a letter, at most {NAME_MAX} characters",
                    column.name
                ));
            }
            let earlier = self.columns.iter().take(i);
            if let Some(same) = earlier
                .clone()
                .find(|c| c.name.eq_ignore_ascii_case(&column.name))
            {
                return reject(format!(
                    "columns \"{}\" and \"{}\" have the same name (upper and lower case are the same to some stores)",
                    same.name, column.name
                ));
            }
            if column.is_key && matches!(column.kind, DataType::Json | DataType::Double) {
                return reject(format!(
                    "key column \"{}\" is {}: use text, integer, boolean or timestamp",
                    column.name, column.kind
                ));
            }
        }
        if !self.columns.iter().any(|c| c.is_key) {
            return reject(format!(
                "table \"{}\" has no key: mark at least one column with `key: true`",
                self.table
            ));
        }
        Ok(())
    }

    /// Key columns, in the order of the table.
    pub fn key(&self) -> impl Iterator<Item = &ColumnSchema> {
        self.columns.iter().filter(|c| c.is_key)
    }

    /// Appends an injective encoding of the row's key.
    pub fn write_key(&self, row: RowRef<'_>, out: &mut Vec<u8>) {
        for cell in self.key_of(row) {
            cell.write_canonical(out);
        }
    }

    /// Key cells of a row.
    pub fn key_of<'a>(&self, row: RowRef<'a>) -> impl Iterator<Item = ValueRef<'a>> {
        let columns = self.columns.iter().zip(row.cells());
        columns.filter(|(c, _)| c.is_key).map(|(_, cell)| cell)
    }

    /// Indices of the last row of each key, in order.
    pub fn last_of_each_key(&self, rows: &KeyedBatch) -> Vec<usize> {
        if self.has_ascending_keys(rows) {
            return (0..rows.len()).collect();
        }
        let (mut bytes, mut keys) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows.iter() {
            let from = bytes.len();
            self.write_key(row, &mut bytes);
            keys.push(from..bytes.len());
        }
        let mut seen = HashSet::with_capacity(rows.len());
        let last = keys.into_iter().enumerate().rev();
        let last = last.filter(|(_, key)| seen.insert(bytes.get(key.clone())));
        let mut indices: Vec<usize> = last.map(|(index, _)| index).collect();
        indices.reverse();
        indices
    }

    /// Whether each row has a larger integer key than the one before: a cheap and common proof that
    /// keys are unique.
    fn has_ascending_keys(&self, rows: &KeyedBatch) -> bool {
        let mut columns = (0..).zip(&self.columns).filter(|(_, c)| c.is_key);
        let (Some((column, _)), None) = (columns.next(), columns.next()) else {
            return false;
        };
        let mut before = None;
        rows.iter().all(|row| {
            let ValueRef::Integer(n) = row.get(column) else {
                return false;
            };
            before.replace(n).is_none_or(|before| before < n)
        })
    }

    /// Checks that an existing table can store these rows. Its further columns are ignored.
    ///
    /// # Errors
    /// Terminal; states the difference and both sides.
    pub fn fits(&self, existing: &Self) -> Result<(), TableError> {
        let reject = |text: String| {
            Err(TableError::Terminal(format!(
                "table \"{}\" {text}: change one of them or use another table",
                self.table
            )))
        };
        for wanted in &self.columns {
            let found = existing.columns.iter().find(|c| c.name == wanted.name);
            match found {
                None => {
                    let names: Vec<&str> =
                        existing.columns.iter().map(|c| c.name.as_str()).collect();
                    return reject(format!(
                        "has no column \"{}\"; it has {}",
                        wanted.name,
                        names.join(", ")
                    ));
                }
                Some(ColumnSchema {
                    foreign: Some(declared),
                    ..
                }) => {
                    return reject(format!(
                        "has column \"{}\" of type {declared}, which Forebay reads and does not write; the definition says {}",
                        wanted.name, wanted.kind
                    ));
                }
                Some(found) if found.kind != wanted.kind => {
                    return reject(format!(
                        "has column \"{}\" of type {}, the definition says {}",
                        wanted.name, found.kind, wanted.kind
                    ));
                }
                Some(_) => {}
            }
        }
        let names = |schema: &Self| {
            let mut names: Vec<String> = schema.key().map(|c| c.name.clone()).collect();
            names.sort_unstable();
            names.join(", ")
        };
        let (has, wanted) = (names(existing), names(self));
        if has != wanted {
            let shown = if has.is_empty() {
                "no key".to_owned()
            } else {
                format!("the key ({has})")
            };
            return reject(format!("has {shown}, the definition says ({wanted})"));
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::{CellValue, KeyedRow};

    fn schema(columns: &[(&str, DataType, bool)]) -> TableSchema {
        let column = |&(name, kind, is_key): &(&str, DataType, bool)| ColumnSchema {
            name: name.to_owned(),
            kind,
            is_key,
            foreign: None,
        };
        TableSchema {
            table: "shop.products".to_owned(),
            columns: columns.iter().map(column).collect(),
        }
    }

    const ID: (&str, DataType, bool) = ("id", DataType::Integer, true);

    #[test]
    fn invalid_schemas_are_rejected_by_name() {
        assert_eq!(schema(&[ID]).check(), Ok(()));
        let error = |columns: &[_]| schema(columns).check().unwrap_err().to_string();
        assert!(error(&[]).contains("0 columns"));
        assert!(error(&[("a b", DataType::Text, true)]).contains("\"a b\""));
        assert!(error(&[ID, ("ID", DataType::Text, false)]).contains("same name"));
        assert!(error(&[("id", DataType::Json, true)]).contains("is json"));
        assert!(error(&[("a", DataType::Text, false)]).contains("no key"));
        let mut named = schema(&[ID]);
        named.table = "a.b.c.d".to_owned();
        assert!(named.check().unwrap_err().to_string().contains("a.b.c.d"));
    }

    #[test]
    fn a_mismatch_is_reported_with_both_sides() {
        let wanted = schema(&[ID, ("name", DataType::Text, false)]);
        let fits = |columns: &[_]| wanted.fits(&schema(columns)).map_err(|e| e.to_string());
        let extra = ("other", DataType::Json, false);
        assert_eq!(fits(&[("name", DataType::Text, false), extra, ID]), Ok(()));
        let error = fits(&[ID, extra]).unwrap_err();
        assert!(
            error.contains("no column \"name\"; it has id, other"),
            "{error}"
        );
        let error = fits(&[ID, ("name", DataType::Double, false)]).unwrap_err();
        assert!(
            error.contains("of type double, the definition says text"),
            "{error}"
        );
        let mut there = schema(&[ID, ("name", DataType::Text, false), extra]);
        there.columns[2].foreign = Some("point".to_owned());
        assert_eq!(wanted.fits(&there), Ok(()), "further columns are ignored");
        there.columns[1].foreign = Some("uuid".to_owned());
        let error = wanted.fits(&there).unwrap_err().to_string();
        assert!(
            error.contains("of type uuid, which Forebay reads"),
            "{error}"
        );
        let error = fits(&[
            ("id", DataType::Integer, false),
            ("name", DataType::Text, true),
        ])
        .unwrap_err();
        assert!(
            error.contains("has the key (name), the definition says (id)"),
            "{error}"
        );
    }

    #[test]
    fn the_last_row_of_a_key_wins() {
        let schema = schema(&[ID, ("n", DataType::Integer, false)]);
        let row = |id, n| KeyedRow(vec![CellValue::Integer(id), CellValue::Integer(n)]);
        let last = |rows| schema.last_of_each_key(&rows);
        assert_eq!(last([row(1, 1), row(2, 2), row(1, 3)].into()), [1, 2]);
        assert_eq!(last([row(1, 1), row(1, 2)].into()), [1]);
        assert_eq!(last([row(1, 1), row(2, 2), row(7, 3)].into()), [0, 1, 2]);
    }
}
