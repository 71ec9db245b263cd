//! `forebay job dead`, and `forebay dead … --job`: records that a job has set aside.

use std::fmt::Write as _;

use forebay_pull::Selection;
use forebay_pull::definition::Definition;
use forebay_pull::state::{DeadLetter, State};
use tokio::runtime::Runtime;

use super::{FileArgs, Output, read, runtime};
use crate::config::Environment;
use crate::failure::Failure;
use crate::terminal;

/// Characters of an error in the list.
const SHOWN: usize = 100;

/// Lists, shows, replays and drops dead letters: records that the job has set aside.
///
/// `forebay dead … --job FILE` is the same.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists them
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        job: FileArgs,
        /// As JSON, one object a line, with the records themselves
        #[arg(long)]
        json: bool,
        /// Those with higher numbers than this
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
        /// So many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shows one, with the record
    Show {
        #[command(flatten)]
        job: FileArgs,
        /// Its number
        id: u64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Puts them through again, each from the stage where it failed
    Replay {
        #[command(flatten)]
        job: FileArgs,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Drops them for good
    Drop {
        #[command(flatten)]
        job: FileArgs,
        #[command(flatten)]
        which: Which,
    },
}

/// Which of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Their numbers
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Runs it.
pub(super) fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Ls {
            job,
            json,
            after,
            limit,
        } => list(&job, json, after, limit, &env),
        Command::Show { job, id, json } => show(&job, id, json, &env),
        Command::Replay { job, which, output } => replay_with(&job, which.ids, &output, env),
        Command::Drop { job, which } => discard(&job, which.ids, &env),
    }
}

/// `replay`; no id stands for all.
pub(crate) fn replay(job: &FileArgs, ids: Vec<u64>, env: Environment) -> Result<(), Failure> {
    replay_with(job, ids, &Output::default(), env)
}

fn replay_with(
    job: &FileArgs,
    ids: Vec<u64>,
    output: &Output,
    env: Environment,
) -> Result<(), Failure> {
    let definition = read(&job.file, &env)?;
    all_there(&look(&definition)?, &ids)?;
    let selection = if ids.is_empty() {
        Selection::All
    } else {
        Selection::Ids(ids)
    };
    super::replay(&definition, &selection, output, env)
}

/// `drop`; no id stands for all.
pub(crate) fn discard(job: &FileArgs, ids: Vec<u64>, env: &Environment) -> Result<(), Failure> {
    let state = look(&read(&job.file, env)?)?;
    all_there(&state, &ids)?;
    let ids = Some(ids).filter(|ids| !ids.is_empty());
    let dropped = runtime()?.block_on(state.drop_dead(ids));
    let dropped = dropped.map_err(Failure::new)?;
    terminal::line(format_args!("{dropped} dropped"))
}

/// Each of these numbers is one of a letter.
fn all_there(state: &State, ids: &[u64]) -> Result<(), Failure> {
    let runtime = runtime()?;
    for &id in ids {
        letter(&runtime, state, id)?;
    }
    Ok(())
}

fn letter(runtime: &Runtime, state: &State, id: u64) -> Result<DeadLetter, Failure> {
    let letter = runtime.block_on(state.dead_letter(id));
    letter.map_err(Failure::new)?.ok_or_else(|| {
        Failure::new(format_args!("there is no dead letter {id}"))
            .hint("`forebay job dead ls FILE` lists them")
    })
}

fn look(definition: &Definition) -> Result<State, Failure> {
    State::look(&definition.state_dir()).map_err(Failure::new)
}

/// `ls`.
pub(crate) fn list(
    job: &FileArgs,
    json: bool,
    after: u64,
    limit: u32,
    env: &Environment,
) -> Result<(), Failure> {
    let state = look(&read(&job.file, env)?)?;
    let page = runtime()?.block_on(state.dead(after, limit));
    let page = page.map_err(Failure::new)?;
    for letter in &page.letters {
        if json {
            terminal::line(to_json(letter)?)?;
        } else {
            let error: String = letter.error.chars().take(SHOWN).collect();
            let DeadLetter {
                id,
                at,
                stage,
                origin,
                ..
            } = letter;
            terminal::line(format_args!(
                "{id:>6}  {at}  {stage:<10}  {origin}  {error}"
            ))?;
        }
    }
    let shown = page.letters.len() as u64;
    if shown < page.total {
        terminal::note(format_args!("{shown} of {}", page.total));
    }
    Ok(())
}

/// `show`.
pub(crate) fn show(job: &FileArgs, id: u64, json: bool, env: &Environment) -> Result<(), Failure> {
    let state = look(&read(&job.file, env)?)?;
    let letter = letter(&runtime()?, &state, id)?;
    if json {
        return terminal::line(to_json(&letter)?);
    }
    let mut out = String::new();
    let status = letter.status.map_or("none".to_owned(), |s| s.to_string());
    // Writing to a String can't fail.
    _ = writeln!(
        out,
        "number    {}\nat        {}\nfrom      {}\nstage     {}\nrequest   {}\nstatus    {status}\nattempts  {}\nerror     {}\n",
        letter.id,
        letter.at,
        letter.origin,
        letter.stage,
        letter.request,
        letter.attempts,
        letter.error
    );
    terminal::data(out)?;
    terminal::bytes(&letter.body)?;
    terminal::line("")
}

fn to_json(letter: &DeadLetter) -> Result<String, Failure> {
    serde_json::to_string(letter).map_err(Failure::new)
}
