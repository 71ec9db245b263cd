//! `forebay dead edit`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_api::dead_letter::{
    DeadLetterEditRequest, DeadLetterReplayRequest, DeadLetterView, ReplayResponse,
};
use reqwest::Method;

use super::sink::{ReplayOptions, ReplaySummary, SinkQueue};
use crate::api_client::{ApiClient, block_on, encoded};
use crate::cli_error::CliError;
use crate::command::common::ServerArgs;
use crate::config::Environment;
use crate::terminal;

/// Replays a dead letter of a sink with a changed record.
///
/// Opens the record in the editor of VISUAL or EDITOR, or takes it from a file. If the mapping rejects
/// it again, the dead letter stays as it was received. Of a row that its table rejected, the record is a
/// JSON object of its columns.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay dead edit events in-demo-events 3f0c9a6b1d2e4f58-12
  forebay dead edit events in-demo-events 3f0c9a6b1d2e4f58-12 --body fixed.json --dry-run")]
pub(crate) struct DeadLetterEditArgs {
    /// Id of the source
    source: String,
    /// Id of the sink
    sink: String,
    /// Id of the dead letter
    id: String,
    /// File with the record, or - for standard input [default: the editor]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Print what the replay would do, and the row; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the server's result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) fn run(args: &DeadLetterEditArgs, env: Environment) -> Result<(), CliError> {
    let editor = env.get("VISUAL").or_else(|| env.get("EDITOR"));
    let api = ApiClient::new(&args.server, env)?;
    let queue = SinkQueue::new(&args.source, &args.sink);
    block_on(async {
        let body = match &args.body {
            Some(file) => read(file)?,
            None => {
                let path = queue.path(&format!("/{}", encoded(&args.id)));
                let dead_letter: DeadLetterView = api.get(&path).await?;
                let Some(body) = edit(dead_letter, editor.as_deref())? else {
                    terminal::note("the record was not changed; nothing was replayed");
                    return Ok(());
                };
                body
            }
        };
        let request = DeadLetterReplayRequest {
            edits: Some(vec![DeadLetterEditRequest {
                dead_letter_id: args.id.clone(),
                body: Some(body),
                ..DeadLetterEditRequest::default()
            }]),
            dry_run: args.dry_run.then_some(true),
            ..DeadLetterReplayRequest::default()
        };
        let path = queue.path("/replay");
        let done: ReplayResponse = api.call(Method::POST, &path, &request).await?;
        let mut summary = ReplaySummary::default();
        summary.add(done);
        summary.print(ReplayOptions {
            dry_run: args.dry_run,
            json: args.json,
        })
    })
}

fn read(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let result = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| f.read_to_string(&mut text))
    };
    let failed = |e| CliError::usage(format_args!("can't read {}: {e}", file.display()));
    result.map_err(failed)?;
    Ok(text)
}

/// The record as changed in the editor; `None` if it was not changed.
fn edit(dead_letter: DeadLetterView, editor: Option<&str>) -> Result<Option<String>, CliError> {
    let Some(editor) = editor else {
        return Err(CliError::usage("no editor: VISUAL and EDITOR are not set")
            .hint("--body FILE takes the record from a file"));
    };
    let Some(body) = dead_letter.body else {
        return Err(CliError::usage("the record is not UTF-8")
            .hint("`forebay dead export` and `forebay dead import` change it as Base64"));
    };
    let failed = |e: std::io::Error| CliError::new(format_args!("can't edit the record: {e}"));
    let mut file = tempfile::Builder::new()
        .prefix("forebay-dead-letter-")
        .suffix(".json")
        .tempfile()
        .map_err(failed)?;
    file.write_all(body.as_bytes()).map_err(failed)?;
    file.flush().map_err(failed)?;
    // As other programs do: the variable may have arguments.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .map_err(failed)?;
    if !status.success() {
        return Err(CliError::new(format_args!(
            "the editor ended with {status}; nothing was replayed"
        )));
    }
    // Editors may replace the file.
    let edited = read(file.path())?;
    // They also end the last line.
    let edited = match edited.strip_suffix('\n') {
        Some(shorter) if !body.ends_with('\n') => shorter.to_owned(),
        _ => edited,
    };
    Ok(Some(edited).filter(|e| *e != body))
}
