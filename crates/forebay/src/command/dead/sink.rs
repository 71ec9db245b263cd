//! Dead letters of sinks, through the management API.

use std::collections::BTreeMap;

use forebay_api::dead_letter::{
    DeadLetterCauseList, DeadLetterCauseView, DeadLetterFilterRequest, DeadLetterList,
    DeadLetterReplayRequest, DeadLetterSelectionRequest, DeadLetterView, DiscardResponse,
    ReplayResponse, ReplayRow,
};
use forebay_api::retry::RejectedFile;
use forebay_api::statistics::FileList;
use forebay_api::status::StatusResponse;
use reqwest::Method;

use super::filter;
use crate::api_client::{ApiClient, SOURCES, encoded};
use crate::cli_error::CliError;
use crate::command::status::STATUS;
use crate::query::TextTable;
use crate::terminal;

/// Most ids in one request.
const IDS_PER_REQUEST: usize = 100;
/// Most rejections that are printed.
const REJECTIONS_SHOWN: usize = 10;
/// Largest page of the list.
const PAGE: usize = 100;

/// Dead letters of a sink.
pub(super) struct SinkQueue {
    /// Path of the sink in the API.
    sink: String,
}

impl SinkQueue {
    pub(super) fn new(source: &str, sink: &str) -> Self {
        let (source, sink) = (encoded(source), encoded(sink));
        Self {
            sink: format!("{SOURCES}/{source}/sinks/{sink}"),
        }
    }

    /// Path of an operation, or of a dead letter.
    pub(super) fn path(&self, below: &str) -> String {
        format!("{}/dead-letters{below}", self.sink)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ReplayOptions {
    pub(super) dry_run: bool,
    pub(super) json: bool,
}

/// The sinks that have dead letters.
pub(super) async fn list_sinks(api: &ApiClient, json: bool) -> Result<(), CliError> {
    let status: StatusResponse = api.get(STATUS).await?;
    let sinks = status.sinks.iter().filter(|s| s.dead_letters > 0);
    if json {
        return terminal::json(&sinks.collect::<Vec<_>>());
    }
    let mut table = TextTable::new(&["source", "sink", "target", "dead letters"]);
    let mut any = false;
    for sink in sinks {
        any = true;
        let count = sink.dead_letters.to_string();
        table.row(&[&sink.source_id, &sink.sink_id, &sink.target, &count]);
    }
    match any {
        true => terminal::data(table),
        false => {
            terminal::note("no sink has dead letters");
            Ok(())
        }
    }
}

pub(super) async fn list(
    api: &ApiClient,
    queue: &SinkQueue,
    filter: &DeadLetterFilterRequest,
    limit: usize,
    json: bool,
) -> Result<(), CliError> {
    let mut dead_letters = Vec::new();
    let mut after = String::new();
    while dead_letters.len() < limit {
        let page_size = PAGE.min(limit - dead_letters.len());
        let query = format!(
            "?limit={page_size}&afterId={after}{}",
            filter::query(filter)
        );
        let page: DeadLetterList = api.get(&queue.path(&query)).await?;
        dead_letters.extend(page.dead_letters);
        let Some(next) = page.more_after_id else {
            break;
        };
        after = encoded(&next);
    }
    if json {
        return terminal::json(&dead_letters);
    }
    if dead_letters.is_empty() {
        terminal::note("no dead letters");
    }
    let mut table = TextTable::new(&["id", "received", "bytes", "error"]);
    for dead_letter in &dead_letters {
        table.row(&[
            &dead_letter.dead_letter_id,
            &dead_letter.received_at.to_string(),
            &dead_letter.size.to_string(),
            &dead_letter.message,
        ]);
    }
    terminal::data(table)
}

pub(super) async fn show(
    api: &ApiClient,
    queue: &SinkQueue,
    id: &str,
    json: bool,
) -> Result<(), CliError> {
    let dead_letter: DeadLetterView = api.get(&queue.path(&format!("/{}", encoded(id)))).await?;
    if json {
        return terminal::json(&dead_letter);
    }
    let summary = &dead_letter.summary;
    terminal::line(format_args!("letter    {}", summary.dead_letter_id))?;
    terminal::line(format_args!("received  {}", summary.received_at))?;
    terminal::line(format_args!("from      {}", dead_letter.client_ip))?;
    terminal::line(format_args!("error     {}", summary.message))?;
    terminal::line(format_args!("cause     {}", summary.cause_id))?;
    if let Some(line) = dead_letter.line {
        terminal::line(format_args!("line      {line} of its batch"))?;
    }
    for (name, value) in &dead_letter.headers {
        terminal::line(format_args!("header    {name}: {value}"))?;
    }
    match &dead_letter.body {
        Some(body) => terminal::line(format_args!("\n{body}")),
        None => terminal::line(format_args!(
            "\nbase64: {}",
            dead_letter.body_base64.unwrap_or_default()
        )),
    }
}

pub(super) async fn causes(
    api: &ApiClient,
    queue: &SinkQueue,
    filter: &DeadLetterFilterRequest,
    json: bool,
) -> Result<(), CliError> {
    let mut all: BTreeMap<String, DeadLetterCauseView> = BTreeMap::new();
    let (mut others, mut after) = (0, String::new());
    loop {
        let query = format!("/causes?afterId={after}{}", filter::query(filter));
        let page: DeadLetterCauseList = api.get(&queue.path(&query)).await?;
        others += page.others_count;
        for cause in page.causes {
            add_cause(&mut all, cause);
        }
        let Some(next) = page.more_after_id else {
            break;
        };
        after = encoded(&next);
    }
    let mut causes: Vec<DeadLetterCauseView> = all.into_values().collect();
    causes.sort_by(|a, b| b.count.cmp(&a.count).then(a.cause_id.cmp(&b.cause_id)));
    if json {
        return terminal::json(&DeadLetterCauseList {
            causes,
            others_count: others,
            more_after_id: None,
        });
    }
    if causes.is_empty() {
        terminal::note("no dead letters");
        return Ok(());
    }
    let mut table = TextTable::new(&["cause", "count", "last received", "error"]);
    for cause in &causes {
        table.row(&[
            &cause.cause_id,
            &cause.count.to_string(),
            &cause.last_received_at.to_string(),
            &cause.message,
        ]);
    }
    terminal::data(table)?;
    if others > 0 {
        terminal::note(format_args!("and {others} dead letters of further causes"));
    }
    Ok(())
}

/// Adds the counts of another page.
fn add_cause(all: &mut BTreeMap<String, DeadLetterCauseView>, cause: DeadLetterCauseView) {
    match all.get_mut(&cause.cause_id) {
        Some(known) => {
            known.count += cause.count;
            known.size += cause.size;
            known.first_received_at = known.first_received_at.min(cause.first_received_at);
            known.last_received_at = known.last_received_at.max(cause.last_received_at);
        }
        None => {
            all.insert(cause.cause_id.clone(), cause);
        }
    }
}

/// Replays dead letters; no id selects all that pass the filter.
pub(super) async fn replay(
    api: &ApiClient,
    queue: &SinkQueue,
    ids: &[String],
    filter: &DeadLetterFilterRequest,
    options: ReplayOptions,
) -> Result<(), CliError> {
    let mut summary = ReplaySummary::default();
    let path = queue.path("/replay");
    let mut send = async |request: &DeadLetterReplayRequest| {
        let done: ReplayResponse = api.call(Method::POST, &path, request).await?;
        let next = done.more_after_id.clone();
        summary.add(done);
        Ok::<_, CliError>(next)
    };
    for ids in ids.chunks(IDS_PER_REQUEST) {
        let request = DeadLetterReplayRequest {
            dead_letter_ids: Some(ids.to_vec()),
            dry_run: options.dry_run.then_some(true),
            ..DeadLetterReplayRequest::default()
        };
        send(&request).await?;
    }
    if ids.is_empty() {
        let mut request = DeadLetterReplayRequest {
            filter: set(filter),
            dry_run: options.dry_run.then_some(true),
            ..DeadLetterReplayRequest::default()
        };
        loop {
            request.after_id = send(&request).await?;
            if request.after_id.is_none() {
                break;
            }
        }
    }
    summary.print(options)
}

/// The filter, unless it is empty.
fn set(filter: &DeadLetterFilterRequest) -> Option<DeadLetterFilterRequest> {
    Some(filter.clone()).filter(|f| *f != DeadLetterFilterRequest::default())
}

/// Result of the requests of a replay.
#[derive(Default)]
pub(super) struct ReplaySummary {
    sum: Option<ReplayResponse>,
}

impl ReplaySummary {
    pub(super) fn add(&mut self, done: ReplayResponse) {
        match &mut self.sum {
            None => self.sum = Some(done),
            Some(sum) => {
                sum.replayed += done.replayed;
                sum.rejected.extend(done.rejected);
                sum.skipped_ids.extend(done.skipped_ids);
                sum.rows.extend(done.rows);
            }
        }
    }

    /// Prints the result.
    ///
    /// # Errors
    /// When dead letters were rejected again.
    pub(super) fn print(self, options: ReplayOptions) -> Result<(), CliError> {
        let mut sum = self.sum.unwrap_or(ReplayResponse {
            replayed: 0,
            rejected: Vec::new(),
            skipped_ids: Vec::new(),
            rows: Vec::new(),
            more_after_id: None,
        });
        sum.more_after_id = None;
        let rejected = sum.rejected.len();
        if options.json {
            terminal::json(&sum)?;
        } else {
            print_replay(&sum, options.dry_run)?;
        }
        match (rejected, options.dry_run) {
            (0, _) => Ok(()),
            (kept, false) => Err(CliError::new(format_args!(
                "{kept} of the dead letters were rejected again and are retained"
            ))),
            (kept, true) => Err(CliError::new(format_args!(
                "{kept} of the dead letters would be rejected again"
            ))),
        }
    }
}

fn print_replay(sum: &ReplayResponse, is_dry: bool) -> Result<(), CliError> {
    let (replayed, rejected) = (sum.replayed, sum.rejected.len());
    if is_dry {
        terminal::line(format_args!(
            "{replayed} would be replayed, {rejected} rejected again"
        ))?;
    } else {
        terminal::line(format_args!(
            "{replayed} replayed, {rejected} rejected again"
        ))?;
    }
    if !sum.skipped_ids.is_empty() {
        terminal::note(format_args!(
            "{} skipped: they were replayed or dropped before",
            sum.skipped_ids.len()
        ));
    }
    if let Some(first) = sum.rows.first() {
        terminal::data(rows(first, &sum.rows))?;
    }
    for dead_letter in sum.rejected.iter().take(REJECTIONS_SHOWN) {
        terminal::note(format_args!(
            "{}: {}",
            dead_letter.dead_letter_id, dead_letter.message
        ));
    }
    Ok(())
}

/// The rows of a dry run.
fn rows(first: &ReplayRow, all: &[ReplayRow]) -> TextTable {
    let mut names = vec!["dead letter"];
    names.extend(first.row.iter().map(|cell| cell.name.as_str()));
    let mut table = TextTable::new(&names);
    for row in all {
        let mut cells = vec![row.dead_letter_id.as_str()];
        cells.extend(row.row.iter().map(|cell| cell.value.as_str()));
        table.row(&cells);
    }
    table
}

/// Drops dead letters; no id selects all that pass the filter.
pub(super) async fn discard(
    api: &ApiClient,
    queue: &SinkQueue,
    ids: &[String],
    filter: &DeadLetterFilterRequest,
) -> Result<(), CliError> {
    let mut dropped = 0;
    let path = queue.path("/drop");
    let mut send = async |request: &DeadLetterSelectionRequest| {
        let done: DiscardResponse = api.call(Method::POST, &path, request).await?;
        dropped += done.dropped;
        Ok::<_, CliError>(done.more_after_id)
    };
    for ids in ids.chunks(IDS_PER_REQUEST) {
        let request = DeadLetterSelectionRequest {
            dead_letter_ids: Some(ids.to_vec()),
            ..DeadLetterSelectionRequest::default()
        };
        send(&request).await?;
    }
    if ids.is_empty() {
        let mut request = DeadLetterSelectionRequest {
            filter: set(filter),
            ..DeadLetterSelectionRequest::default()
        };
        loop {
            request.after_id = send(&request).await?;
            if request.after_id.is_none() {
                break;
            }
        }
    }
    terminal::line(format_args!("{dropped} dropped"))
}

pub(super) async fn reject_files(
    api: &ApiClient,
    queue: &SinkQueue,
    files: &[String],
    all: bool,
) -> Result<(), CliError> {
    let mut files = files.to_vec();
    if all {
        let path = format!("{}/statistics/files?failedFiles=true", queue.sink);
        let FileList { files: failed } = api.get(&path).await?;
        let parked = failed.iter().filter(|f| f.parked == Some(true));
        files.extend(parked.map(|f| f.opened_at.to_string()));
        if files.is_empty() {
            terminal::note("no parked files");
        }
    }
    for file in files {
        let path = format!("{}/files/{}/dead-letter", queue.sink, encoded(&file));
        let rejected: RejectedFile = api.call_without_body(Method::POST, &path).await?;
        terminal::line(format_args!(
            "{file}: its rows become dead letters; the table rejected them: {}",
            rejected.cause
        ))?;
    }
    Ok(())
}
