//! The route that tests an unsaved mapping on a record.

use std::net::IpAddr;

use axum::extract::State;
use bytes::Bytes;
use forebay_model::TableSink;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::SharedApi;
use super::body::{EmptyInput, JsonBody};
use super::call::ApiCall;
use super::error::{ApiError, sentence};
use super::json_response::JsonResponse;
use super::mapper::{TestCell, TestError, TestRecord};
use super::mapping::{ColumnViolation, backend, check_mapping, table_id};
use super::table_check;
use forebay_api::dry_run::{
    DryRunCell, DryRunReport, DryRunRequest, DryRunViolation, SampleHeader, SampleRecord,
};
use forebay_api::params::BranchPath;

/// Tests a mapping on a record. An extension of Forebay.
///
/// Nothing is stored, and no sink has to have the mapping. What is wrong with it, or with the
/// record, is in the answer's `violations`.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/test-mapping", tag = "source", operation_id = "TestMapping",
    params(BranchPath), request_body = DryRunRequest,
    extensions(("x-errors" = json!(["tableNotAvailable"]))),
    responses((status = 200, description = "The row, or the violations.", body = DryRunReport))
)]
pub(super) async fn dry_run(
    State(api): State<SharedApi>,
    call: ApiCall<BranchPath, EmptyInput, JsonBody<DryRunRequest>>,
) -> Result<JsonResponse<DryRunReport>, ApiError> {
    let DryRunRequest {
        mapping,
        table,
        record,
    } = call.body.0;
    let ip = match &record.client_ip {
        Some(ip) if ip.parse::<IpAddr>().is_err() => {
            return Err(ApiError::bad_request(format!(
                "invalid \"clientIp\" value \"{ip}\": expected an IP address like 192.0.2.7"
            )));
        }
        Some(ip) => Some(ip.clone()),
        None => call.who.from.clone(),
    };
    let record = TestRecord {
        headers: headers(&record)?,
        body: Bytes::from(record.body),
        ip: ip.unwrap_or_default(),
        received_at: api.clock.now(),
    };
    let mapping = match check_mapping(&api, mapping).await? {
        Ok(mapping) => mapping,
        Err(violations) => return Ok(JsonResponse::ok(rejected(violations))),
    };
    if let Some(table) = table {
        let table = TableSink {
            backend: backend(&api, table.r#type)?,
            table: table_id(&table.table_id)?,
            mapping: mapping.clone(),
        };
        let (findings, _) = table_check::find_mismatches(&api, &call.who, &table).await?;
        let violations: Vec<ColumnViolation> = findings
            .into_iter()
            .map(|f| ColumnViolation {
                column: f.column,
                field: None,
                message: f.message,
            })
            .collect();
        if !violations.is_empty() {
            return Ok(JsonResponse::ok(rejected(violations)));
        }
    }
    match api.mapper.row(&mapping, record).await {
        Ok(cells) => Ok(JsonResponse::ok(row(cells))),
        Err(TestError::Column { column, message }) => {
            let column = mapping.columns.iter().position(|c| c.name == column);
            Ok(JsonResponse::ok(rejected(vec![ColumnViolation {
                column,
                field: None,
                message,
            }])))
        }
        Err(TestError::Body(message)) => {
            let column = None;
            Ok(JsonResponse::ok(rejected(vec![ColumnViolation {
                column,
                field: None,
                message,
            }])))
        }
        Err(TestError::Internal(cause)) => Err(ApiError::internal(cause)),
    }
}

fn row(cells: Vec<TestCell>) -> DryRunReport {
    let cell = |c: TestCell| DryRunCell {
        name: c.column,
        value: c.value,
    };
    DryRunReport {
        row: cells.into_iter().map(cell).collect(),
        violations: Vec::new(),
    }
}

fn rejected(violations: Vec<ColumnViolation>) -> DryRunReport {
    let violation = |v: ColumnViolation| DryRunViolation {
        column: v.column,
        message: sentence(&v.message),
    };
    DryRunReport {
        row: Vec::new(),
        violations: violations.into_iter().map(violation).collect(),
    }
}

fn headers(record: &SampleRecord) -> Result<HeaderMap, ApiError> {
    let mut headers = HeaderMap::new();
    for SampleHeader { name, value } in record.headers.iter().flatten() {
        let invalid = |what: &str| {
            ApiError::bad_request(format!("invalid header \"{name}\" of the record: {what}"))
        };
        let key: HeaderName = name
            .parse()
            .map_err(|_| invalid("the name must be letters, digits and \"-\""))?;
        let value: HeaderValue = value
            .parse()
            .map_err(|_| invalid("the value must be one line of visible characters"))?;
        headers.append(key, value);
    }
    Ok(headers)
}
