//! `forebay apply`: makes the server match definition files.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use forebay_api::source::SourceView;
use futures::{StreamExt, stream};
use serde_json::json;

use super::common::ServerArgs;
use super::source;
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES, block_on};
use crate::cli_error::{CliError, EXIT_FAILURE};
use crate::config::Environment;
use crate::definitions::{
    ApplyAction, ApplyFailure, ApplyPlan, ApplyReport, DefinitionProblem, DefinitionSet,
    PlanOptions, editor_schema, problems_error, read_texts, run_all, set_of_folder,
};
use crate::terminal;

/// Set of files that are in no folder.
const DEFAULT_SET: &str = "default";
/// Exit code of `--exit-code` when something was or would be changed.
const EXIT_CHANGED: u8 = 2;

/// Makes the server match definition files.
///
/// All problems of all files are found before the first change, by this command and by the server, and
/// are shown with file, line and column. Then the differences are shown: + created, ~ changed, - deleted,
/// = unchanged, and of a changed source or sink each field with its old and new value. Applying again
/// changes nothing.
///
/// Sources and sinks that are not in the files are left alone. With --prune those are deleted that this
/// command created for the same set (--set). Nothing else is ever deleted: tables and accepted records
/// remain, and a deleted source or sink can be restored.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay apply -f events.yaml --data-dir ./data
  forebay apply -f ./definitions --dry-run
  forebay apply -f ./definitions --prune --yes --exit-code
  forebay apply --schema > forebay.schema.json

A file:
  sources:
    - name: My events
      sinks:
        - table: in.demo.events
          settings: { local.mapping.rejected.action: dead_letter }
          columns:
            - { name: id, type: uuid }
            - { name: user, type: path, path: user.id, primaryKey: true }
            - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }

Exit codes:
  0  applied; with --exit-code: nothing to change
  1  some changes failed, or the server was not reached; with --exit-code: any error
  2  a file is invalid, or the server rejects a change: nothing was changed;
     with --exit-code: changes were made, or would be made with --dry-run")]
pub(crate) struct ApplyArgs {
    /// File with definitions (YAML), folder with such files (*.yaml, *.yml), or - for standard input;
    /// repeatable
    #[arg(short, long, value_name = "PATH", required_unless_present = "schema")]
    file: Vec<PathBuf>,
    /// Check the files and show the changes, without making them
    #[arg(long)]
    dry_run: bool,
    /// Set that new sources and sinks belong to [default: the name of the folder, `default` for files]
    #[arg(long, value_name = "NAME", value_parser = set_name)]
    set: Option<String>,
    /// Delete the sources and sinks of the set that are not in the files, and reset settings of the set's
    /// sources and sinks that are not in the files
    #[arg(long)]
    prune: bool,
    /// Delete without asking
    #[arg(long, requires = "prune")]
    yes: bool,
    /// Make the sources and sinks in the files part of the set, if they were created in another way
    #[arg(long)]
    adopt: bool,
    /// Exit with 2 if there are changes
    #[arg(long)]
    exit_code: bool,
    /// Print the changes, or the problems, as JSON
    #[arg(long)]
    json: bool,
    /// Print a JSON Schema (draft 2020-12) of definition files for editors
    #[arg(long, conflicts_with_all = ["file", "dry_run", "set", "prune", "adopt", "exit_code", "json"])]
    schema: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn set_name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=64 => Ok(text.to_owned()),
        count => Err(format!(
            "the name has {count} characters, allowed are 1 to 64"
        )),
    }
}

pub(crate) fn run(args: ApplyArgs, env: Environment) -> Result<(), CliError> {
    if args.schema {
        return terminal::json(&editor_schema());
    }
    let (with_exit_code, json) = (args.exit_code, args.json);
    let result = apply(args, env);
    let result = result.map_err(|failure| match failure {
        ApplyFailure::Problems(problems) if json => problems_json(&problems),
        failure => failure.into(),
    });
    match result {
        Ok(true) if with_exit_code => Err(CliError::silent(EXIT_CHANGED)),
        Ok(_) => Ok(()),
        Err(error) if with_exit_code && error.code() != 0 => Err(error.with_code(EXIT_FAILURE)),
        Err(error) => Err(error),
    }
}

/// Prints problems as JSON.
fn problems_json(problems: &[DefinitionProblem]) -> CliError {
    match terminal::json(&json!({ "problems": problems })) {
        Ok(()) => problems_error(problems),
        Err(error) => error,
    }
}

/// Returns whether something was or would be changed.
fn apply(args: ApplyArgs, env: Environment) -> Result<bool, ApplyFailure> {
    let set = args.set.clone().or_else(|| set_of_folder(&args.file));
    if args.prune && set.is_none() {
        let error =
            CliError::usage("--prune of files needs --set, or a folder whose name is the set");
        return Err(error.into());
    }
    let texts = read_texts(&args.file)?;
    let definitions = DefinitionSet::from_texts(texts, &env);
    let definitions = definitions.map_err(ApplyFailure::Problems)?;
    let options = PlanOptions {
        set: Some(set.unwrap_or_else(|| DEFAULT_SET.to_owned())),
        prune: args.prune,
        adopt: args.adopt,
    };
    let api = ApiClient::new(&args.server, env)?;
    block_on(async { Ok(apply_to(&api, &definitions, &options, &args).await) })?
}

async fn apply_to(
    api: &ApiClient,
    definitions: &DefinitionSet,
    options: &PlanOptions,
    args: &ApplyArgs,
) -> Result<bool, ApplyFailure> {
    let plan = definitions.plan(api, options).await?;
    if !args.dry_run && !args.yes {
        confirm_deletions(&plan)?;
    }
    let outcomes = match args.dry_run {
        true => None,
        false => Some(run_all(api, &plan).await),
    };
    let urls = match args.dry_run {
        true => BTreeMap::new(),
        false => urls(api, &plan).await,
    };
    let report = ApplyReport {
        plan: &plan,
        outcomes: outcomes.as_deref(),
        urls,
    };
    if args.json {
        terminal::json(&report.json())?;
    } else {
        terminal::data(&report)?;
        plan.notes.iter().for_each(terminal::note);
    }
    report.result()?;
    Ok(plan.has_changes())
}

/// Asks before something is deleted.
fn confirm_deletions(plan: &ApplyPlan) -> Result<(), CliError> {
    let deleted = plan.steps.iter();
    let deleted = deleted.filter(|step| step.action == ApplyAction::Delete);
    let deleted: Vec<String> = deleted.map(|step| step.what()).collect();
    if deleted.is_empty() {
        return Ok(());
    }
    let list = deleted.join(", ");
    if !std::io::stdin().is_terminal() || !terminal::is_attended() {
        return Err(CliError::usage(format_args!(
            "--prune would delete {list}; nothing was changed"
        ))
        .hint("--yes confirms it"));
    }
    terminal::question(format_args!("delete {list}? [y/N]"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|e| CliError::new(format_args!("can't read the answer: {e}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::usage("nothing was changed")),
    }
}

/// URLs of the sources in the files. One that can't be read, or whose URL is hidden, has a placeholder.
async fn urls(api: &ApiClient, plan: &ApplyPlan) -> BTreeMap<String, String> {
    let sources = plan.steps.iter();
    let sources = sources.filter(|s| s.sink.is_none() && s.action != ApplyAction::Delete);
    let found = stream::iter(sources)
        .map(async |step| {
            let path = format!("{SOURCES}/{}", step.source);
            let found = api.find::<SourceView>(&path).await.ok().flatten()?;
            let url = source::url(&found).unwrap_or(source::URL_HIDDEN);
            Some((step.source.clone(), url.to_owned()))
        })
        .buffered(PARALLEL_REQUESTS);
    found.filter_map(async |url| url).collect().await
}
