//! What a table looks like, and whether one that is there fits.

use std::collections::HashSet;

use crate::keyed::{KeyedBatch, RowRef, ValueRef, ValueType};
use crate::table::TableError;

/// Columns at most.
const COLUMNS_MAX: usize = 250;
/// Characters of a name at most: PostgreSQL cuts longer ones, Cassandra refuses them for tables.
const NAME_MAX: usize = 48;

/// A table: its name and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// As the store calls it: `products`; `shop.products` where there are schemas or keyspaces.
    pub table: String,
    /// In the order of rows.
    pub columns: Vec<ColumnSchema>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSchema {
    /// Its name.
    pub name: String,
    /// What its cells hold.
    pub kind: ValueType,
    /// Part of the key.
    pub is_key: bool,
    /// Of a table that is there, the store's name of a type that is none of ours: such a column is
    /// read as text and never written.
    pub foreign: Option<String>,
}

/// Why a shape can't be a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchema(pub String);

impl TableSchema {
    /// Checks what holds for every store.
    ///
    /// # Errors
    /// When it can't be a table; the first reason.
    pub fn check(&self) -> Result<(), InvalidSchema> {
        let refuse = |text: String| Err(InvalidSchema(text));
        let parts: Vec<&str> = self.table.split('.').collect();
        if parts.len() > 3 || !parts.iter().all(|p| is_name(p)) {
            return refuse(format!(
                "table \"{}\": use letters, digits and _, beginning with a letter, at most {NAME_MAX} characters, with dots between schema and table",
                self.table
            ));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return refuse(format!(
                "table \"{}\" has {} columns, allowed is 1 to {COLUMNS_MAX}",
                self.table,
                self.columns.len()
            ));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if !is_name(&column.name) {
                return refuse(format!(
                    "column \"{}\": use letters, digits and _, beginning with a letter, at most {NAME_MAX} characters",
                    column.name
                ));
            }
            let earlier = self.columns.iter().take(i);
            if let Some(same) = earlier
                .clone()
                .find(|c| c.name.eq_ignore_ascii_case(&column.name))
            {
                return refuse(format!(
                    "columns \"{}\" and \"{}\" have the same name (upper and lower case are the same to some stores)",
                    same.name, column.name
                ));
            }
            if column.is_key && matches!(column.kind, ValueType::Json | ValueType::Double) {
                return refuse(format!(
                    "key column \"{}\" is {}: use text, integer, boolean or timestamp",
                    column.name, column.kind
                ));
            }
        }
        if !self.columns.iter().any(|c| c.is_key) {
            return refuse(format!(
                "table \"{}\" has no key: mark at least one column with `key: true`",
                self.table
            ));
        }
        Ok(())
    }

    /// The columns of the key, in the order of the table.
    pub fn key(&self) -> impl Iterator<Item = &ColumnSchema> {
        self.columns.iter().filter(|c| c.is_key)
    }

    /// Appends bytes that are the same for rows of the same key, and for no others.
    pub fn write_key(&self, row: RowRef<'_>, out: &mut Vec<u8>) {
        for cell in self.key_of(row) {
            cell.write_canonical(out);
        }
    }

    /// The cells of the key of a row.
    pub fn key_of<'a>(&self, row: RowRef<'a>) -> impl Iterator<Item = ValueRef<'a>> {
        let columns = self.columns.iter().zip(row.cells());
        columns.filter(|(c, _)| c.is_key).map(|(_, cell)| cell)
    }

    /// Of rows with the same key the last one, in the order of their last ones: their places.
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
        let mut indices: Vec<usize> = last.map(|(place, _)| place).collect();
        indices.reverse();
        indices
    }

    /// Whether each row has a larger number for its key than the one before: cheaper to see than
    /// that no key is there twice, and often so.
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

    /// Whether a table that is there can take these rows. Its other columns are left alone.
    ///
    /// # Errors
    /// Terminal, naming what differs and both sides of it.
    pub fn fits(&self, existing: &Self) -> Result<(), TableError> {
        let refuse = |text: String| {
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
                    return refuse(format!(
                        "has no column \"{}\"; it has {}",
                        wanted.name,
                        names.join(", ")
                    ));
                }
                Some(ColumnSchema {
                    foreign: Some(declared),
                    ..
                }) => {
                    return refuse(format!(
                        "has column \"{}\" of type {declared}, which Forebay reads and does not write; the definition says {}",
                        wanted.name, wanted.kind
                    ));
                }
                Some(found) if found.kind != wanted.kind => {
                    return refuse(format!(
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
            return refuse(format!("has {shown}, the definition says ({wanted})"));
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

    fn shape(columns: &[(&str, ValueType, bool)]) -> TableSchema {
        let column = |&(name, kind, is_key): &(&str, ValueType, bool)| ColumnSchema {
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

    const ID: (&str, ValueType, bool) = ("id", ValueType::Integer, true);

    #[test]
    fn shapes_that_no_store_can_have_are_refused_by_name() {
        assert_eq!(shape(&[ID]).check(), Ok(()));
        let said = |columns: &[_]| shape(columns).check().unwrap_err().to_string();
        assert!(said(&[]).contains("0 columns"));
        assert!(said(&[("a b", ValueType::Text, true)]).contains("\"a b\""));
        assert!(said(&[ID, ("ID", ValueType::Text, false)]).contains("same name"));
        assert!(said(&[("id", ValueType::Json, true)]).contains("is json"));
        assert!(said(&[("a", ValueType::Text, false)]).contains("no key"));
        let mut named = shape(&[ID]);
        named.table = "a.b.c.d".to_owned();
        assert!(named.check().unwrap_err().to_string().contains("a.b.c.d"));
    }

    #[test]
    fn what_does_not_fit_is_named_with_both_sides() {
        let wanted = shape(&[ID, ("name", ValueType::Text, false)]);
        let fits = |columns: &[_]| wanted.fits(&shape(columns)).map_err(|e| e.to_string());
        let extra = ("other", ValueType::Json, false);
        assert_eq!(fits(&[("name", ValueType::Text, false), extra, ID]), Ok(()));
        let said = fits(&[ID, extra]).unwrap_err();
        assert!(
            said.contains("no column \"name\"; it has id, other"),
            "{said}"
        );
        let said = fits(&[ID, ("name", ValueType::Double, false)]).unwrap_err();
        assert!(
            said.contains("of type double, the definition says text"),
            "{said}"
        );
        let mut there = shape(&[ID, ("name", ValueType::Text, false), extra]);
        there.columns[2].foreign = Some("point".to_owned());
        assert_eq!(wanted.fits(&there), Ok(()), "it is left alone");
        there.columns[1].foreign = Some("uuid".to_owned());
        let said = wanted.fits(&there).unwrap_err().to_string();
        assert!(said.contains("of type uuid, which Forebay reads"), "{said}");
        let said = fits(&[
            ("id", ValueType::Integer, false),
            ("name", ValueType::Text, true),
        ])
        .unwrap_err();
        assert!(
            said.contains("has the key (name), the definition says (id)"),
            "{said}"
        );
    }

    #[test]
    fn the_last_row_of_a_key_stays() {
        let shape = shape(&[ID, ("n", ValueType::Integer, false)]);
        let row = |id, n| KeyedRow(vec![CellValue::Integer(id), CellValue::Integer(n)]);
        let last = |rows| shape.last_of_each_key(&rows);
        assert_eq!(last([row(1, 1), row(2, 2), row(1, 3)].into()), [1, 2]);
        assert_eq!(last([row(1, 1), row(1, 2)].into()), [1]);
        assert_eq!(last([row(1, 1), row(2, 2), row(7, 3)].into()), [0, 1, 2]);
    }
}
