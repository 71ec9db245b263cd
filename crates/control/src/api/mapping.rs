//! Converts mappings between the API and the model, and validates them.

use forebay_model::limits::MAPPING_BYTES_MAX;
use forebay_model::{
    ColumnKind, InvalidTableId, Mapping, MappingViolation, PathColumn, TableBackend, TableId,
    TemplateColumn,
};

use super::ApiState;
use super::error::{ApiError, FieldFinding};
use forebay_api::mapping::{ColumnRequest, ColumnType, MappingRequest};
use forebay_api::sink::TableType;

/// Parses a table id.
pub(super) fn table_id(text: &str) -> Result<TableId, ApiError> {
    text.parse().map_err(|e: InvalidTableId| {
        let message = format!("invalid \"tableId\" value \"{text}\": {e}");
        ApiError::bad_request(message).at("table.tableId")
    })
}

/// The table backend of a type, if configured.
pub(super) fn backend(api: &ApiState, kind: TableType) -> Result<TableBackend, ApiError> {
    let backend = TableBackend::from(kind);
    if backend != TableBackend::Keboola && !api.backends.contains(&backend) {
        let name = backend.name();
        return Err(ApiError::bad_request(format!(
            "table type \"{name}\" is not configured on this server"
        ))
        .at("table.type"));
    }
    Ok(backend)
}

/// Violation of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnViolation {
    /// Index of the column; `None` for the mapping as a whole.
    pub(super) column: Option<usize>,
    /// Field of the column.
    pub(super) field: Option<&'static str>,
    pub(super) message: String,
}

impl ColumnViolation {
    /// The same as a violation of a request to create or change a sink.
    fn finding(self) -> FieldFinding {
        let column = self.column.map(|i| format!("table.mapping.columns[{i}]"));
        let field = match (column, self.field) {
            (Some(column), Some(field)) => format!("{column}.{field}"),
            (Some(column), None) => column,
            (None, _) => "table.mapping.columns".to_owned(),
        };
        FieldFinding {
            field: Some(field),
            message: self.message,
        }
    }
}

/// Converts a mapping, or returns all violations as one error.
pub(super) async fn mapping(api: &ApiState, request: MappingRequest) -> Result<Mapping, ApiError> {
    check_mapping(api, request).await?.map_err(|violations| {
        let findings = violations.into_iter().map(ColumnViolation::finding);
        ApiError::from_findings(findings.collect())
    })
}

/// Converts a mapping, or returns all violations with their columns.
pub(super) async fn check_mapping(
    api: &ApiState,
    request: MappingRequest,
) -> Result<Result<Mapping, Vec<ColumnViolation>>, ApiError> {
    let mapping = match converted(request, api.config.raw_string) {
        Ok(mapping) => mapping,
        Err(violations) => return Ok(Err(violations)),
    };
    let violations = compile(api, &mapping).await?;
    Ok(if violations.is_empty() {
        Ok(mapping)
    } else {
        Err(violations)
    })
}

/// Converts a mapping as the API does, without a server. Paths and templates are not compiled.
/// `is_raw` is the default of `rawString`.
///
/// # Errors
/// All violations.
pub fn mapping_from_request(request: MappingRequest, is_raw: bool) -> Result<Mapping, Vec<String>> {
    let texts = |violations: Vec<ColumnViolation>| violations.into_iter().map(|v| v.message);
    converted(request, is_raw).map_err(|violations| texts(violations).collect())
}

fn converted(request: MappingRequest, is_raw: bool) -> Result<Mapping, Vec<ColumnViolation>> {
    let mut violations = Vec::new();
    let mut columns = Vec::with_capacity(request.columns.len());
    for (i, column) in request.columns.into_iter().enumerate() {
        match model_column(column, is_raw) {
            Ok(column) => columns.push(column),
            Err(message) => violations.push(ColumnViolation {
                column: Some(i),
                field: None,
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
        Ok(mapping)
    } else {
        Err(violations)
    }
}

fn shape_violation(mapping: &Mapping, problem: &MappingViolation) -> ColumnViolation {
    // Of two columns with one name the later has to change.
    let last = |name: &str| {
        let mut columns = mapping.columns.iter();
        columns.rposition(|c| c.name.eq_ignore_ascii_case(name))
    };
    let (column, field) = match problem {
        MappingViolation::ColumnCount(_) => (None, None),
        MappingViolation::EmptyName(number) => (number.checked_sub(1), Some("name")),
        MappingViolation::NulInName(name) => (last(&name.replace("\\0", "\0")), Some("name")),
        of_column => match of_column.field() {
            Some((name, field)) => (last(name), Some(field)),
            None => (None, None),
        },
    };
    ColumnViolation {
        column,
        field,
        message: problem.to_string(),
    }
}

/// Violation of a mapping that is too large to be stored.
fn size_violation(mapping: &Mapping) -> Option<ColumnViolation> {
    let bytes = serde_json::to_vec(mapping).map_or(0, |json| json.len());
    (bytes > MAPPING_BYTES_MAX).then(|| ColumnViolation {
        column: None,
        field: None,
        message: format!(
            "the columns have {bytes} bytes as JSON, allowed are at most {MAPPING_BYTES_MAX}"
        ),
    })
}

/// Compiles the mapping on a thread where blocking is allowed.
pub(super) async fn compile(
    api: &ApiState,
    mapping: &Mapping,
) -> Result<Vec<ColumnViolation>, ApiError> {
    if let Some(violation) = size_violation(mapping) {
        return Ok(vec![violation]);
    }
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
            field: Some(kind),
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
        data_type: request.data_type.map(Into::into).unwrap_or_default(),
        unit: request.unit.map(Into::into),
        kind,
    })
}
