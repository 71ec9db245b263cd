//! Mappings: how a sink turns a record into columns.

use serde::{Deserialize, Serialize};

/// The columns of a table row, in order. Between 1 and [`crate::limits::COLUMNS_MAX`] columns with
/// distinct, non-empty names; callers check untrusted mappings with [`Mapping::violations`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping {
    /// In the order of the table's columns.
    pub columns: Vec<MappingColumn>,
}

/// A column of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MappingColumn {
    /// Name in the table.
    pub name: String,
    /// Part of the table's primary key: a later row with the same key replaces the earlier one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary_key: bool,
    /// Source of the cell's text.
    #[serde(flatten)]
    pub kind: ColumnKind,
}

/// Source of a cell's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ColumnKind {
    /// A new UUID, version 7, for each row.
    Uuid,
    /// Time of receipt, UTC, `2006-01-02T15:04:05.000Z`.
    Datetime,
    /// IP address of the client.
    Ip,
    /// The request body, byte for byte.
    Body,
    /// The request headers as a JSON object.
    Headers,
    /// A part of the parsed body.
    Path(PathColumn),
    /// Output of a template.
    Template(TemplateColumn),
    /// A constant text.
    Static {
        /// The cell's text.
        value: String,
    },
}

/// A part of the parsed body, as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathColumn {
    /// Path of the part: `a.b[0]`, with quoted keys `a["b.c"]`, or JSONPath `$.a[*].b`; empty for
    /// the whole body.
    pub path: String,
    /// Text to use when the path matches nothing; without it such a record is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<String>,
    /// Strings without their JSON quotes.
    pub raw_string: bool,
}

/// Misses of a mapping's optional path columns, on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathUse {
    /// Receipt of the first counted record.
    pub since: Option<crate::Timestamp>,
    /// Records whose paths were looked up.
    pub records: u64,
    /// Use of each column.
    pub columns: Vec<PathColumnUse>,
}

/// Misses of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathColumnUse {
    /// Name of the column.
    pub column: String,
    /// Path of the column.
    pub path: String,
    /// Records without a match.
    pub missed: u64,
    /// Whether any record had a match.
    pub found: bool,
}

impl PathUse {
    /// Columns without a match in any record.
    pub fn never_found(&self) -> impl Iterator<Item = &PathColumnUse> {
        self.columns.iter().filter(|c| c.is_never_found())
    }
}

impl PathColumnUse {
    /// Whether the path was looked up and never found.
    pub fn is_never_found(&self) -> bool {
        self.missed > 0 && !self.found
    }
}

/// A column made by a Jsonnet program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateColumn {
    /// The program's text, 1 to [`crate::limits::TEMPLATE_CHARS_MAX`] characters.
    pub content: String,
    /// Strings without their JSON quotes.
    pub raw_string: bool,
}

impl Mapping {
    /// Whether rows made by `other` fit this mapping: as many columns, with equivalent content in
    /// each place. Names, keys and default values may differ.
    pub fn accepts_rows_from(&self, other: &Self) -> bool {
        self.accepts_cells_of(other.columns.iter().map(|c| c.kind.content_id()))
    }

    /// Whether cells of columns with these [`content_id`](ColumnKind::content_id)s fit this mapping.
    pub fn accepts_cells_of(
        &self,
        ids: impl IntoIterator<Item = impl AsRef<str>, IntoIter: ExactSizeIterator>,
    ) -> bool {
        let ids = ids.into_iter();
        ids.len() == self.columns.len()
            && ids
                .zip(&self.columns)
                .all(|(id, column)| id.as_ref() == column.kind.content_id())
    }
}

impl ColumnKind {
    /// Text that is equal for columns with equivalent content. It is stored in dead letters.
    pub fn content_id(&self) -> String {
        let form = |raw_string| if raw_string { "raw" } else { "json" };
        let name = self.type_name();
        match self {
            Self::Path(p) => format!("{name} {} {}", form(p.raw_string), p.path),
            Self::Template(t) => format!("{name} {} {}", form(t.raw_string), t.content),
            Self::Static { value } => format!("{name} {value}"),
            Self::Uuid | Self::Datetime | Self::Ip | Self::Body | Self::Headers => name.to_owned(),
        }
    }

    /// Name in the API and in definition files.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Datetime => "datetime",
            Self::Ip => "ip",
            Self::Body => "body",
            Self::Headers => "headers",
            Self::Path(_) => "path",
            Self::Template(_) => "template",
            Self::Static { .. } => "static",
        }
    }
}

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
        }
        violations
    }

    /// Names of the primary key columns, in order; empty for a table without one.
    pub fn primary_key(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .filter(|c| c.primary_key)
            .map(|c| c.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, default: Option<&str>, raw_string: bool) -> ColumnKind {
        ColumnKind::Path(PathColumn {
            path: path.to_owned(),
            default_value: default.map(str::to_owned),
            raw_string,
        })
    }

    fn mapping(kinds: &[ColumnKind]) -> Mapping {
        let column = |(i, kind): (usize, &ColumnKind)| MappingColumn {
            name: format!("c{i}"),
            primary_key: false,
            kind: kind.clone(),
        };
        Mapping {
            columns: kinds.iter().enumerate().map(column).collect(),
        }
    }

    #[test]
    fn rows_fit_columns_of_equivalent_content() {
        let own = mapping(&[path("a", None, true), ColumnKind::Body]);
        assert!(own.accepts_rows_from(&mapping(&[path("a", Some("x"), true), ColumnKind::Body])));
        let value = |value: &str| ColumnKind::Static {
            value: value.to_owned(),
        };
        for other in [
            &[path("a", None, true)][..],
            &[path("b", None, true), ColumnKind::Body],
            &[path("a", None, false), ColumnKind::Body],
            &[path("a", None, true), value("body")],
            &[ColumnKind::Body, path("a", None, true)],
        ] {
            assert!(!own.accepts_rows_from(&mapping(other)), "{other:?}");
        }
    }
}
