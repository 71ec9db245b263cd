//! The route of live records.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use forebay_api::params::SourcePath;
use forebay_api::tap::{TapLine, TapQuery};
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::{SinkId, SinkKey};
use futures::StreamExt;
use http::{HeaderValue, header};

use super::SharedApi;
use super::call::ApiCall;
use super::error::{ApiError, ErrorName};
use super::services::{TapError, TapRequest};
use super::sinks::existing;

/// Streams the records of a source as they arrive at this node. An extension of Forebay.
///
/// The answer has one JSON object per line: samples, and now and then the number of samples that
/// were lost because they arrived faster than `api.tapRecordsPerSecond` or were not read in time.
/// Records are never delayed. Headers with secrets are hidden. The audit has an entry for each tap.
#[utoipa::path(
    get, path = "/v1/branches/{branchId}/sources/{sourceId}/tap", tag = "source", operation_id = "TapSource",
    params(SourcePath, TapQuery),
    extensions(("x-errors" = json!(["sinkNotFound", "tooManyTaps"]))),
    responses((status = 200, description = "Lines of JSON, until the client closes the connection.", content_type = "application/x-ndjson", body = TapLine))
)]
pub(super) async fn tap(
    State(api): State<SharedApi>,
    call: ApiCall<SourcePath, TapQuery>,
) -> Result<Response, ApiError> {
    let source = call.source_key()?;
    api.repo.source(&source).await?;
    let query = call.query;
    let sink = (!query.sink_id.is_empty()).then(|| SinkId::from_raw(&query.sink_id));
    let subject = match &sink {
        None => AuditSubject::Source(source.clone()),
        Some(sink) => {
            let key = SinkKey {
                source: source.clone(),
                sink: sink.clone(),
            };
            existing(&api, &key).await?;
            AuditSubject::Sink(key)
        }
    };
    let opened = api.taps.open(TapRequest {
        source: source.clone(),
        sink,
        stage: query.stage,
        filter: query.filter,
        redact: query.redact,
        sample: u64::from(query.sample),
        limit: u64::from(query.limit),
    });
    let lines = opened.map_err(|e| match e {
        TapError::Invalid(text) => ApiError::bad_request(text),
        TapError::TooMany(max) => ApiError::from_template(ErrorName::TooManyTaps, &[&max]),
        TapError::Unavailable(text) => ApiError::unavailable(text),
    })?;
    let event = AuditEvent {
        project: source.branch.project,
        what: subject,
        action: AuditAction::Tap,
        description: format!("Live records, stage {}.", query.stage),
        old_version: None,
        new_version: None,
        stamp: call.who.audit_stamp(api.clock.now()),
    };
    // Nothing is shown without an entry.
    api.repo.record_access(&event).await?;
    let mut response = Response::new(Body::from_stream(
        lines.map(Ok::<_, std::convert::Infallible>),
    ));
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    Ok(response)
}
