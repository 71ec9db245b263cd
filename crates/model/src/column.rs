//! What a table sink makes of a record: one column each.

/// The cells of one table row, in order. Between 1 and [`crate::limits::COLUMNS_MAX`] columns with
/// distinct, non-empty names; whoever takes a mapping from outside checks that with
/// [`Mapping::violations`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// In the order of the table's columns.
    pub columns: Vec<MappingColumn>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingColumn {
    /// Name in the table.
    pub name: String,
    /// Part of the table's primary key: a later row with the same key replaces the earlier one.
    pub primary_key: bool,
    /// Where the cell's text comes from.
    pub kind: ColumnKind,
}

/// Where a cell's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A new UUID, version 7, for each row.
    Uuid,
    /// Time of receipt, UTC, `2006-01-02T15:04:05.000Z`.
    Datetime,
    /// IP address of the client.
    Ip,
    /// The request's body, byte for byte.
    Body,
    /// The request's headers as a JSON object.
    Headers,
    /// A part of the parsed body.
    Path(PathColumn),
    /// What a program makes of the record.
    Template(TemplateColumn),
    /// Always the same text.
    Static {
        /// The cell's text.
        value: String,
    },
}

/// A part of the parsed body, as JSON text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathColumn {
    /// Where the part is: `a.b[0]`, with quoted keys `a["b.c"]`, or JSONPath `$.a[*].b`; empty for
    /// the whole body.
    pub path: String,
    /// Text to take when the body has nothing there; without it such a record is refused.
    pub default_value: Option<String>,
    /// Strings without their JSON quotes.
    pub raw_string: bool,
}

/// How often the path columns of a mapping that need not be found were not, on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathUse {
    /// When the first of the records came; nothing before there is one.
    pub since: Option<crate::Timestamp>,
    /// Records whose paths were looked up.
    pub records: u64,
    /// The columns.
    pub columns: Vec<PathColumnUse>,
}

/// The same of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathColumnUse {
    /// Name of the column.
    pub column: String,
    /// Path of the column.
    pub path: String,
    /// Records in which nothing was found there.
    pub missed: u64,
    /// Whether some record had it.
    pub found: bool,
}

impl PathUse {
    /// Columns that no record had.
    pub fn never_found(&self) -> impl Iterator<Item = &PathColumnUse> {
        self.columns.iter().filter(|c| c.is_never_found())
    }
}

impl PathColumnUse {
    /// Whether it was looked for, and no record had it.
    #[must_use]
    pub fn is_never_found(&self) -> bool {
        self.missed > 0 && !self.found
    }
}

/// A Jsonnet program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateColumn {
    /// The program's text, 1 to [`crate::limits::TEMPLATE_CHARS_MAX`] characters.
    pub content: String,
    /// Strings without their JSON quotes.
    pub raw_string: bool,
}

impl Mapping {
    /// Whether rows that were made by `other` are rows of this one: as many columns, and in each
    /// place the same thing. Names and keys may be others, and what stands in for a missing value.
    #[must_use]
    pub fn accepts_rows_from(&self, other: &Self) -> bool {
        let pairs = self.columns.iter().zip(&other.columns);
        self.columns.len() == other.columns.len()
            && pairs
                .into_iter()
                .all(|(a, b)| a.kind.is_equivalent(&b.kind))
    }
}

impl ColumnKind {
    fn is_equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a.path == b.path && a.raw_string == b.raw_string,
            (a, b) => a == b,
        }
    }

    /// Its name in the API and in definition files.
    #[must_use]
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

/// What is wrong with a mapping, apart from what only compiling its templates can show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingViolation {
    /// No column, or too many.
    #[error("the mapping has {0} columns, allowed are 1 to {max}", max = crate::limits::COLUMNS_MAX)]
    ColumnCount(usize),
    /// A column without a name.
    #[error("column {0} has an empty name")]
    EmptyName(usize),
    /// Two columns with one name; tables fold ASCII case, so `ID` and `id` are one.
    #[error("column name \"{0}\" is used more than once (upper and lower case count as the same)")]
    DuplicateName(String),
    /// A name with a NUL, which no table can take.
    #[error("column name \"{0}\" has a NUL character")]
    NulInName(String),
}

impl Mapping {
    /// Everything that is wrong with the mapping's shape; empty when nothing is.
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

    /// Names of the primary key's columns, in order; empty for a table without one.
    pub fn primary_key(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .filter(|c| c.primary_key)
            .map(|c| c.name.as_str())
    }
}
