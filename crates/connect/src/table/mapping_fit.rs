//! Compares an existing table with a mapping, and finds missing columns.

use forebay_model::{DataType, Mapping, MappingColumn, TableId};

use crate::table::{InspectionFinding, RowBatch, TableError};

/// A column of an existing table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExistingColumn {
    pub(crate) name: String,
    /// Declared type, for messages.
    pub(crate) type_name: String,
    /// Values that it stores unchanged.
    pub(crate) storage: ColumnStorage,
    /// Rejects null.
    pub(crate) is_not_null: bool,
    /// NOT NULL without a default.
    pub(crate) is_required: bool,
    /// Computed, can't be written.
    pub(crate) is_generated: bool,
    /// Part of the primary key.
    pub(crate) in_key: bool,
}

/// Values that a column stores unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ColumnStorage {
    /// Any text.
    Text,
    /// Values of another type, as Forebay's own columns of that type.
    Typed(DataType),
    /// Numbers of any precision.
    Numeric,
    /// None of Forebay's types.
    #[default]
    Foreign,
}

/// Form in which the cells of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellForm {
    /// Text of a text column.
    Text,
    /// Value of a typed column; an empty cell is null.
    Typed(DataType),
    /// An integer of a column of numbers; an empty cell is null.
    Numeric,
    /// Canonical text of a typed value in a text column; an empty cell is null.
    Canonical,
}

impl CellForm {
    /// Form in a column that Forebay makes.
    pub(crate) fn of(data_type: DataType) -> Self {
        match data_type {
            DataType::Text => Self::Text,
            typed => Self::Typed(typed),
        }
    }
}

impl ColumnStorage {
    /// Form of cells of a type; `None` if some of them would change.
    fn form(self, wanted: DataType) -> Option<CellForm> {
        match (self, wanted) {
            (Self::Text, DataType::Text) => Some(CellForm::Text),
            (Self::Text, _) => Some(CellForm::Canonical),
            (Self::Numeric, DataType::Integer) => Some(CellForm::Numeric),
            (Self::Typed(has), wanted) if has == wanted => Some(CellForm::of(wanted)),
            _ => None,
        }
    }
}

/// Assignment of a mapping to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MappingFit {
    /// Name in the table of each column of the mapping: the case may differ.
    pub(crate) names: Vec<String>,
    /// Form of the cells of each column of the mapping.
    pub(crate) forms: Vec<CellForm>,
    /// Columns that the table lacks, as indices into the mapping.
    pub(crate) missing: Vec<usize>,
}

/// Fits a mapping to the columns of a table.
pub(crate) fn fit(
    table: &TableId,
    mapping: &Mapping,
    columns: &[ExistingColumn],
) -> Result<MappingFit, TableError> {
    let (fit, findings) = try_fit(table, mapping, columns);
    first(findings).map_or(Ok(fit), Err)
}

/// The first finding as an error.
pub(crate) fn first(findings: Vec<InspectionFinding>) -> Option<TableError> {
    let first = findings.into_iter().next();
    first.map(|f| TableError::Terminal(f.message))
}

/// Like [`fit`], with all findings.
pub(crate) fn try_fit(
    table: &TableId,
    mapping: &Mapping,
    columns: &[ExistingColumn],
) -> (MappingFit, Vec<InspectionFinding>) {
    let mut findings: Vec<InspectionFinding> =
        check_key(table, mapping, columns).into_iter().collect();
    let mut fit = MappingFit {
        names: Vec::new(),
        forms: Vec::new(),
        missing: Vec::new(),
    };
    for (i, wanted) in mapping.columns.iter().enumerate() {
        let own_form = CellForm::of(wanted.data_type);
        let Some(column) = find(columns, &wanted.name) else {
            fit.missing.push(i);
            fit.names.push(wanted.name.clone());
            fit.forms.push(own_form);
            continue;
        };
        fit.names.push(column.name.clone());
        let form = column.storage.form(wanted.data_type);
        fit.forms.push(form.unwrap_or(own_form));
        if let Some(problem) = mismatch(column, wanted, form) {
            let message = format!("table \"{table}\": column \"{}\" {problem}", column.name);
            findings.push(InspectionFinding::for_column(i, message));
        }
    }
    let lacking = columns.iter().filter(|c| c.is_required);
    for column in lacking.filter(|c| !fit.names.contains(&c.name)) {
        let message = format!(
            "table \"{table}\": column \"{}\" must have a value (NOT NULL without default) and the mapping has no such column",
            column.name
        );
        findings.push(InspectionFinding::for_table(message));
    }
    (fit, findings)
}

/// Reason for which a column can't hold the cells of a mapping's column.
fn mismatch(
    column: &ExistingColumn,
    wanted: &MappingColumn,
    form: Option<CellForm>,
) -> Option<String> {
    if column.is_generated {
        return Some("is generated and can't be written".to_owned());
    }
    if form.is_none() {
        let (has, writes) = (&column.type_name, wanted.data_type);
        return Some(format!(
            "has type {has}, Forebay writes {writes}: the type of a column never changes, so use another column or table, or another dataType"
        ));
    }
    (column.is_not_null && wanted.may_be_null()).then(|| {
        "is NOT NULL, but a record may have null there: allow null in the column, or use another column or table".to_owned()
    })
}

/// Names in the table of the mapping's key columns.
pub(crate) fn key_names<'a>(mapping: &Mapping, fit: &'a MappingFit) -> Vec<&'a str> {
    let columns = mapping.columns.iter().zip(&fit.names);
    columns
        .filter(|(column, _)| column.primary_key)
        .map(|(_, name)| name.as_str())
        .collect()
}

/// A quoted identifier: the same in both dialects.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted identifiers, comma-separated.
pub(crate) fn quoted<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| quote(n.as_ref())).collect();
    names.join(", ")
}

/// `ON CONFLICT` clause of an upsert: the new row replaces the old one.
pub(crate) fn on_conflict(mapping: &Mapping, fit: &MappingFit) -> String {
    let keys = key_names(mapping, fit);
    let updates: Vec<String> = fit
        .names
        .iter()
        .filter(|name| !keys.contains(&name.as_str()))
        .map(|name| format!("{0} = excluded.{0}", quote(name)))
        .collect();
    let target = quoted(&keys);
    if updates.is_empty() {
        format!("ON CONFLICT ({target}) DO NOTHING")
    } else {
        format!(
            "ON CONFLICT ({target}) DO UPDATE SET {}",
            updates.join(", ")
        )
    }
}

/// Rejects an invalid mapping. The definition should have been validated before.
pub(crate) fn check_mapping(table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
    match mapping.violations().first() {
        None => Ok(()),
        Some(problem) => Err(TableError::Terminal(format!(
            "table \"{table}\": {problem}"
        ))),
    }
}

/// Rejects a batch whose cells would end up in other columns.
pub(crate) fn check_batch(
    table: &TableId,
    mapping: &Mapping,
    batch: &RowBatch,
) -> Result<(), TableError> {
    let wanted = mapping.columns.len();
    if batch.columns() == wanted && !batch.has_partial_row() {
        return Ok(());
    }
    Err(TableError::Terminal(format!(
        "table \"{table}\": the rows have {} cells, the mapping has {wanted} columns",
        batch.columns()
    )))
}

/// A cell that is not as Forebay writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DamagedCell {
    /// Index of the column in the mapping.
    pub(crate) column: usize,
    /// Text of the cell, shortened.
    pub(crate) text: String,
}

impl DamagedCell {
    pub(crate) fn new(column: usize, cell: &[u8]) -> Self {
        let text = forebay_model::words::short(&String::from_utf8_lossy(cell));
        Self { column, text }
    }

    /// Values were checked before they were accepted, so another value was not sent by a client.
    pub(crate) fn error(&self, table: &TableId, mapping: &Mapping) -> TableError {
        let column = mapping.columns.get(self.column);
        let name = column.map_or("", |c| c.name.as_str());
        let data_type = column.map_or("", |c| c.data_type.with_article());
        TableError::Terminal(format!(
            "table \"{table}\": a cell of column \"{name}\" is \"{}\", not {data_type}: the rows are not as they were accepted",
            self.text
        ))
    }
}

fn check_key(
    table: &TableId,
    mapping: &Mapping,
    columns: &[ExistingColumn],
) -> Option<InspectionFinding> {
    let has: Vec<&str> = columns
        .iter()
        .filter(|c| c.in_key)
        .map(|c| c.name.as_str())
        .collect();
    let wanted: Vec<&str> = mapping.primary_key().collect();
    // The order doesn't matter to an upsert.
    let fits = has.len() == wanted.len()
        && wanted
            .iter()
            .all(|w| has.iter().any(|h| h.eq_ignore_ascii_case(w)));
    if fits {
        return None;
    }
    let list = |names: &[&str]| match names {
        [] => "no primary key".to_owned(),
        names => format!("the primary key ({})", quoted(names)),
    };
    Some(InspectionFinding::for_table(format!(
        "table \"{table}\" has {}, the mapping has {}: change one of them or use another table",
        list(&has),
        list(&wanted)
    )))
}

fn find<'a>(columns: &'a [ExistingColumn], name: &str) -> Option<&'a ExistingColumn> {
    let exact = columns.iter().find(|c| c.name == name);
    exact.or_else(|| columns.iter().find(|c| c.name.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_model::{ColumnKind, MappingColumn as Wanted};

    fn mapping(columns: &[(&str, bool)]) -> Mapping {
        let column = |&(name, primary_key): &(&str, bool)| Wanted {
            primary_key,
            ..Wanted::new(name, ColumnKind::Body)
        };
        Mapping {
            columns: columns.iter().map(column).collect(),
        }
    }

    fn text(name: &str) -> ExistingColumn {
        ExistingColumn {
            name: name.to_owned(),
            type_name: "text".to_owned(),
            storage: ColumnStorage::Text,
            ..ExistingColumn::default()
        }
    }

    fn fitted(mapping: &Mapping, columns: &[ExistingColumn]) -> Result<MappingFit, String> {
        let table = "in.c-b.t".parse().unwrap();
        fit(&table, mapping, columns).map_err(|e| {
            assert!(!e.is_retryable());
            e.to_string()
        })
    }

    #[test]
    fn names_match_in_any_case_and_missing_columns_are_found() {
        let fit = fitted(
            &mapping(&[("A", false), ("b", false), ("c", false)]),
            &[text("a"), text("A"), text("B"), text("other")],
        );
        assert_eq!(
            fit.unwrap(),
            MappingFit {
                names: vec!["A".into(), "B".into(), "c".into()],
                forms: vec![CellForm::Text; 3],
                missing: vec![2]
            }
        );
    }

    #[test]
    fn mismatches_are_reported() {
        let plain = mapping(&[("a", false)]);
        let number = ExistingColumn {
            storage: ColumnStorage::Typed(DataType::Integer),
            type_name: "integer".into(),
            ..text("a")
        };
        assert!(
            fitted(&plain, &[number])
                .unwrap_err()
                .contains("has type integer")
        );
        let generated = ExistingColumn {
            is_generated: true,
            ..text("a")
        };
        assert!(
            fitted(&plain, &[generated])
                .unwrap_err()
                .contains("is generated")
        );
        let required = ExistingColumn {
            is_required: true,
            ..text("x")
        };
        assert!(
            fitted(&plain, &[text("a"), required])
                .unwrap_err()
                .contains("\"x\" must have")
        );
        let key = ExistingColumn {
            in_key: true,
            ..text("a")
        };
        let error = fitted(&plain, std::slice::from_ref(&key)).unwrap_err();
        assert!(error.contains("has the primary key (\"a\"), the mapping has no primary key"));
        let keyed = mapping(&[("A", true), ("b", true)]);
        assert!(fitted(&keyed, &[key, text("b")]).is_err());
        assert!(fitted(&keyed, &[text("a"), text("b")]).is_err());
    }

    #[test]
    fn types_fit_columns_that_store_all_their_values() {
        use ColumnStorage::{Foreign, Numeric, Text, Typed};
        for wanted in DataType::ALL {
            for has in DataType::ALL {
                let form = Typed(has).form(wanted);
                assert_eq!(form.is_some(), has == wanted, "{has} {wanted}");
            }
            let in_text = if wanted.is_text() {
                CellForm::Text
            } else {
                CellForm::Canonical
            };
            assert_eq!(Text.form(wanted), Some(in_text));
            let is_integer = wanted == DataType::Integer;
            assert_eq!(Numeric.form(wanted).is_some(), is_integer);
            assert_eq!(Foreign.form(wanted), None);
        }
    }

    #[test]
    fn null_needs_a_column_that_allows_it() {
        let mut typed = mapping(&[("a", false)]);
        typed.columns[0].data_type = DataType::Json;
        let not_null = ExistingColumn {
            is_not_null: true,
            ..text("a")
        };
        let error = fitted(&typed, std::slice::from_ref(&not_null)).unwrap_err();
        assert!(error.contains("\"a\" is NOT NULL"), "{error}");
        assert!(fitted(&mapping(&[("a", false)]), &[not_null]).is_ok());
    }

    #[test]
    fn upserts_update_columns_outside_the_key() {
        let columns = [
            ExistingColumn {
                in_key: true,
                ..text("k\"")
            },
            text("v"),
        ];
        let both = mapping(&[("K\"", true), ("v", false)]);
        let fit = fitted(&both, &columns).unwrap();
        assert_eq!(
            on_conflict(&both, &fit),
            r#"ON CONFLICT ("k""") DO UPDATE SET "v" = excluded."v""#
        );
        let only = mapping(&[("k\"", true)]);
        let fit = fitted(&only, &columns).unwrap();
        assert_eq!(
            on_conflict(&only, &fit),
            r#"ON CONFLICT ("k""") DO NOTHING"#
        );
    }
}
