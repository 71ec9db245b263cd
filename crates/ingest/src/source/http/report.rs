//! Reports the outcome of the records to the client.

use std::collections::HashSet;

use http::StatusCode;
use serde::Serialize;

use super::response::{self, SourceResponse};
use crate::dispatch::{
    BrokenRecords, REJECTIONS_MAX, RecordRejection, SinkResult, SourceRoute, WriteOutcome,
};

/// Note in every response of which a part is stored.
const PARTLY_STORED: &str =
    "What is stored is not taken back. Do not send it again, it would be stored twice.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SingleReport<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    sources: Vec<SourceReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceReport<'a> {
    project_id: u64,
    source_id: &'a str,
    branch_id: u64,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sinks: Vec<SinkReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SinkReport<'a> {
    sink_id: &'a str,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    message: String,
}

const WRITE_FAILED: &str = "stream.in.writeFailed";

fn status_of(results: &[SinkResult]) -> u16 {
    results.iter().map(SinkResult::status).max().unwrap_or(200)
}

/// Whether any row is stored in a sink, or may be.
fn is_stored(result: &SinkResult) -> bool {
    [&result.outcome, &result.kept.outcome].iter().any(|f| {
        matches!(
            f,
            WriteOutcome::Processed | WriteOutcome::Accepted | WriteOutcome::Unknown(_)
        )
    })
}

/// Responds to a request with a single record.
pub(super) fn single(route: &SourceRoute, results: &[SinkResult], verbose: bool) -> SourceResponse {
    let status = status_of(results);
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status < 300 && !verbose {
        return response::ok(code);
    }
    let mut rest = results;
    let mut sources = Vec::new();
    for branch in route.branches.iter().filter(|b| !b.disabled) {
        let (own, others) = rest.split_at(branch.sinks.len().min(rest.len()));
        rest = others;
        let sinks = branch.sinks.iter().zip(own);
        let status = status_of(own);
        sources.push(SourceReport {
            project_id: route.project.0,
            source_id: route.source.as_str(),
            branch_id: branch.key.branch.branch.0,
            status_code: status,
            error: (status >= 300).then_some(WRITE_FAILED),
            message: written(own),
            sinks: sinks
                .map(|(sink, result)| sink_report(sink.key().sink.as_str(), result))
                .collect(),
        });
    }
    let partly = status >= 300 && results.iter().any(is_stored);
    let body = SingleReport {
        status_code: status,
        error: (status >= 300).then_some(WRITE_FAILED),
        message: written(results),
        note: partly.then_some(PARTLY_STORED),
        sources,
    };
    with_retry(response::json(code, &body), status, results)
}

fn with_retry(mut response: SourceResponse, status: u16, results: &[SinkResult]) -> SourceResponse {
    if status == 503 {
        let is_full = results.iter().any(SinkResult::is_full);
        response::retry_later(&mut response, is_full);
    }
    response
}

fn written(results: &[SinkResult]) -> String {
    let (all, good) = (
        results.len(),
        results.iter().filter(|r| r.is_success()).count(),
    );
    match (good, all) {
        (_, 0) => "No enabled sink found.".to_owned(),
        (good, all) if good == all => format!("Successfully written to {good}/{all} sinks."),
        (good, all) => format!("Written to {good}/{all} sinks."),
    }
}

fn sink_report<'a>(sink_id: &'a str, result: &'a SinkResult) -> SinkReport<'a> {
    match result.rejected.first.first() {
        Some(rejection) => SinkReport {
            sink_id,
            status_code: rejection.error.kind.status(),
            error: Some(format!("stream.in.{}", rejection.error.kind.name())),
            column: Some(&rejection.error.column),
            message: rejection.error.to_string(),
        },
        None if result.kept.outcome != WriteOutcome::Nothing => kept_report(sink_id, result),
        None => SinkReport {
            sink_id,
            status_code: result.outcome.status(),
            error: result.outcome.error().map(|e| format!("stream.in.{e}")),
            column: None,
            message: result.outcome.message(),
        },
    }
}

/// Reports a record that is kept as a dead letter, or should have been.
fn kept_report<'a>(sink_id: &'a str, result: &'a SinkResult) -> SinkReport<'a> {
    let outcome = &result.kept.outcome;
    let cause = result.kept.records.first.first().map(|r| &r.error);
    let message = match (outcome.error(), cause) {
        (None, Some(cause)) => format!("dead letter: {cause}"),
        _ => outcome.message(),
    };
    SinkReport {
        sink_id,
        status_code: outcome.status(),
        error: outcome.error().map(|e| format!("stream.in.{e}")),
        column: cause.map(|c| c.column.as_str()),
        message,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchReport<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    /// Records sent.
    records: usize,
    /// Records accepted by every sink.
    accepted: usize,
    /// Records that at least one sink has rejected.
    rejected_count: usize,
    /// The first of them, each with its cause.
    rejected: Vec<RejectedRecord<'a>>,
    sinks: Vec<BatchSinkReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RejectedRecord<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Byte of the line at which the record starts, if that is not the first one.
    #[serde(skip_serializing_if = "is_zero")]
    byte: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    status_code: u16,
    error: String,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchSinkReport<'a> {
    branch_id: u64,
    sink_id: &'a str,
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    message: String,
    accepted: u32,
    rejected: usize,
    /// Records that are kept as dead letters; not among the accepted rows.
    #[serde(skip_serializing_if = "is_zero")]
    dead: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Responds to a batch of `records`.
pub(super) fn batch(
    route: &SourceRoute,
    records: usize,
    broken: &BrokenRecords,
    results: &[SinkResult],
) -> SourceResponse {
    let broken_status = if broken.indices.is_empty() { 200 } else { 400 };
    let status = status_of(results).max(broken_status);
    let mut rejected = broken.indices.clone();
    rejected.extend(results.iter().flat_map(|r| &r.rejected.indices));
    rejected.sort_unstable();
    rejected.dedup();
    let failed = results.iter().any(|r| {
        [&r.outcome, &r.kept.outcome]
            .iter()
            .any(|f| matches!(f, WriteOutcome::Failed(_) | WriteOutcome::Unknown(_)))
    });
    let accepted = if failed { 0 } else { records - rejected.len() };
    let dead = dead_letters(results, &rejected);
    let stored = results.iter().any(is_stored);
    let body = BatchReport {
        status_code: status,
        error: error_of(failed, !rejected.is_empty()),
        message: batch_message(records, accepted, dead, failed, results.is_empty()),
        note: (status >= 300 && stored).then_some(PARTLY_STORED),
        records,
        accepted,
        rejected_count: rejected.len(),
        rejected: rejected_records(route, broken, results),
        sinks: batch_sinks(route, results),
    };
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_retry(response::json(code, &body), status, results)
}

fn error_of(failed: bool, rejected: bool) -> Option<&'static str> {
    match (failed, rejected) {
        (true, _) => Some(WRITE_FAILED),
        (false, true) => Some("stream.in.recordsRejected"),
        (false, false) => None,
    }
}

/// Accepted records that at least one sink keeps as a dead letter.
fn dead_letters(results: &[SinkResult], rejected: &[usize]) -> usize {
    let kept = results.iter().flat_map(|r| &r.kept.records.indices);
    let accepted = kept.filter(|index| rejected.binary_search(index).is_err());
    accepted.collect::<HashSet<_>>().len()
}

fn batch_message(
    records: usize,
    accepted: usize,
    dead: usize,
    failed: bool,
    no_sink: bool,
) -> String {
    let as_dead = match dead {
        0 => String::new(),
        n => format!(" (as dead letters: {n})"),
    };
    match (failed, no_sink) {
        (_, true) => "No enabled sink found.".to_owned(),
        (true, _) => "Not all sinks could store the batch, see \"sinks\".".to_owned(),
        (false, _) if accepted == records => match records {
            1 => format!("The record is stored{as_dead}."),
            n => format!("All {n} records are stored{as_dead}."),
        },
        (false, _) => format!(
            "{accepted} of {records} records are stored in all sinks{as_dead}; see \"rejected\" for the others and their sinks."
        ),
    }
}

fn rejected_records<'a>(
    route: &'a SourceRoute,
    broken: &'a BrokenRecords,
    results: &'a [SinkResult],
) -> Vec<RejectedRecord<'a>> {
    let broken = broken.first.iter().map(|b| RejectedRecord {
        index: b.index,
        line: b.line,
        byte: b.byte,
        sink_id: None,
        column: None,
        status_code: 400,
        error: "stream.in.badRequest".to_owned(),
        message: b.message.clone(),
    });
    let by_sinks = route.sinks().zip(results).flat_map(|(sink, result)| {
        let name = sink.key().sink.as_str();
        result
            .rejected
            .first
            .iter()
            .map(move |r| rejected_record(name, r))
    });
    let mut all: Vec<_> = broken.chain(by_sinks).collect();
    all.sort_by_key(|r| r.index);
    all.truncate(REJECTIONS_MAX);
    all
}

fn rejected_record<'a>(sink: &'a str, rejection: &'a RecordRejection) -> RejectedRecord<'a> {
    RejectedRecord {
        index: rejection.index,
        line: rejection.line,
        byte: rejection.byte,
        sink_id: Some(sink),
        column: Some(&rejection.error.column),
        status_code: rejection.error.kind.status(),
        error: format!("stream.in.{}", rejection.error.kind.name()),
        message: rejection.error.to_string(),
    }
}

fn batch_sinks<'a>(route: &'a SourceRoute, results: &'a [SinkResult]) -> Vec<BatchSinkReport<'a>> {
    let sinks = route.sinks().zip(results);
    sinks
        .map(|(sink, result)| {
            let stored = matches!(
                result.outcome,
                WriteOutcome::Processed | WriteOutcome::Accepted
            );
            BatchSinkReport {
                branch_id: sink.key().source.branch.branch.0,
                sink_id: sink.key().sink.as_str(),
                status_code: result.status(),
                error: result.outcome.error().map(|e| format!("stream.in.{e}")),
                message: sink_message(result),
                accepted: if stored { result.rows } else { 0 },
                rejected: result.rejected.count(),
                dead: if result.kept.outcome == WriteOutcome::Processed {
                    result.kept.records.count()
                } else {
                    0
                },
            }
        })
        .collect()
}

fn sink_message(result: &SinkResult) -> String {
    let kept = result.kept.outcome == WriteOutcome::Processed;
    match result.outcome {
        WriteOutcome::Nothing if kept => "kept as dead letters".to_owned(),
        _ => result.outcome.message(),
    }
}
