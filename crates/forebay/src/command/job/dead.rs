//! `forebay job dead`: records that a job has set aside.

use std::fmt::Write as _;

use forebay_pull::Selection;
use forebay_pull::definition::Definition;
use forebay_pull::state::{DeadLetter, State};

use super::{FileArgs, Output, read, replay, runtime};
use crate::config::Environment;
use crate::failure::Failure;
use crate::terminal;

/// Characters of an error in the list.
const SHOWN: usize = 100;

/// Looks at records that a job has set aside, and puts them through again.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists them
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

impl Which {
    fn selection(self) -> Selection {
        if self.all {
            Selection::All
        } else {
            Selection::Ids(self.ids)
        }
    }
}

/// Runs it.
pub(super) fn run(command: Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Ls {
            job,
            json,
            after,
            limit,
        } => list(&read(&job.file, &env)?, json, after, limit),
        Command::Show { job, id } => show(&read(&job.file, &env)?, id),
        Command::Replay { job, which, output } => {
            let definition = read(&job.file, &env)?;
            replay(&definition, &which.selection(), &output, env)
        }
        Command::Drop { job, which } => {
            let state = look(&read(&job.file, &env)?)?;
            let ids = match which.selection() {
                Selection::All => None,
                Selection::Ids(ids) => Some(ids),
            };
            let wanted = ids.as_ref().map(Vec::len);
            let dropped = runtime()?.block_on(state.drop_dead(ids));
            let dropped = dropped.map_err(Failure::new)?;
            terminal::note(format_args!("{dropped} dropped"));
            match wanted {
                Some(wanted) if dropped < wanted as u64 => Err(Failure::new(format_args!(
                    "{} of these numbers are none",
                    wanted as u64 - dropped
                ))),
                _ => Ok(()),
            }
        }
    }
}

fn look(definition: &Definition) -> Result<State, Failure> {
    State::look(&definition.state_dir()).map_err(Failure::new)
}

fn list(definition: &Definition, json: bool, after: u64, limit: u32) -> Result<(), Failure> {
    let state = look(definition)?;
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

fn show(definition: &Definition, id: u64) -> Result<(), Failure> {
    let state = look(definition)?;
    let letter = runtime()?.block_on(state.dead_letter(id));
    let Some(letter) = letter.map_err(Failure::new)? else {
        return Err(Failure::new(format_args!("there is no dead letter {id}"))
            .hint("`forebay job dead ls FILE` lists them"));
    };
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
