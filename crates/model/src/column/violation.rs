//! Rules of mappings, apart from those that only compiling finds.

use super::{ColumnKind, Mapping, MappingColumn};
use crate::data_type::{DataType, InvalidValue};

/// A violation of a mapping's rules, apart from those that only compiling its templates can find.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingViolation {
    /// No column, or too many.
    #[error("the mapping has {0} columns, allowed are 1 to {max}", max = crate::limits::COLUMNS_MAX)]
    ColumnCount(usize),
    /// A column without a name.
    #[error("column {0} has an empty name")]
    EmptyName(usize),
    /// Two columns with one name; tables fold ASCII case, so `ID` and `id` are the same.
    #[error("column name \"{0}\" is used more than once (upper and lower case count as the same)")]
    DuplicateName(String),
    /// A name with a NUL, which no table accepts.
    #[error("column name \"{0}\" has a NUL character")]
    NulInName(String),
    /// A source whose cells can't have the type.
    #[error("column \"{column}\" of type {kind} has dataType {data_type}, allowed are {}", names(.allowed))]
    DataType {
        /// Name of the column.
        column: String,
        /// Type of the column's source.
        kind: &'static str,
        /// Type of its cells.
        data_type: DataType,
        /// Types that its cells can have.
        allowed: &'static [DataType],
    },
    /// A unit of a column that is no timestamp.
    #[error("column \"{0}\" has a unit, which only dataType timestamp has")]
    Unit(String),
    /// A key whose equality differs between tables.
    #[error(
        "column \"{0}\" has dataType {1}, a primary key can't: allowed are text, integer, boolean and timestamp"
    )]
    KeyType(String, DataType),
    /// A constant or default that is not of the column's type.
    #[error(
        "column \"{column}\" has dataType {data_type} and {field} \"{value}\", allowed is {allowed}"
    )]
    Constant {
        /// Name of the column.
        column: String,
        /// Field of the column.
        field: &'static str,
        /// The constant or default, shortened.
        value: String,
        /// Type of the column.
        data_type: DataType,
        /// Rule of the type.
        allowed: InvalidValue,
    },
}

fn names(types: &[DataType]) -> String {
    let names: Vec<&str> = types.iter().map(|t| t.name()).collect();
    names.join(", ")
}

impl MappingViolation {
    /// Name of the column and field that have to change, if it is one.
    pub fn field(&self) -> Option<(&str, &'static str)> {
        match self {
            Self::ColumnCount(_) | Self::EmptyName(_) => None,
            Self::DuplicateName(name) | Self::NulInName(name) => Some((name, "name")),
            Self::DataType { column, .. } | Self::KeyType(column, _) => Some((column, "dataType")),
            Self::Unit(column) => Some((column, "unit")),
            Self::Constant { column, field, .. } => Some((column, field)),
        }
    }
}

impl Mapping {
    /// All violations of the mapping; empty when it is valid.
    #[must_use]
    pub fn violations(&self) -> Vec<MappingViolation> {
        let mut violations = Vec::new();
        let count = self.columns.len();
        if !(1..=crate::limits::COLUMNS_MAX).contains(&count) {
            violations.push(MappingViolation::ColumnCount(count));
        }
        let mut seen = std::collections::HashMap::new();
        for (i, column) in self.columns.iter().enumerate() {
            if column.name.is_empty() {
                violations.push(MappingViolation::EmptyName(i + 1));
                continue;
            }
            if column.name.contains('\0') {
                violations.push(MappingViolation::NulInName(
                    column.name.replace('\0', "\\0"),
                ));
            }
            let times = seen.entry(column.name.to_ascii_lowercase()).or_insert(0);
            *times += 1;
            if *times == 2 {
                violations.push(MappingViolation::DuplicateName(column.name.clone()));
            }
            violations.extend(column.type_violations());
        }
        violations
    }
}

impl MappingColumn {
    /// Violations of the rules of types.
    fn type_violations(&self) -> Vec<MappingViolation> {
        let (column, data_type) = (|| self.name.clone(), self.data_type);
        let mut violations = Vec::new();
        if self.unit.is_some() && data_type != DataType::Timestamp {
            violations.push(MappingViolation::Unit(column()));
        }
        let allowed = self.kind.data_types();
        if !allowed.contains(&data_type) {
            violations.push(MappingViolation::DataType {
                column: column(),
                kind: self.kind.type_name(),
                data_type,
                allowed,
            });
            return violations;
        }
        if self.primary_key && !data_type.fits_key() {
            violations.push(MappingViolation::KeyType(column(), data_type));
            return violations;
        }
        let constant = match &self.kind {
            ColumnKind::Static { value } => Some(("value", value)),
            ColumnKind::Path(path) => path.default_value.as_ref().map(|v| ("defaultValue", v)),
            _ => None,
        };
        if let Some((field, value)) = constant
            && let Err(allowed) = self.conversion().check_constant(value)
        {
            violations.push(MappingViolation::Constant {
                column: column(),
                field,
                value: crate::words::short(value),
                data_type,
                allowed,
            });
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::{PathColumn, TemplateColumn};
    use crate::micros::EpochUnit;

    fn path(path: &str, default: Option<&str>, raw_string: bool) -> ColumnKind {
        ColumnKind::Path(PathColumn {
            path: path.to_owned(),
            default_value: default.map(str::to_owned),
            raw_string,
        })
    }

    fn typed(data_type: DataType, kind: ColumnKind) -> MappingColumn {
        MappingColumn {
            data_type,
            ..MappingColumn::new("c", kind)
        }
    }

    fn violations(column: MappingColumn) -> String {
        let mapping = Mapping {
            columns: vec![column],
        };
        let texts = mapping.violations().into_iter().map(|v| v.to_string());
        texts.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn types_are_those_of_the_source() {
        let value = |value: &str| ColumnKind::Static {
            value: value.to_owned(),
        };
        let program = ColumnKind::Template(TemplateColumn::default());
        for data_type in DataType::ALL {
            assert_eq!(violations(typed(data_type, path("a", None, true))), "");
            assert_eq!(violations(typed(data_type, program.clone())), "");
        }
        for (data_type, kind, said) in [
            (
                DataType::Integer,
                ColumnKind::Uuid,
                "of type uuid has dataType integer, allowed are text",
            ),
            (DataType::Timestamp, ColumnKind::Ip, "allowed are text"),
            (
                DataType::Integer,
                ColumnKind::Datetime,
                "allowed are text, timestamp",
            ),
            (DataType::Double, ColumnKind::Body, "allowed are text, json"),
            (
                DataType::Boolean,
                ColumnKind::Headers,
                "allowed are text, json",
            ),
            (
                DataType::Integer,
                value("7.5"),
                "value \"7.5\", allowed is a whole number",
            ),
            (DataType::Json, value("a"), "value \"a\", allowed is JSON"),
            (
                DataType::Integer,
                path("a", Some("none"), true),
                "defaultValue \"none\"",
            ),
            (DataType::Json, ColumnKind::Body, ""),
            (DataType::Timestamp, ColumnKind::Datetime, ""),
            (DataType::Integer, value("1e3"), ""),
            (DataType::Integer, path("a", Some(""), true), ""),
        ] {
            let found = violations(typed(data_type, kind));
            assert!(
                found.contains(said) && found.is_empty() == said.is_empty(),
                "{found}"
            );
        }
        let unit = MappingColumn {
            unit: Some(EpochUnit::Ms),
            ..typed(DataType::Integer, path("a", None, true))
        };
        assert!(violations(unit).contains("has a unit"));
    }

    #[test]
    fn keys_have_types_of_certain_equality_and_are_never_null() {
        let key = |data_type, default| MappingColumn {
            primary_key: true,
            ..typed(data_type, path("a", default, true))
        };
        for data_type in DataType::ALL {
            let found = violations(key(data_type, None));
            assert_eq!(found.is_empty(), data_type.fits_key(), "{found}");
        }
        assert_eq!(violations(key(DataType::Text, Some(""))), "");
        let found = violations(key(DataType::Integer, Some("")));
        assert!(
            found.contains("since the column is part of the primary key"),
            "{found}"
        );
        assert!(!key(DataType::Integer, None).may_be_null());
        assert!(typed(DataType::Integer, path("a", None, true)).may_be_null());
        assert!(!typed(DataType::Timestamp, ColumnKind::Datetime).may_be_null());
    }
}
