//! Converts mappings between the API and the model, and validates them.

use forebay_model::{
    ColumnKind, InvalidTableId, Mapping, MappingViolation, PathColumn, TableBackend, TableId,
    TemplateColumn,
};

use super::ApiState;
use super::error::{ApiError, bullets};
use super::types::sink::{
    ColumnRequest, ColumnTemplate, ColumnType, ColumnView, MappingRequest, MappingView, TableType,
    TemplateLanguage,
};
use super::types::topic::MessagePartView;

/// Parses a table id.
pub(super) fn table_id(text: &str) -> Result<TableId, ApiError> {
    text.parse().map_err(|e: InvalidTableId| {
        ApiError::bad_request(format!("invalid \"tableId\" value \"{text}\": {e}"))
    })
}

/// The table backend of a type, if configured.
pub(super) fn backend(api: &ApiState, kind: TableType) -> Result<TableBackend, ApiError> {
    let backend = TableBackend::from(kind);
    if backend != TableBackend::Keboola && !api.backends.contains(&backend) {
        let name = backend.name();
        return Err(ApiError::bad_request(format!(
            "table type \"{name}\" is not configured on this server"
        )));
    }
    Ok(backend)
}

/// Violation of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnViolation {
    /// Index of the column; `None` for the mapping as a whole.
    pub(super) column: Option<usize>,
    pub(super) message: String,
}

/// Converts a mapping, or returns all violations as one error.
pub(super) async fn mapping(api: &ApiState, request: MappingRequest) -> Result<Mapping, ApiError> {
    check_mapping(api, request).await?.map_err(|violations| {
        let texts: Vec<String> = violations.into_iter().map(|p| p.message).collect();
        ApiError::bad_request(bullets(&texts))
    })
}

/// Converts a mapping, or returns all violations with their columns.
pub(super) async fn check_mapping(
    api: &ApiState,
    request: MappingRequest,
) -> Result<Result<Mapping, Vec<ColumnViolation>>, ApiError> {
    let mut violations = Vec::new();
    let mut columns = Vec::with_capacity(request.columns.len());
    for (i, column) in request.columns.into_iter().enumerate() {
        match model_column(column, api.config.raw_string) {
            Ok(column) => columns.push(column),
            Err(message) => violations.push(ColumnViolation {
                column: Some(i),
                message,
            }),
        }
    }
    let mapping = Mapping { columns };
    if violations.is_empty() {
        let found = mapping.violations();
        violations.extend(found.iter().map(|p| shape_violation(&mapping, p)));
    }
    if violations.is_empty() {
        violations = compile(api, &mapping).await?;
    }
    Ok(if violations.is_empty() {
        Ok(mapping)
    } else {
        Err(violations)
    })
}

fn shape_violation(mapping: &Mapping, problem: &MappingViolation) -> ColumnViolation {
    // Of two columns with one name the later has to change.
    let last = |name: &str| {
        let mut columns = mapping.columns.iter();
        columns.rposition(|c| c.name.eq_ignore_ascii_case(name))
    };
    ColumnViolation {
        column: match problem {
            MappingViolation::ColumnCount(_) => None,
            MappingViolation::EmptyName(number) => number.checked_sub(1),
            MappingViolation::DuplicateName(name) => last(name),
            MappingViolation::NulInName(name) => last(&name.replace("\\0", "\0")),
        },
        message: problem.to_string(),
    }
}

/// Compiles the mapping on a thread where blocking is allowed.
pub(super) async fn compile(
    api: &ApiState,
    mapping: &Mapping,
) -> Result<Vec<ColumnViolation>, ApiError> {
    let mapper = api.mapper.clone();
    let compiled = mapping.clone();
    let found = tokio::task::spawn_blocking(move || mapper.check(&compiled)).await;
    let found = found.map_err(ApiError::internal)?;
    let violation = |problem: super::mapper::ColumnProblem| {
        let column = mapping
            .columns
            .iter()
            .position(|c| c.name == problem.column);
        let kind = column.and_then(|i| mapping.columns.get(i));
        let kind = kind.map_or("template", |c| c.kind.type_name());
        ColumnViolation {
            column,
            message: format!(
                "column \"{}\" {kind} is invalid: {}",
                problem.column, problem.message
            ),
        }
    };
    Ok(found.into_iter().map(violation).collect())
}

/// Converts a column. `is_raw` is the default of `rawString`.
pub(super) fn model_column(
    request: ColumnRequest,
    is_raw: bool,
) -> Result<forebay_model::MappingColumn, String> {
    let name = request.name;
    let lacks = |what: &str| format!("column \"{name}\" is missing {what}");
    let raw_string = request.raw_string.unwrap_or(is_raw);
    let kind = match request.r#type {
        ColumnType::Uuid => ColumnKind::Uuid,
        ColumnType::Datetime => ColumnKind::Datetime,
        ColumnType::Ip => ColumnKind::Ip,
        ColumnType::Body => ColumnKind::Body,
        ColumnType::Headers => ColumnKind::Headers,
        ColumnType::Path => ColumnKind::Path(PathColumn {
            path: request.path.ok_or_else(|| lacks("path"))?,
            default_value: request.default_value,
            raw_string,
        }),
        ColumnType::Template => ColumnKind::Template(TemplateColumn {
            content: request.template.ok_or_else(|| lacks("template"))?.content,
            raw_string,
        }),
        ColumnType::Static => ColumnKind::Static {
            value: request.value.ok_or_else(|| lacks("value"))?,
        },
    };
    Ok(forebay_model::MappingColumn {
        name,
        primary_key: request.primary_key.unwrap_or_default(),
        kind,
    })
}

impl From<&Mapping> for MappingView {
    fn from(mapping: &Mapping) -> Self {
        Self {
            columns: mapping.columns.iter().map(view).collect(),
        }
    }
}

/// The API form of a column: the fields of its type, and the primary key if set.
pub(super) fn view(column: &forebay_model::MappingColumn) -> ColumnView {
    let mut view = ColumnView {
        r#type: column_type(&column.kind),
        name: column.name.clone(),
        path: None,
        default_value: None,
        raw_string: None,
        template: None,
        value: None,
        primary_key: column.primary_key.then_some(true),
    };
    match &column.kind {
        ColumnKind::Path(path) => {
            view.path = Some(path.path.clone());
            view.default_value.clone_from(&path.default_value);
            view.raw_string = Some(path.raw_string);
        }
        ColumnKind::Template(template) => {
            view.raw_string = Some(template.raw_string);
            view.template = Some(ColumnTemplate {
                language: TemplateLanguage::Jsonnet,
                content: template.content.clone(),
            });
        }
        ColumnKind::Static { value } => view.value = Some(value.clone()),
        ColumnKind::Uuid
        | ColumnKind::Datetime
        | ColumnKind::Ip
        | ColumnKind::Body
        | ColumnKind::Headers => {}
    }
    view
}

/// The API form of a message part: a column without a name.
pub(super) fn part_view(kind: &ColumnKind) -> MessagePartView {
    let column = view(&forebay_model::MappingColumn {
        name: String::new(),
        primary_key: false,
        kind: kind.clone(),
    });
    MessagePartView {
        r#type: column.r#type,
        path: column.path,
        default_value: column.default_value,
        raw_string: column.raw_string,
        template: column.template,
        value: column.value,
    }
}

fn column_type(kind: &ColumnKind) -> ColumnType {
    match kind {
        ColumnKind::Uuid => ColumnType::Uuid,
        ColumnKind::Datetime => ColumnType::Datetime,
        ColumnKind::Ip => ColumnType::Ip,
        ColumnKind::Body => ColumnType::Body,
        ColumnKind::Headers => ColumnType::Headers,
        ColumnKind::Path(_) => ColumnType::Path,
        ColumnKind::Template(_) => ColumnType::Template,
        ColumnKind::Static { .. } => ColumnType::Static,
    }
}
