//! Reads definition files: one, or all of a folder.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use forebay_schema::yaml::{PlainScalars, YamlNode, YamlPositions, YamlSpan};
use forebay_schema::{DocumentViolation, SchemaView, document_violations};

use super::problem::{DefinitionProblem, LineQuote};
use super::schema::{definition_schema, for_each_secret, secret_names};
use super::{DefinitionFile, SourceDefinition};
use crate::cli_error::CliError;
use crate::config::{Environment, substitute};

/// Most files of a folder.
const FILES_MAX: usize = 1000;
/// Bytes of all files.
const BYTES_MAX: u64 = 64 << 20;
/// Longest name of a set.
const SET_CHARS_MAX: usize = 64;

/// The sources of several files.
#[derive(Clone, Debug, Default)]
pub(crate) struct DefinitionSet {
    files: Vec<DefinitionText>,
    /// In the order of the files.
    pub(crate) sources: Vec<PlacedSource>,
}

/// A source and where it is.
#[derive(Clone, Debug)]
pub(crate) struct PlacedSource {
    /// Index of the file.
    file: usize,
    /// Index in the file.
    index: usize,
    pub(crate) definition: SourceDefinition,
}

/// A file, for its problems.
#[derive(Clone, Debug, Default)]
struct DefinitionText {
    name: String,
    text: String,
    positions: YamlPositions,
    /// Positions of secrets.
    secrets: Vec<YamlSpan>,
}

/// Texts of definition files, by name.
pub(crate) type DefinitionTexts = Vec<(String, String)>;

/// Reads files and folders. Of a folder these are its files `*.yaml` and `*.yml`, sorted by name.
pub(crate) fn read_texts(paths: &[PathBuf]) -> Result<DefinitionTexts, CliError> {
    let mut files = Vec::new();
    for path in paths {
        let is_stdin = path == Path::new("-");
        if !is_stdin
            && std::fs::metadata(path)
                .map_err(|e| unreadable(path, &e))?
                .is_dir()
        {
            files.extend(files_of(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut texts = Vec::with_capacity(files.len());
    let mut left = BYTES_MAX;
    for file in files {
        let text = read_text(&file, left)?;
        left -= text.len() as u64;
        texts.push((file.display().to_string(), text));
    }
    Ok(texts)
}

/// The definition files of a folder, sorted; at least one.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let path = entry.map_err(|e| unreadable(folder, &e))?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if is_yaml && !is_hidden && path.is_file() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            let folder = folder.display();
            return Err(CliError::usage(format_args!(
                "{folder} has more than {FILES_MAX} definition files"
            )));
        }
    }
    if files.is_empty() {
        let folder = folder.display();
        return Err(CliError::usage(format_args!(
            "{folder} has no definition files (*.yaml, *.yml)"
        )));
    }
    files.sort();
    Ok(files)
}

/// A text of at most `max` bytes.
fn read_text(file: &Path, max: u64) -> Result<String, CliError> {
    let mut text = String::new();
    let mut read = |from: &mut dyn Read| from.take(max + 1).read_to_string(&mut text);
    let read = match file == Path::new("-") {
        true => read(&mut std::io::stdin().lock()),
        false => std::fs::File::open(file).and_then(|mut file| read(&mut file)),
    };
    read.map_err(|e| unreadable(file, &e))?;
    if text.len() as u64 > max {
        let megabytes = BYTES_MAX >> 20;
        return Err(CliError::usage(format_args!(
            "the definition files have more than {megabytes} MB"
        )));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::usage(format_args!("can't read {}: {error}", path.display()))
}

/// Name of the set of a folder: the folder's name. `None` for files.
pub(crate) fn set_of_folder(paths: &[PathBuf]) -> Option<String> {
    let [folder] = paths else { return None };
    let folder = std::fs::canonicalize(folder).ok()?;
    if !folder.is_dir() {
        return None;
    }
    let name = folder.file_name()?.to_string_lossy().into_owned();
    Some(name.chars().take(SET_CHARS_MAX).collect())
}

impl DefinitionSet {
    /// Parses and validates files; returns all problems.
    pub(crate) fn from_texts(
        texts: DefinitionTexts,
        env: &Environment,
    ) -> Result<Self, Vec<DefinitionProblem>> {
        let mut set = Self::default();
        let mut problems = Vec::new();
        for (name, text) in texts {
            let file = set.files.len();
            match set.parse(name, text, env) {
                Ok(definitions) => {
                    let sources = definitions.sources.into_iter().enumerate();
                    set.sources
                        .extend(sources.map(|(index, definition)| PlacedSource {
                            file,
                            index,
                            definition,
                        }));
                }
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(set.violations());
        if problems.is_empty() {
            Ok(set)
        } else {
            Err(problems)
        }
    }

    /// Adds a file, and parses it.
    fn parse(
        &mut self,
        name: String,
        text: String,
        env: &Environment,
    ) -> Result<DefinitionFile, Vec<DefinitionProblem>> {
        let index = self.files.len();
        let parsed = YamlNode::parse_finite(&text);
        self.files.push(DefinitionText {
            name,
            text,
            ..DefinitionText::default()
        });
        let node = match parsed {
            Ok(node) => node,
            Err(error) => return Err(vec![self.syntax_problem(index, error)]),
        };
        let schema = definition_schema();
        let mut document = node.value();
        let file = &mut self.files[index];
        file.positions = YamlPositions::of(&node);
        let violations = document_violations(schema, &mut document, &PlainScalars::of(&node));
        let mut unresolved = Vec::new();
        for_each_secret(
            &SchemaView::root(schema),
            &mut document,
            "",
            &mut |path, secret| {
                file.secrets.extend(file.positions.value(path));
                match substitute(secret, env) {
                    Ok(None) => {}
                    Ok(Some(text)) => *secret = text,
                    Err(message) => {
                        let name = path.rsplit('.').next().unwrap_or(path);
                        unresolved.push((path.to_owned(), format!("{name}: {message}")));
                    }
                }
            },
        );
        let mut problems: Vec<DefinitionProblem> = Vec::new();
        problems.extend(violations.iter().map(|v| self.schema_problem(index, v)));
        let unresolved = unresolved.into_iter();
        problems.extend(unresolved.map(|(path, message)| self.problem(index, &path, message)));
        if !problems.is_empty() {
            return Err(problems);
        }
        match serde_path_to_error::deserialize::<_, DefinitionFile>(document) {
            Ok(definitions) if definitions.sources.is_empty() => {
                let message = format!("{} has no sources", self.files[index].name);
                Err(vec![self.problem(index, "sources", message)])
            }
            Ok(definitions) => Ok(definitions),
            Err(error) => {
                let path = error.path().to_string();
                Err(vec![self.problem(
                    index,
                    &path,
                    error.into_inner().to_string(),
                )])
            }
        }
    }

    fn schema_problem(&self, file: usize, violation: &DocumentViolation) -> DefinitionProblem {
        let path = &violation.path;
        let message = if violation.is_null && !path.is_empty() {
            "this is null in YAML, but a value is expected: write a text in quotes, or remove the key"
                .to_owned()
        } else {
            // The position replaces all but the last name of the path.
            let short = path.rsplit('.').next().unwrap_or(path);
            match violation.message.strip_prefix(path.as_str()) {
                Some(rest) if !path.is_empty() => format!("{short}{rest}"),
                _ => violation.message.clone(),
            }
        };
        if !violation.is_unknown_key {
            return self.problem(file, path, message);
        }
        // The value of an unknown key may be a secret.
        let text = &self.files[file];
        let span = text.positions.key(path);
        let hidden = span.map(|key| key.column + key.length as u64 + 1);
        self.problem_at(file, path, message, span, hidden)
    }

    fn syntax_problem(
        &self,
        file: usize,
        error: forebay_schema::yaml::YamlError,
    ) -> DefinitionProblem {
        let span = error.place.map(|(line, column)| YamlSpan {
            line,
            column,
            length: 1,
        });
        let hidden = span.and_then(|span| {
            let index = usize::try_from(span.line).ok()?.checked_sub(1)?;
            possible_secret(&self.files[file].text, index)
        });
        self.problem_at(file, "", error.text, span, hidden)
    }

    /// A problem of the value at a path in a file.
    fn problem(&self, file: usize, path: &str, message: String) -> DefinitionProblem {
        let span = self.files[file].positions.nearest(path);
        self.problem_at(file, path, message, span, None)
    }

    fn problem_at(
        &self,
        file: usize,
        path: &str,
        message: String,
        span: Option<YamlSpan>,
        hidden: Option<u64>,
    ) -> DefinitionProblem {
        let DefinitionText {
            name,
            text,
            secrets,
            ..
        } = &self.files[file];
        let quote = span.and_then(|span| {
            let here = secrets.iter().filter(|secret| secret.line == span.line);
            let here = here.map(|secret| secret.column);
            LineQuote::new(text, span, here.chain(hidden))
        });
        DefinitionProblem {
            file: name.clone(),
            line: span.map(|span| span.line),
            column: span.map(|span| span.column),
            path: path.to_owned(),
            message,
            quote,
        }
    }

    /// A problem of a source or its sink. `field` is a path below it, or empty.
    pub(crate) fn problem_of(
        &self,
        source: usize,
        sink: Option<usize>,
        field: &str,
        message: String,
    ) -> Option<DefinitionProblem> {
        let placed = self.sources.get(source)?;
        let mut path = format!("sources[{}]", placed.index);
        if let Some(sink) = sink {
            path.push_str(&format!(".sinks[{sink}]"));
        }
        if !field.is_empty() {
            path.push_str(&format!(".{field}"));
        }
        Some(self.problem(placed.file, &path, message))
    }

    /// Problems beyond the schema.
    fn violations(&self) -> Vec<DefinitionProblem> {
        let mut problems = Vec::new();
        let mut ids = BTreeSet::new();
        for (i, placed) in self.sources.iter().enumerate() {
            let source = &placed.definition;
            let message = match source.source_id() {
                Ok(id) if ids.insert(id.clone()) => None,
                Ok(id) => Some(format!(
                    "source {id} is defined twice: change the name or id of one of them"
                )),
                Err(e) => Some(e.to_string()),
            };
            let field = if source.id.is_some() { "id" } else { "name" };
            problems.extend(message.and_then(|m| self.problem_of(i, None, field, m)));
            let mut sink_ids = BTreeSet::new();
            for (k, sink) in source.sinks.iter().enumerate() {
                let found = sink.violation().or_else(|| match sink.sink_id() {
                    Ok(id) if sink_ids.insert(id.clone()) => None,
                    Ok(id) => Some((
                        "name",
                        format!("sink {id} is defined twice: change the name or id of one of them"),
                    )),
                    Err(e) => Some(("name", e.to_string())),
                });
                let problem = found.and_then(|(field, m)| self.problem_of(i, Some(k), field, m));
                problems.extend(problem);
            }
        }
        problems
    }
}

/// Column from which a line may have a secret, by the names before it: in a text with an error of syntax
/// it is not known where the secrets are.
fn possible_secret(text: &str, index: usize) -> Option<u64> {
    let before: Vec<&str> = text.lines().take(index + 1).collect();
    let (line, above) = before.split_last()?;
    let after_name = |line: &str| {
        let names = secret_names().iter();
        let ends = names.filter_map(|name| {
            let before = line.split_once(name.as_str())?.0;
            Some((before.chars().count() + name.chars().count()) as u64)
        });
        ends.min()
    };
    if let Some(end) = after_name(line) {
        return Some(end + 1);
    }
    // Otherwise it may be below such a name.
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with('-');
    let mut inner = *line;
    for outer in above.iter().rev().filter(|line| !line.trim().is_empty()) {
        let is_list = is_item(inner) && !is_item(outer) && indent(outer) == indent(inner);
        if indent(outer) >= indent(inner) && !is_list {
            continue;
        }
        if after_name(outer).is_some() {
            return Some(indent(line) as u64 + 1);
        }
        inner = outer;
    }
    None
}

/// Error with all problems of files, as a compiler reports them.
pub(crate) fn invalid_files(problems: &[DefinitionProblem]) -> CliError {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    CliError::usage(texts.join("\n\nerror: "))
}

/// The same, of files that would have changed a server.
pub(crate) fn problems_error(problems: &[DefinitionProblem]) -> CliError {
    let hint = match problems.len() {
        1 => "nothing was changed".to_owned(),
        many => format!("{many} problems; nothing was changed"),
    };
    invalid_files(problems).hint(format_args!("\n{hint}"))
}
