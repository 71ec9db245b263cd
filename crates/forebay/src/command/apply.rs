//! `forebay apply`: creates and updates sources and sinks from a file.

use std::path::PathBuf;

use forebay_api::source::SourceView;
use futures::{StreamExt, TryStreamExt, stream};

use super::common::ServerArgs;
use super::source;
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{
    ApplyAction, ApplyPlan, ApplyStep, DefinitionFile, definition_error, rejected_steps, run_all,
};
use crate::terminal;

/// Creates or updates sources and sinks from a file.
///
/// The server checks the whole file before the first change and lists all violations. Applying is
/// idempotent: resources that already match the file are not changed. Sources and sinks that are not in
/// the file are never changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay apply -f events.yaml --data-dir ./data
  forebay apply -f events.yaml --dry-run

A file:
  sources:
    - name: My events
      sinks:
        - table: in.demo.events
          settings: { local.mapping.rejected.action: dead_letter }
          columns:
            - { name: id, type: uuid }
            - { name: user, type: path, path: user.id, primaryKey: true }
            - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }")]
pub(crate) struct ApplyArgs {
    /// File with definitions (YAML), - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Check the file and print the changes, without making them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: ApplyArgs, env: Environment) -> Result<(), CliError> {
    let definitions = DefinitionFile::read(&args.file, &env)?;
    let api = ApiClient::new(&args.server, env)?;
    block_on(apply(&api, &definitions, args.dry_run))
}

async fn apply(
    api: &ApiClient,
    definitions: &DefinitionFile,
    dry_run: bool,
) -> Result<(), CliError> {
    // All of them first: an invalid file changes nothing.
    let plans: Vec<ApplyPlan> = stream::iter(&definitions.sources)
        .map(|source| ApplyPlan::for_source(api, source))
        .buffered(PARALLEL_REQUESTS)
        .try_collect()
        .await?;
    let rejected = rejected_steps(api, &plans).await?;
    if !rejected.is_empty() {
        let line = |(source, step, why): &(usize, &ApplyStep, String)| {
            format!(
                "{}{}: {why}",
                definitions.location(*source, step.sink),
                step.what
            )
        };
        let lines: Vec<String> = rejected.iter().map(line).collect();
        return Err(definition_error(&lines).hint("nothing was changed"));
    }
    let line = |step: &ApplyStep| {
        let differences = match step.change {
            ApplyAction::Update => format!(" ({})", step.differences.join(", ")),
            ApplyAction::Create | ApplyAction::Keep => String::new(),
        };
        terminal::line(format_args!(
            "{} {}{differences}",
            step.what,
            step.change.describe(dry_run)
        ))
    };
    if dry_run {
        plans.iter().flat_map(|p| &p.steps).try_for_each(line)?;
    } else {
        run_all(api, &plans, line).await?;
    }
    for plan in &plans {
        for other in &plan.others {
            terminal::note(format_args!(
                "sink {}/{other} is not in the file and is not changed",
                plan.source
            ));
        }
    }
    if dry_run {
        return Ok(());
    }
    let mut sources = stream::iter(&plans)
        .map(async |plan| {
            api.get::<SourceView>(&format!("{SOURCES}/{}", plan.source))
                .await
        })
        .buffered(PARALLEL_REQUESTS);
    while let Some(found) = sources.next().await {
        let source = found?;
        let url = source::url(&source).unwrap_or(source::URL_HIDDEN);
        terminal::line(format_args!("post to {url}"))?;
    }
    Ok(())
}
