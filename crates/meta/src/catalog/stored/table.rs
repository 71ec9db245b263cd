//! Tables and their columns, in sinks and files.

use forebay_model::{
    ColumnKind, Mapping, MappingColumn, PathColumn, TableBackend, TableSink, TemplateColumn,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableForm {
    pub backend: String,
    pub table: String,
    pub columns: Vec<ColumnForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnForm {
    pub name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary_key: bool,
    #[serde(flatten)]
    pub kind: ColumnKindForm,
}

impl From<&MappingColumn> for ColumnForm {
    fn from(column: &MappingColumn) -> Self {
        Self {
            name: column.name.clone(),
            primary_key: column.primary_key,
            kind: (&column.kind).into(),
        }
    }
}

impl From<ColumnForm> for MappingColumn {
    fn from(form: ColumnForm) -> Self {
        Self {
            name: form.name,
            primary_key: form.primary_key,
            kind: form.kind.into(),
        }
    }
}

/// Source of a cell.
#[derive(Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ColumnKindForm {
    Uuid,
    Datetime,
    Ip,
    Body,
    Headers,
    Path {
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_value: Option<String>,
        raw_string: bool,
    },
    Template {
        content: String,
        raw_string: bool,
    },
    Static {
        value: String,
    },
}

impl From<&TableSink> for TableForm {
    fn from(sink: &TableSink) -> Self {
        Self {
            backend: sink.backend.name().to_owned(),
            table: sink.table.to_string(),
            columns: sink.mapping.columns.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<TableForm> for TableSink {
    type Error = String;

    fn try_from(form: TableForm) -> Result<Self, String> {
        Ok(Self {
            backend: TableBackend::from_name(&form.backend)
                .ok_or_else(|| format!("unknown table backend \"{}\"", form.backend))?,
            table: form.table.parse().map_err(|e| format!("{e}"))?,
            mapping: Mapping {
                columns: form.columns.into_iter().map(Into::into).collect(),
            },
        })
    }
}

impl From<&ColumnKind> for ColumnKindForm {
    fn from(kind: &ColumnKind) -> Self {
        match kind {
            ColumnKind::Uuid => Self::Uuid,
            ColumnKind::Datetime => Self::Datetime,
            ColumnKind::Ip => Self::Ip,
            ColumnKind::Body => Self::Body,
            ColumnKind::Headers => Self::Headers,
            ColumnKind::Path(p) => Self::Path {
                path: p.path.clone(),
                default_value: p.default_value.clone(),
                raw_string: p.raw_string,
            },
            ColumnKind::Template(t) => Self::Template {
                content: t.content.clone(),
                raw_string: t.raw_string,
            },
            ColumnKind::Static { value } => Self::Static {
                value: value.clone(),
            },
        }
    }
}

impl From<ColumnKindForm> for ColumnKind {
    fn from(form: ColumnKindForm) -> Self {
        match form {
            ColumnKindForm::Uuid => Self::Uuid,
            ColumnKindForm::Datetime => Self::Datetime,
            ColumnKindForm::Ip => Self::Ip,
            ColumnKindForm::Body => Self::Body,
            ColumnKindForm::Headers => Self::Headers,
            ColumnKindForm::Path {
                path,
                default_value,
                raw_string,
            } => Self::Path(PathColumn {
                path,
                default_value,
                raw_string,
            }),
            ColumnKindForm::Template {
                content,
                raw_string,
            } => Self::Template(TemplateColumn {
                content,
                raw_string,
            }),
            ColumnKindForm::Static { value } => Self::Static { value },
        }
    }
}
