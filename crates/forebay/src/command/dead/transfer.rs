//! `forebay dead export` and `forebay dead import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use forebay_api::dead_letter::{DeadLetterEditRequest, DeadLetterReplayRequest, ReplayResponse};
use forebay_api::dry_run::SampleHeader;
use reqwest::Method;
use serde::Deserialize;

use super::filter::{self, DeadLetterFilterArgs};
use super::sink::{ReplayOptions, ReplaySummary, SinkQueue};
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::command::common::ServerArgs;
use crate::config::Environment;
use crate::terminal;

/// Longest line of a file: a body of the largest request, as JSON.
const LINE_MAX: u64 = 64 << 20;
/// Most edits in one request.
const EDITS_PER_REQUEST: usize = 100;
/// Bytes of lines from which a request is sent; a longer line is sent alone.
const REQUEST_BYTES: usize = 256 << 10;

/// Exports the dead letters of a sink with their records, one JSON object per line.
///
/// Change the bodies with any tool, then `forebay dead import` replays them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay dead export events in-demo-events > letters.ndjson
  jq -c '.body |= (fromjson | .price //= 0 | tojson)' letters.ndjson > fixed.ndjson
  forebay dead import events in-demo-events fixed.ndjson")]
pub(crate) struct DeadLetterExportArgs {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    /// File to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: DeadLetterFilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Replays dead letters with the records of a file that `forebay dead export` wrote.
///
/// Each line names its dead letter (deadLetterId) and has its record (body or bodyBase64) and headers;
/// what is absent is not changed. The current mapping makes the rows. Each dead letter is delivered
/// once: those that were replayed or dropped before are skipped, so the same file can be imported again
/// after a failure. Dead letters that are rejected again stay as they were received.
#[derive(Debug, clap::Args)]
pub(crate) struct DeadLetterImportArgs {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    /// File with one JSON object per line, or - for standard input
    file: PathBuf,
    /// Print what the import would do, and the first rows; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the server's result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn export(args: &DeadLetterExportArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    let queue = SinkQueue::new(&args.source, &args.sink);
    let filter = args.filter.request()?;
    let mut file = match &args.output {
        Some(path) => Some((File::create(path).map_err(|e| unwritable(path, &e))?, path)),
        None => None,
    };
    let first = format!("?{}", filter::query(&filter).trim_start_matches('&'));
    block_on(async {
        let (mut query, mut count) = (first, 0);
        loop {
            let (lines, next) = api.page(&queue.path(&format!("/export{query}"))).await?;
            count += lines.iter().filter(|b| **b == b'\n').count();
            match &mut file {
                Some((file, path)) => file.write_all(&lines).map_err(|e| unwritable(path, &e))?,
                None => terminal::bytes(&lines)?,
            }
            let Some(next) = next else { break };
            query = next;
        }
        if let Some((file, path)) = &mut file {
            file.sync_all().map_err(|e| unwritable(path, &e))?;
            terminal::note(format_args!("{count} dead letters in {}", path.display()));
        }
        Ok(())
    })
}

fn unwritable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format_args!("can't write {}: {error}", path.display()))
}

pub(super) fn import(args: &DeadLetterImportArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    let path = SinkQueue::new(&args.source, &args.sink).path("/replay");
    let name = args.file.display().to_string();
    let mut edits = EditReader::open(&args.file)?;
    block_on(async {
        let mut summary = ReplaySummary::default();
        while let Some(batch) = edits.next_batch().map_err(|e| e.in_file(&name))? {
            let request = DeadLetterReplayRequest {
                edits: Some(batch),
                dry_run: args.dry_run.then_some(true),
                ..DeadLetterReplayRequest::default()
            };
            let done: ReplayResponse = api.call(Method::POST, &path, &request).await?;
            summary.add(done);
        }
        summary.print(ReplayOptions {
            dry_run: args.dry_run,
            json: args.json,
        })
    })
}

/// Edits of a file, in batches that fit in a request.
struct EditReader<R> {
    lines: R,
    number: u64,
    /// An edit that did not fit in the batch before it, with the length of its line.
    next: Option<(DeadLetterEditRequest, usize)>,
}

/// Fields of an exported dead letter that an import uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportedLine {
    dead_letter_id: String,
    body: Option<String>,
    body_base64: Option<String>,
    headers: Option<BTreeMap<String, String>>,
}

impl From<ExportedLine> for DeadLetterEditRequest {
    fn from(line: ExportedLine) -> Self {
        let header = |(name, value): (String, String)| SampleHeader { name, value };
        Self {
            dead_letter_id: line.dead_letter_id,
            body: line.body,
            body_base64: line.body_base64,
            headers: line.headers.map(|h| h.into_iter().map(header).collect()),
        }
    }
}

/// Error of a line of the file.
#[derive(Debug, PartialEq, Eq)]
struct LineError {
    number: u64,
    cause: String,
}

impl LineError {
    fn in_file(self, name: &str) -> CliError {
        CliError::usage(format_args!("{name}, line {}: {}", self.number, self.cause)).hint(
            "dead letters of the lines before were imported; run the command again when the line is \
             corrected: it skips them",
        )
    }
}

impl EditReader<Box<dyn BufRead>> {
    fn open(path: &Path) -> Result<Self, CliError> {
        let input: Box<dyn Read> =
            if path == Path::new("-") {
                Box::new(std::io::stdin())
            } else {
                let file = File::open(path);
                Box::new(file.map_err(|e| {
                    CliError::usage(format_args!("can't read {}: {e}", path.display()))
                })?)
            };
        Ok(Self::new(Box::new(BufReader::new(input))))
    }
}

impl<R: BufRead> EditReader<R> {
    fn new(lines: R) -> Self {
        Self {
            lines,
            number: 0,
            next: None,
        }
    }

    /// The next edits; `None` at the end.
    fn next_batch(&mut self) -> Result<Option<Vec<DeadLetterEditRequest>>, LineError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            let next = match self.next.take() {
                Some(next) => Some(next),
                None => self.read()?,
            };
            let Some((edit, length)) = next else { break };
            let is_full = batch.len() == EDITS_PER_REQUEST || bytes + length > REQUEST_BYTES;
            if is_full && !batch.is_empty() {
                self.next = Some((edit, length));
                break;
            }
            bytes += length;
            batch.push(edit);
        }
        Ok(Some(batch).filter(|b| !b.is_empty()))
    }

    fn read(&mut self) -> Result<Option<(DeadLetterEditRequest, usize)>, LineError> {
        loop {
            self.number += 1;
            let number = self.number;
            let error = |cause: String| LineError { number, cause };
            let mut line = Vec::new();
            let mut limited = (&mut self.lines).take(LINE_MAX + 1);
            let read = limited.read_until(b'\n', &mut line);
            let length = read.map_err(|e| error(e.to_string()))?;
            if length as u64 > LINE_MAX {
                return Err(error(format!("it is longer than {LINE_MAX} bytes")));
            }
            if length == 0 {
                return Ok(None);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let line: ExportedLine = serde_json::from_slice(&line).map_err(|e| {
                error(format!(
                    "{e}; expected an object with \"deadLetterId\", as `forebay dead export` writes it"
                ))
            })?;
            return Ok(Some((line.into(), length)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: u64, body: usize) -> String {
        let body = "x".repeat(body);
        format!("{{\"deadLetterId\":\"v-{id}\",\"body\":\"{body}\",\"size\":1}}\n")
    }

    #[test]
    fn edits_are_read_in_batches_that_fit() {
        let large = REQUEST_BYTES / 2;
        let mut text: String = (0..150).map(|i| line(i, 1)).collect();
        text.push('\n');
        text.extend([
            line(150, large),
            line(151, large),
            line(152, 3 * REQUEST_BYTES),
            line(153, 1),
        ]);
        let mut reader = EditReader::new(text.as_bytes());
        let mut sizes = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [100, 51, 1, 1, 1]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, part) in [
            ("{\"body\":\"\"}", "missing field `deadLetterId`"),
            ("{", "EOF while parsing"),
        ] {
            let text = format!("{}{text}\n", line(0, 1));
            let mut reader = EditReader::new(text.as_bytes());
            let error = reader.next_batch().unwrap_err();
            assert_eq!(error.number, 2);
            assert!(error.cause.contains(part), "{error:?}");
        }
    }
}
