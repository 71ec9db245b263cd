//! Statements from standard input, one after the other.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use clap::ValueEnum;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config as EditorConfig, Editor};

use super::database::QueryDatabase;
use super::print::{QueryFailure, print};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::query::QueryFormat;
use crate::terminal;

/// Lines of the history.
const HISTORY_MAX: usize = 1000;
/// Longest statement.
const STATEMENT_BYTES_MAX: usize = 1 << 20;

const HELP: &str = "\
A statement ends with a semicolon. Only reads are allowed.
.tables          tables, as they are written in statements
.schema TABLE    columns of a table
.mode [FORMAT]   table, json, csv, ndjson, markdown or line
.help            this text
.quit            end; so does Ctrl-D";

/// Where lines come from.
enum LineReader {
    Terminal(Box<Editor<(), FileHistory>>, Option<PathBuf>),
    Pipe(Box<dyn BufRead>),
}

impl LineReader {
    /// On a terminal with editing and a history in the user's state directory.
    fn open(env: &Environment) -> Result<Self, CliError> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Pipe(Box::new(std::io::stdin().lock())));
        }
        let failed = |e: ReadlineError| CliError::new(format_args!("can't use the terminal: {e}"));
        let config = EditorConfig::builder()
            .max_history_size(HISTORY_MAX)
            .and_then(|c| c.history_ignore_dups(true))
            .map_err(failed)?
            .auto_add_history(true)
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        let file = history_file(env);
        if let Some(file) = &file {
            // A new or unreadable history is empty.
            drop(editor.load_history(file));
        }
        Ok(Self::Terminal(Box::new(editor), file))
    }

    /// The next line; `None` at the end. `is_first` is false within a statement.
    fn next(&mut self, is_first: bool) -> Result<Option<String>, CliError> {
        match self {
            Self::Terminal(editor, _) => loop {
                match editor.readline(if is_first { "forebay> " } else { "    ...> " }) {
                    Ok(line) => return Ok(Some(line)),
                    Err(ReadlineError::Eof) => return Ok(None),
                    // Ctrl-C: another try.
                    Err(ReadlineError::Interrupted) if is_first => {}
                    Err(ReadlineError::Interrupted) => return Ok(Some(String::new())),
                    Err(e) => return Err(CliError::new(format_args!("can't read a line: {e}"))),
                }
            },
            Self::Pipe(input) => {
                let mut line = String::new();
                let mut limited = input.take(STATEMENT_BYTES_MAX as u64 + 1);
                let read = limited.read_line(&mut line);
                let read = read
                    .map_err(|e| CliError::usage(format_args!("can't read standard input: {e}")))?;
                Ok((read > 0).then_some(line))
            }
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(..))
    }
}

impl Drop for LineReader {
    fn drop(&mut self) {
        if let Self::Terminal(editor, Some(file)) = self {
            let parent = file.parent().map_or(Ok(()), std::fs::create_dir_all);
            let saved = parent
                .map_err(|e| e.to_string())
                .and_then(|()| editor.save_history(file).map_err(|e| e.to_string()));
            if let Err(e) = saved {
                terminal::note(format_args!(
                    "the history was not saved in {}: {e}",
                    file.display()
                ));
            }
        }
    }
}

/// In the state directory of the user (XDG Base Directory).
fn history_file(env: &Environment) -> Option<PathBuf> {
    let state = env.get("XDG_STATE_HOME").map(PathBuf::from);
    let home = env
        .get("HOME")
        .map(|home| PathBuf::from(home).join(".local/state"));
    let dir = state.filter(|dir| dir.is_absolute()).or(home)?;
    Some(dir.join("forebay/query_history"))
}

/// Runs statements until the end of the input. From a pipe, the first error ends it.
pub(super) async fn run(
    database: &QueryDatabase,
    format: QueryFormat,
    limit: Option<u64>,
    env: &Environment,
) -> Result<(), CliError> {
    let mut lines = LineReader::open(env)?;
    if lines.is_terminal() {
        terminal::note(format_args!(
            "{}; .help lists the commands",
            database.name()
        ));
    }
    let mut session = QuerySession {
        database,
        format,
        limit,
    };
    let (mut statement, mut is_used) = (String::new(), false);
    while let Some(line) = lines.next(statement.is_empty())? {
        let text = line.trim();
        if statement.is_empty() && text.is_empty() {
            continue;
        }
        is_used = true;
        let done = if statement.is_empty() && text.starts_with('.') {
            match session.command(text).await {
                Ok(true) => return Ok(()),
                Ok(false) => Ok(()),
                Err(e) => Err(e),
            }
        } else {
            statement.push_str(line.trim_end());
            statement.push('\n');
            if statement.len() > STATEMENT_BYTES_MAX {
                return Err(CliError::usage("the statement is longer than 1 MB"));
            }
            // An empty line ends a statement that was begun by mistake.
            if text.is_empty() && lines.is_terminal() {
                statement.clear();
            }
            if text.ends_with(';') {
                session.run(&std::mem::take(&mut statement)).await
            } else {
                Ok(())
            }
        };
        match done {
            Err(failure) if failure.code() == 0 || !lines.is_terminal() => return Err(failure),
            Err(failure) => terminal::print_error(&failure),
            Ok(()) => {}
        }
    }
    if !statement.trim().is_empty() {
        return session.run(&statement).await;
    }
    if is_used || lines.is_terminal() {
        return Ok(());
    }
    Err(CliError::usage("there is no statement")
        .hint("give one as an argument, or on standard input"))
}

struct QuerySession<'d> {
    database: &'d QueryDatabase,
    format: QueryFormat,
    limit: Option<u64>,
}

impl QuerySession<'_> {
    /// Runs a command; returns whether the session ends.
    async fn command(&mut self, text: &str) -> Result<bool, CliError> {
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let argument = argument.trim().trim_end_matches(';');
        match (name, argument) {
            (".quit" | ".exit", _) => return Ok(true),
            (".help", _) => terminal::line(HELP)?,
            (".tables", _) => self.run(self.database.tables_sql()).await?,
            (".schema", "") => {
                return Err(CliError::usage(".schema needs a table; .tables lists them"));
            }
            (".schema", table) => self.run(&self.database.schema_sql(table)).await?,
            (".mode", "") => {
                let name = self.format.to_possible_value();
                terminal::line(name.as_ref().map_or("", |n| n.get_name()))?;
            }
            (".mode", mode) => {
                self.format = QueryFormat::from_str(mode, true).map_err(|_| {
                    let all = QueryFormat::value_variants().iter();
                    let all =
                        all.filter_map(|f| Some(f.to_possible_value()?.get_name().to_owned()));
                    let all = all.collect::<Vec<_>>().join(", ");
                    CliError::usage(format_args!("mode is \"{mode}\", allowed are {all}"))
                })?;
            }
            _ => {
                return Err(CliError::usage(format_args!(
                    "unknown command {name}; .help lists the commands"
                )));
            }
        }
        Ok(false)
    }

    async fn run(&self, sql: &str) -> Result<(), CliError> {
        match print(self.database, sql, self.format, self.limit).await {
            Ok(()) => Ok(()),
            Err(QueryFailure::Output(failure)) => Err(failure),
            Err(QueryFailure::Query(error)) => {
                let failure = CliError::new(&error);
                Err(match self.database.hint(&error, sql).await {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_in_the_state_directory() {
        let of = |env: Environment| history_file(&env).map(|f| f.display().to_string());
        let file = |dir: &str| Some(format!("{dir}/forebay/query_history"));
        assert_eq!(of([("HOME", "/h")].into()), file("/h/.local/state"));
        assert_eq!(
            of([("HOME", "/h"), ("XDG_STATE_HOME", "/s")].into()),
            file("/s")
        );
        assert_eq!(
            of([("HOME", "/h"), ("XDG_STATE_HOME", "relative")].into()),
            file("/h/.local/state")
        );
        assert_eq!(of(Environment::from([])), None);
    }
}
