//! `forebay job dead`, and `forebay dead … --job`: dead letters of a job.

use std::fmt::Write as _;

use forebay_jobs::definition::JobDefinition;
use forebay_jobs::state::{JobDeadLetter, JobState};
use forebay_model::DeadLetterSelection;
use tokio::runtime::Runtime;

use super::run::{self, JobFileArgs, JobOutputArgs, read, runtime};
use crate::cli_error::CliError;
use crate::command::common::dead_letter_selection;
use crate::config::Environment;
use crate::terminal;

const SHOWN: usize = 100;

/// Lists, shows, replays and drops dead letters: records that the job could not process.
///
/// `forebay dead … --job FILE` is the same.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum JobDeadLetterCommand {
    /// Lists dead letters
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        job: JobFileArgs,
        /// Print JSON, one object per line, with the records
        #[arg(long)]
        json: bool,
        /// Only higher ids than this
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
        /// Maximum number of dead letters
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows a dead letter with its record
    Show {
        #[command(flatten)]
        job: JobFileArgs,
        /// Id of the dead letter
        id: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replays dead letters, each from the stage that failed
    Replay {
        #[command(flatten)]
        job: JobFileArgs,
        #[command(flatten)]
        which: JobSelectionArgs,
        #[command(flatten)]
        output: JobOutputArgs,
    },
    /// Deletes dead letters
    Drop {
        #[command(flatten)]
        job: JobFileArgs,
        #[command(flatten)]
        which: JobSelectionArgs,
    },
}

/// Selected dead letters.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct JobSelectionArgs {
    /// Ids of dead letters
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All dead letters
    #[arg(long)]
    all: bool,
}

pub(super) fn run(command: JobDeadLetterCommand, env: Environment) -> Result<(), CliError> {
    match command {
        JobDeadLetterCommand::Ls {
            job,
            json,
            after,
            limit,
        } => list(&job, json, after, limit, &env),
        JobDeadLetterCommand::Show { job, id, json } => show(&job, id, json, &env),
        JobDeadLetterCommand::Replay { job, which, output } => {
            replay_with(&job, &dead_letter_selection(which.ids), &output, env)
        }
        JobDeadLetterCommand::Drop { job, which } => {
            discard(&job, &dead_letter_selection(which.ids), &env)
        }
    }
}

pub(crate) fn replay(
    job: &JobFileArgs,
    selection: &DeadLetterSelection,
    env: Environment,
) -> Result<(), CliError> {
    replay_with(job, selection, &JobOutputArgs::default(), env)
}

fn replay_with(
    job: &JobFileArgs,
    selection: &DeadLetterSelection,
    output: &JobOutputArgs,
    env: Environment,
) -> Result<(), CliError> {
    let definition = read(&job.file, &env)?;
    check_ids_exist(&open_state(&definition)?, selection)?;
    run::replay(&definition, selection, output, env)
}

pub(crate) fn discard(
    job: &JobFileArgs,
    selection: &DeadLetterSelection,
    env: &Environment,
) -> Result<(), CliError> {
    let state = open_state(&read(&job.file, env)?)?;
    check_ids_exist(&state, selection)?;
    let discarded = runtime()?.block_on(state.discard_dead_letters(selection.clone()));
    let report = discarded.map_err(CliError::new)?;
    terminal::line(format_args!("{} dropped", report.dropped))
}

fn check_ids_exist(state: &JobState, selection: &DeadLetterSelection) -> Result<(), CliError> {
    if let DeadLetterSelection::These(ids) = selection {
        let runtime = runtime()?;
        for &id in ids {
            find_dead_letter(&runtime, state, id)?;
        }
    }
    Ok(())
}

fn find_dead_letter(
    runtime: &Runtime,
    state: &JobState,
    id: u64,
) -> Result<JobDeadLetter, CliError> {
    let dead_letter = runtime.block_on(state.dead_letter(id));
    dead_letter.map_err(CliError::new)?.ok_or_else(|| {
        CliError::new(format_args!("dead letter {id} does not exist"))
            .hint("`forebay job dead ls FILE` lists them")
    })
}

fn open_state(definition: &JobDefinition) -> Result<JobState, CliError> {
    JobState::inspect(&definition.state_dir()).map_err(CliError::new)
}

pub(crate) fn list(
    job: &JobFileArgs,
    json: bool,
    after: u64,
    limit: u32,
    env: &Environment,
) -> Result<(), CliError> {
    let state = open_state(&read(&job.file, env)?)?;
    let page = runtime()?.block_on(state.dead_letters(after, limit));
    let page = page.map_err(CliError::new)?;
    for dead_letter in &page.dead_letters {
        if json {
            terminal::line(to_json(dead_letter)?)?;
        } else {
            let error: String = dead_letter.error.chars().take(SHOWN).collect();
            let JobDeadLetter {
                id,
                at,
                stage,
                origin,
                ..
            } = dead_letter;
            terminal::line(format_args!(
                "{id:>6}  {at}  {stage:<10}  {origin}  {error}"
            ))?;
        }
    }
    let shown = page.dead_letters.len() as u64;
    if shown < page.total {
        terminal::note(format_args!("{shown} of {}", page.total));
    }
    Ok(())
}

pub(crate) fn show(
    job: &JobFileArgs,
    id: u64,
    json: bool,
    env: &Environment,
) -> Result<(), CliError> {
    let state = open_state(&read(&job.file, env)?)?;
    let dead_letter = find_dead_letter(&runtime()?, &state, id)?;
    if json {
        return terminal::line(to_json(&dead_letter)?);
    }
    let mut out = String::new();
    let status = dead_letter
        .status
        .map_or("none".to_owned(), |s| s.to_string());
    // Writing to a String can't fail.
    _ = writeln!(
        out,
        "number    {}\nat        {}\nfrom      {}\nstage     {}\nrequest   {}\nstatus    {status}\nattempts  {}\nerror     {}\n",
        dead_letter.id,
        dead_letter.at,
        dead_letter.origin,
        dead_letter.stage,
        dead_letter.request,
        dead_letter.attempts,
        dead_letter.error
    );
    terminal::data(out)?;
    terminal::bytes(&dead_letter.body)?;
    terminal::line("")
}

fn to_json(dead_letter: &JobDeadLetter) -> Result<String, CliError> {
    serde_json::to_string(dead_letter).map_err(CliError::new)
}
