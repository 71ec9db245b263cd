//! Helpers of the tests.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test helpers")]

use std::sync::Arc;

use bytes::Bytes;
use forebay_model::{ColumnKind, Mapping, MappingColumn, PathColumn, TemplateColumn, Timestamp};
use forebay_record::jsonnet::{check_all, with_engine};
use forebay_record::{
    CompiledMapping, RecordContext, RecordError, RequestHeaders, RequestInfo, RowLimits,
    TemplateError, TemplateProgram,
};

pub(crate) fn now() -> Timestamp {
    "2026-11-21T17:57:09.043Z".parse().unwrap()
}

pub(crate) fn request(headers: &[(&str, &str)]) -> Arc<RequestInfo> {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    Arc::new(RequestInfo {
        received: now(),
        client_ip: "1.2.3.4".parse().unwrap(),
        headers: RequestHeaders::from(map),
    })
}

/// A record with a content type, or without one if it is empty.
pub(crate) fn record(content_type: &str, body: impl Into<Bytes>) -> RecordContext {
    let headers = [("content-type", content_type)];
    let headers = if content_type.is_empty() {
        &headers[..0]
    } else {
        &headers
    };
    RecordContext::new(request(headers), body.into())
}

pub(crate) fn json(body: &str) -> RecordContext {
    record("application/json", body.to_owned())
}

pub(crate) fn column(name: &str, kind: ColumnKind) -> MappingColumn {
    MappingColumn::new(name, kind)
}

pub(crate) fn path(path: &str, default: Option<&str>, raw_string: bool) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: default.map(str::to_owned),
        raw_string,
    })
}

pub(crate) fn template(content: &str, raw_string: bool) -> ColumnKind {
    ColumnKind::Template(TemplateColumn {
        content: content.to_owned(),
        raw_string,
    })
}

pub(crate) fn mapping(kinds: impl IntoIterator<Item = ColumnKind>) -> Mapping {
    let columns = kinds.into_iter().enumerate();
    Mapping {
        columns: columns
            .map(|(i, kind)| column(&format!("c{i}"), kind))
            .collect(),
    }
}

pub(crate) fn compiled(kinds: impl IntoIterator<Item = ColumnKind>) -> CompiledMapping {
    CompiledMapping::compile(&mapping(kinds), &RowLimits::default()).unwrap()
}

pub(crate) const NO_TEMPLATES: &[Result<Vec<u8>, TemplateError>] = &[];

/// Results of the templates of a mapping.
pub(crate) fn evaluated(
    mapping: &CompiledMapping,
    record: &RecordContext,
) -> Vec<Result<Vec<u8>, TemplateError>> {
    let templates = mapping.templates().iter();
    let result = |template: &Arc<TemplateProgram>| {
        with_engine(|engine| {
            let program = engine
                .compile(template.source(), template.raw_string())
                .unwrap();
            engine.evaluate(&program, record)
        })
    };
    templates.map(result).collect()
}

/// The cell of a mapping with one column.
pub(crate) fn cell(kind: ColumnKind, record: &RecordContext) -> Result<String, RecordError> {
    let mapping = compiled([kind]);
    let results = evaluated(&mapping, record);
    let mut cells = mapping.render_cells(record, &results, &mut || 7)?;
    Ok(String::from_utf8_lossy(&cells.remove(0)).into_owned())
}

/// The error of checking a template; empty if it is valid.
pub(crate) fn check(source: &str) -> String {
    check_all(vec![source])
        .remove(0)
        .map(|p| p.to_string())
        .unwrap_or_default()
}
