//! Mappings: how a sink turns a record into columns.

use serde::{Deserialize, Serialize};

use crate::data_type::{CellConversion, DataType};
use crate::micros::EpochUnit;

mod violation;

pub use violation::MappingViolation;

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
    /// Type of the cells.
    #[serde(default, skip_serializing_if = "DataType::is_text")]
    pub data_type: DataType,
    /// Unit of times that are numbers; only for timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<EpochUnit>,
    /// Source of the cell.
    #[serde(flatten)]
    pub kind: ColumnKind,
}

/// Source of a cell.
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
        self.accepts_cells_of(other.columns.iter().map(MappingColumn::content_id))
    }

    /// Whether cells of columns with these [`content_id`](MappingColumn::content_id)s fit this mapping.
    pub fn accepts_cells_of(
        &self,
        ids: impl IntoIterator<Item = impl AsRef<str>, IntoIter: ExactSizeIterator>,
    ) -> bool {
        let ids = ids.into_iter();
        ids.len() == self.columns.len()
            && ids
                .zip(&self.columns)
                .all(|(id, column)| id.as_ref() == column.content_id())
    }
}

impl MappingColumn {
    /// A text column that is not part of the key.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        Self {
            name: name.into(),
            primary_key: false,
            data_type: DataType::default(),
            unit: None,
            kind,
        }
    }

    /// Text that is equal for columns with equivalent content. It is stored in dead letters.
    pub fn content_id(&self) -> String {
        let content = self.kind.content_id();
        match (self.data_type, self.unit) {
            (DataType::Text, _) => content,
            (data_type, None) => format!("{data_type} {content}"),
            (data_type, Some(unit)) => format!("{data_type} {} {content}", unit.name()),
        }
    }

    /// Conversion of values to cells.
    pub fn conversion(&self) -> CellConversion {
        CellConversion {
            data_type: self.data_type,
            unit: self.unit,
            is_key: self.primary_key,
        }
    }

    /// Whether a record can have null there. A text is never null.
    pub fn may_be_null(&self) -> bool {
        if self.data_type.is_text() || self.primary_key {
            return false;
        }
        match &self.kind {
            ColumnKind::Path(_) | ColumnKind::Template(_) | ColumnKind::Body => true,
            ColumnKind::Static { value } => value.is_empty() || value == "null",
            ColumnKind::Uuid | ColumnKind::Datetime | ColumnKind::Ip | ColumnKind::Headers => false,
        }
    }
}

impl ColumnKind {
    /// Types that its cells can have.
    pub fn data_types(&self) -> &'static [DataType] {
        match self {
            Self::Path(_) | Self::Template(_) | Self::Static { .. } => &DataType::ALL,
            Self::Body | Self::Headers => &[DataType::Text, DataType::Json],
            Self::Datetime => &[DataType::Text, DataType::Timestamp],
            Self::Uuid | Self::Ip => &[DataType::Text],
        }
    }

    /// Text that is equal for sources with equivalent content.
    fn content_id(&self) -> String {
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

impl Mapping {
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
        let column =
            |(i, kind): (usize, &ColumnKind)| MappingColumn::new(format!("c{i}"), kind.clone());
        Mapping {
            columns: kinds.iter().enumerate().map(column).collect(),
        }
    }

    fn typed(data_type: DataType, kind: ColumnKind) -> MappingColumn {
        MappingColumn {
            data_type,
            ..MappingColumn::new("c", kind)
        }
    }

    #[test]
    fn a_text_column_has_its_former_form() {
        let column = MappingColumn::new("c", path("a", None, true));
        let stored = r#"{"name":"c","type":"path","path":"a","rawString":true}"#;
        assert_eq!(serde_json::to_string(&column).unwrap(), stored);
        assert_eq!(
            serde_json::from_str::<MappingColumn>(stored).unwrap(),
            column
        );
        assert_eq!(column.content_id(), "path raw a");
        let typed = MappingColumn {
            unit: Some(EpochUnit::Ms),
            ..typed(DataType::Timestamp, path("a", None, true))
        };
        assert_eq!(typed.content_id(), "timestamp ms path raw a");
        let stored = serde_json::to_string(&typed).unwrap();
        assert!(
            stored.contains(r#""dataType":"timestamp","unit":"ms""#),
            "{stored}"
        );
        assert_eq!(
            serde_json::from_str::<MappingColumn>(&stored).unwrap(),
            typed
        );
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
