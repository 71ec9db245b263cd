//! The route that tests the mappings of a source on a record.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use forebay_model::SourceKey;
use http::{HeaderMap, header};

use super::SharedApi;
use super::body::{EmptyInput, RawBody};
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::json_response::JsonResponse;
use super::mapper::{TestCell, TestError, TestRecord, TestTable};
use forebay_api::TOKEN_HEADER;
use forebay_api::params::SourcePath;
use forebay_api::test_result::{TestResult, TestResultColumn, TestResultRow, TestResultTable};

/// Maximum sinks per test, so that the response is bounded.
const SINKS_MAX: usize = 1000;

/// Tests the mappings of a source on a record.
///
/// The record is this request's body and headers. Nothing is stored. Of a source with more sinks
/// only the first 1000 are tested, sorted by id.
#[utoipa::path(
    post, path = "/v1/branches/{branchId}/sources/{sourceId}/test", tag = "source", operation_id = "TestSource",
    params(SourcePath), request_body(
        content = serde_json::Value, content_type = "application/json",
        description = "The record: any bytes, of any `Content-Type` that the source accepts.",
    ),
    extensions(("x-errors" = json!(["unprocessableContent"]))),
    responses((status = 200, description = "A table per sink.", body = TestResult))
)]
pub(super) async fn test(
    State(api): State<SharedApi>,
    peer: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
    call: ApiCall<SourcePath, EmptyInput, RawBody>,
) -> Result<JsonResponse<TestResult>, ApiError> {
    let key = call.source_key()?;
    api.repo.source(&key).await?;
    let sinks = api.repo.first_sinks(&key, SINKS_MAX).await?;
    let mut headers = call.body.headers;
    let peer = peer.map(|p| p.0.0.ip().to_string());
    let ip = client_ip(&headers).or(peer).unwrap_or_default();
    // Remove the caller's secrets from the record.
    headers.remove(TOKEN_HEADER);
    headers.remove(header::AUTHORIZATION);
    let record = TestRecord {
        headers,
        body: call.body.bytes,
        ip,
        received_at: api.clock.now(),
    };
    match api.mapper.test(&sinks, record).await {
        Ok(tables) => Ok(JsonResponse::ok(result(&key, tables))),
        Err(TestError::Column { column, message }) => Err(ApiError::from_template(
            ErrorName::UnprocessableContent,
            &[&column, &message],
        )),
        Err(TestError::Body(message)) => Err(ApiError::from_template(
            ErrorName::UnprocessableContent,
            &[&"body", &message],
        )),
        Err(TestError::Internal(cause)) => Err(ApiError::internal(cause)),
    }
}

fn result(source: &SourceKey, tables: Vec<TestTable>) -> TestResult {
    let row = |cells: Vec<TestCell>| {
        let cell = |c: TestCell| TestResultColumn {
            name: c.column,
            value: c.value,
        };
        TestResultRow {
            columns: cells.into_iter().map(cell).collect(),
        }
    };
    let table = |t: TestTable| TestResultTable {
        sink_id: t.sink.sink.to_string(),
        table_id: t.table,
        rows: t.rows.into_iter().map(row).collect(),
    };
    TestResult {
        project_id: source.branch.project.0,
        branch_id: source.branch.branch.0,
        source_id: source.source.to_string(),
        tables: tables.into_iter().map(table).collect(),
    }
}

/// Client address from proxy headers; only used in this response.
fn client_ip(headers: &HeaderMap) -> Option<String> {
    let names = ["x-real-ip", "x-forwarded-for"];
    let value = names.iter().find_map(|name| headers.get(*name))?;
    let first = value.to_str().ok()?.split(',').next()?.trim();
    (!first.is_empty()).then(|| first.to_owned())
}
