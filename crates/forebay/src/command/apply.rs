//! `forebay apply`: what a file says is what the server has afterwards.

use std::path::PathBuf;

use super::common::Server;
use super::source;
use crate::api::{ApiClient, SOURCES, block_on};
use crate::config::Environment;
use crate::definitions::{Change, Definitions, Plan, Step, listed, refused};
use crate::failure::Failure;
use crate::terminal;

/// Creates or updates sources and sinks from a file.
///
/// The server checks the whole file before the first change, and lists everything that it would
/// refuse. Applying is idempotent: resources that already match the file are not changed. Sources and
/// sinks that are not in the file are never touched.
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
          settings: { local.mapping.refused.action: dead_letter }
          columns:
            - { name: id, type: uuid }
            - { name: user, type: path, path: user.id, primaryKey: true }
            - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }")]
pub(crate) struct Args {
    /// File with definitions (YAML), - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Check the file as if it were applied, and print what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: Server,
}

/// Runs it.
pub(crate) fn run(args: Args, env: Environment) -> Result<(), Failure> {
    let definitions = Definitions::read(&args.file)?;
    let api = ApiClient::new(&args.server, env)?;
    block_on(apply(&api, &definitions, args.dry_run))
}

async fn apply(api: &ApiClient, definitions: &Definitions, dry_run: bool) -> Result<(), Failure> {
    // All of them first: a file that makes no sense changes nothing.
    let mut plans = Vec::new();
    for source in &definitions.sources {
        plans.push(Plan::of(api, source).await?);
    }
    let refused = refused(api, &plans).await?;
    if !refused.is_empty() {
        let line = |(source, step, why): &(usize, &Step, String)| {
            format!(
                "{}{}: {why}",
                definitions.place(*source, step.sink),
                step.what
            )
        };
        let lines: Vec<String> = refused.iter().map(line).collect();
        return Err(listed(&lines).hint("nothing was changed"));
    }
    for plan in &plans {
        for step in &plan.steps {
            if !dry_run {
                step.run(api)
                    .await
                    .map_err(|e| Failure::new(format_args!("{}: {e}", step.what)))?;
            }
            let differences = match step.change {
                Change::Update => format!(" ({})", step.differences.join(", ")),
                Change::Create | Change::Keep => String::new(),
            };
            terminal::line(format_args!(
                "{} {}{differences}",
                step.what,
                step.change.word(dry_run)
            ))?;
        }
        for other in &plan.others {
            terminal::note(format_args!(
                "sink {}/{other} is not in the file and stays as it is",
                plan.source
            ));
        }
        if !dry_run {
            let source = api.get(&format!("{SOURCES}/{}", plan.source)).await?;
            let url = source::url(&source).unwrap_or(source::HIDDEN);
            terminal::line(format_args!("post to {url}"))?;
        }
    }
    Ok(())
}
