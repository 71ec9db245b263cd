//! The definition file of `forebay apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use forebay_model::{SinkId, SourceId};
use forebay_schema::nearest;
use forebay_schema::yaml::{self, YamlError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::definition_lines::DefinitionLines;
use super::{ColumnDefinition, TopicDefinition, VerifyDefinition};
use crate::cli_error::CliError;
use crate::config::Environment;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefinitionFile {
    /// At least one.
    pub(crate) sources: Vec<SourceDefinition>,
    /// Name of the file, and line numbers.
    #[serde(skip)]
    pub(crate) places: (String, DefinitionLines),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceDefinition {
    pub(crate) name: String,
    /// Default: made from the name.
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) description: String,
    /// Settings of the source (`source.…`) and defaults of its sinks, by name; the prefix
    /// `storage.level.` is optional.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, Value>,
    /// Signature that requests must have; without it the server's is unchanged.
    #[serde(default)]
    pub(crate) verify: Option<VerifyDefinition>,
    #[serde(default)]
    pub(crate) sinks: Vec<SinkDefinition>,
}

/// A table or topic: it has exactly one of `table`, `kafka` and `http`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SinkDefinition {
    /// `<in|out>.<bucket>.<table>`.
    #[serde(default)]
    pub(crate) table: Option<String>,
    /// A Kafka topic.
    #[serde(default)]
    pub(crate) kafka: Option<TopicDefinition>,
    /// An HTTP endpoint.
    #[serde(default)]
    pub(crate) http: Option<TopicDefinition>,
    /// Table backend, if not the server's default.
    #[serde(default)]
    pub(crate) backend: Option<String>,
    /// Default: the last part of the table id, or the topic.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Default: made from the name.
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) description: String,
    /// Settings by name; the prefix `storage.level.` is optional.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, Value>,
    /// Only of a table, in order.
    #[serde(default)]
    pub(crate) columns: Vec<ColumnDefinition>,
}

impl DefinitionFile {
    /// Reads and validates a file; errors have the line.
    pub(crate) fn read(file: &Path, env: &Environment) -> Result<Self, CliError> {
        let shown = file.display();
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(file)
        };
        let text = text.map_err(|e| CliError::usage(format_args!("can't read {shown}: {e}")))?;
        let mut definitions: Self =
            serde_saphyr::from_str(&text).map_err(|e| parse_failure(&shown.to_string(), &e))?;
        if definitions.sources.is_empty() {
            return Err(CliError::usage(format_args!("{shown} has no sources")));
        }
        definitions.places = (shown.to_string(), DefinitionLines::from_text(&text));
        let mut problems = definitions.substitute(env);
        problems.extend(definitions.violations());
        if problems.is_empty() {
            Ok(definitions)
        } else {
            Err(definition_error(&problems))
        }
    }

    /// Replaces the references in secrets; returns the problems, each with its line.
    fn substitute(&mut self, env: &Environment) -> Vec<String> {
        let mut problems = Vec::new();
        for i in 0..self.sources.len() {
            let place = self.location(i, None);
            let source = &mut self.sources[i];
            if let Some(Err(problem)) = source.verify.as_mut().map(|v| v.substitute(env)) {
                problems.push(format!("{place}source \"{}\": {problem}", source.name));
            }
        }
        problems
    }

    /// Violations found without the server, each with its line.
    fn violations(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut sources = BTreeSet::new();
        for (i, source) in self.sources.iter().enumerate() {
            match source.source_id() {
                Ok(id) if !sources.insert(id.clone()) => problems.push(format!(
                    "{}source {id} is defined twice: change the name or id of one of them",
                    self.location(i, None)
                )),
                Ok(_) => {}
                Err(e) => problems.push(format!("{}{e}", self.location(i, None))),
            }
            let mut sinks = BTreeSet::new();
            for (k, sink) in source.sinks.iter().enumerate() {
                let location = self.location(i, Some(k));
                if let Some(problem) = sink.violation() {
                    problems.push(format!("{location}{problem}"));
                    continue;
                }
                match sink.sink_id() {
                    Ok(id) if !sinks.insert(id.clone()) => problems.push(format!(
                        "{location}sink {id} is defined twice: change the name or id of one of them"
                    )),
                    Ok(_) => {}
                    Err(e) => problems.push(format!("{location}{e}")),
                }
            }
        }
        problems
    }

    /// Prefix `file:line: ` of a source or its sink.
    pub(crate) fn location(&self, source: usize, sink: Option<usize>) -> String {
        let (file, lines) = &self.places;
        match lines.line(source, sink) {
            Some(line) => format!("{file}:{line}: "),
            None => format!("{file}: "),
        }
    }
}

/// Error with all violations of a file.
pub(crate) fn definition_error(problems: &[String]) -> CliError {
    match problems {
        [one] => CliError::usage(one),
        many => CliError::usage(format_args!(
            "{} problems:\n  {}",
            many.len(),
            many.join("\n  ")
        )),
    }
}

/// Parse error with line, column and a suggestion.
pub(crate) fn parse_failure(file: &str, error: &serde_saphyr::Error) -> CliError {
    let YamlError { place, text } = yaml::yaml_error(error);
    let place = place.map(|(line, column)| format!(":{line}:{column}"));
    let failure = CliError::usage(format_args!("{file}{}: {text}", place.unwrap_or_default()));
    match unknown_field(&text).and_then(|(given, names)| nearest(given, names)) {
        Some(name) => failure.hint(format_args!("did you mean {name}?")),
        None => failure,
    }
}

/// The unknown name and the known ones, from "unknown field `x`, expected one of a, b".
fn unknown_field(text: &str) -> Option<(&str, Vec<&str>)> {
    let rest = text.strip_prefix("unknown field `")?;
    let (given, rest) = rest.split_once('`')?;
    let (_, names) = rest.split_once("expected ")?;
    let names = names.strip_prefix("one of ").unwrap_or(names).split(',');
    Some((given, names.map(|n| n.trim().trim_matches('`')).collect()))
}

impl SourceDefinition {
    /// Id in the API.
    pub(crate) fn source_id(&self) -> Result<String, CliError> {
        let given = self.id.as_ref().unwrap_or(&self.name);
        let id = SourceId::from_name(given);
        id.map(|id| id.to_string())
            .map_err(|e| CliError::usage(format_args!("id of source \"{}\": {e}", self.name)))
    }

    /// API request that creates it.
    pub(crate) fn request(&self, id: &str) -> Value {
        let mut request = json!({
            "type": "http",
            "sourceId": id,
            "name": self.name,
            "description": self.description,
        });
        if let Some(verify) = &self.verify {
            request["verify"] = verify.request();
        }
        request
    }
}

impl SinkDefinition {
    pub(crate) fn shown_name(&self) -> &str {
        let of_table = self.table.as_ref().and_then(|t| t.rsplit('.').next());
        let of_topic = self.topic().map(|(_, topic)| topic.shown_name());
        let own = self.name.as_deref();
        own.or(of_table).or(of_topic).unwrap_or_default()
    }

    /// Topic and its type, for a topic sink.
    pub(crate) fn topic(&self) -> Option<(&'static str, &TopicDefinition)> {
        let kafka = self.kafka.as_ref().map(|topic| ("kafka", topic));
        kafka.or(self.http.as_ref().map(|topic| ("http", topic)))
    }

    fn violation(&self) -> Option<String> {
        let targets = [
            self.table.is_some(),
            self.kafka.is_some(),
            self.http.is_some(),
        ];
        let name = self.shown_name();
        if targets.iter().filter(|t| **t).count() != 1 {
            return Some(format!(
                "sink \"{name}\" needs one of table, kafka and http"
            ));
        }
        let of_table = !self.columns.is_empty() || self.backend.is_some();
        if self.table.is_none() && of_table {
            return Some(format!(
                "sink \"{name}\" is a topic: columns and backend are only for tables, see message"
            ));
        }
        (self.table.is_some() && self.columns.is_empty())
            .then(|| format!("sink \"{name}\" has no columns"))
    }

    /// Id in the API.
    pub(crate) fn sink_id(&self) -> Result<String, CliError> {
        let given = self.id.as_deref().unwrap_or_else(|| self.shown_name());
        let id = SinkId::from_name(given);
        id.map(|id| id.to_string())
            .map_err(|e| CliError::usage(format_args!("id of sink \"{}\": {e}", self.shown_name())))
    }

    /// Backend in the API.
    pub(crate) fn backend_name(&self) -> &str {
        self.backend.as_deref().unwrap_or("keboola")
    }

    /// API request that creates it.
    pub(crate) fn request(&self, id: &str) -> Value {
        if let Some((kind, topic)) = self.topic() {
            return json!({
                "type": kind,
                "sinkId": id,
                "name": self.shown_name(),
                "description": self.description,
                "topic": topic.request(id),
            });
        }
        let columns: Vec<Value> = self.columns.iter().map(ColumnDefinition::request).collect();
        json!({
            "type": "table",
            "sinkId": id,
            "name": self.shown_name(),
            "description": self.description,
            "table": {
                "type": self.backend_name(),
                "tableId": self.table,
                "mapping": { "columns": columns },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DefinitionFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.yaml");
        std::fs::write(&file, text).unwrap();
        let place = format!("{}/", dir.path().display());
        let env = Environment::from([("HOOK_SECRET", "secret-of-the-sender")]);
        DefinitionFile::read(&file, &env).map_err(|e| e.to_string().replace(&place, ""))
    }

    #[test]
    fn the_readme_example_is_valid() {
        let text = "\
sources:
  - name: My events
    sinks:
      - name: Events
        table: in.demo.events
        columns:
          - { name: id, type: uuid }
          - { name: user, type: path, path: user.id, rawString: true, defaultValue: 0 }
          - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }
";
        let definitions = read(text).unwrap();
        let source = &definitions.sources[0];
        assert_eq!(source.source_id().unwrap(), "my-events");
        let sink = &source.sinks[0];
        assert_eq!(sink.sink_id().unwrap(), "events");
        let request = sink.request("events");
        assert_eq!(request["table"]["tableId"], "in.demo.events");
        assert_eq!(
            request["table"]["mapping"]["columns"][1]["defaultValue"],
            "0"
        );
        let template = &request["table"]["mapping"]["columns"][2]["template"];
        assert_eq!(template["content"], "Body(\"price\") * Body(\"count\")");
    }

    /// A file with one column of these fields.
    fn column(fields: &str) -> Result<Value, String> {
        let text = format!(
            "sources:\n  - name: a\n    sinks:\n      - table: in.a.b\n        columns:\n          - {fields}\n"
        );
        let definitions = read(&text)?;
        let request = definitions.sources[0].sinks[0].request("b");
        Ok(request["table"]["mapping"]["columns"][0].clone())
    }

    #[test]
    fn scalars_are_taken_literally() {
        for written in [
            "07302",
            "007",
            "1.10",
            "no",
            "n",
            "y",
            "Yes",
            "true",
            "1e3",
            "0x1F",
            "0o17",
            "1_000",
            "12345678901234567890123",
            "2024-01-01",
            "-0",
            "+1",
            ".inf",
            ".nan",
            "1.0E+2",
            "12:30:45",
            "\"1.10\"",
            "'~'",
            "!!str 1.10",
            "!!str null",
            "\"null\"",
        ] {
            let bare = written
                .trim_start_matches("!!str ")
                .trim_matches(['"', '\'']);
            let column = column(&format!(
                "{{ name: {written}, type: path, path: {written}, defaultValue: {written} }}"
            ));
            let column = column.unwrap_or_else(|e| panic!("{written}: {e}"));
            for field in ["name", "path", "defaultValue"] {
                assert_eq!(column[field], bare, "{written}");
            }
        }
        let block =
            column("name: a\n            type: static\n            value: |\n              1.10\n");
        assert_eq!(block.unwrap()["value"], "1.10\n");
        let anchored = column("{ name: &a 1.50, type: static, value: *a }").unwrap();
        assert_eq!(
            (&anchored["name"], &anchored["value"]),
            (&"1.50".into(), &"1.50".into())
        );
    }

    #[test]
    fn null_is_rejected_as_text() {
        for written in ["~", "null", "Null", ""] {
            let said =
                column(&format!("{{ name: a, type: static, value: {written} }}")).unwrap_err();
            assert!(said.starts_with("d.yaml:6:"), "{said}");
            assert!(
                said.contains("null in YAML") && said.contains("in quotes"),
                "{said}"
            );
        }
        let said = column("{ name: a, type: template, template: 1.10 }").unwrap_err();
        assert!(said.starts_with("d.yaml:6:"), "{said}");
        let said = read("sources: []\nsources: []\n").unwrap_err();
        assert!(said.contains("duplicate key \"sources\""), "{said}");
        let said = read("sources: []\n---\nsources: []\n").unwrap_err();
        assert!(said.contains("more than one document"), "{said}");
    }

    #[test]
    fn secrets_come_from_the_environment_and_files() {
        let verify = |secrets: &str| {
            let text = format!(
                "sources:\n  - name: a\n    verify: {{ type: github, secrets: {secrets} }}\n"
            );
            let definitions = read(&text)?;
            Ok::<_, String>(definitions.sources[0].request("a")["verify"].clone())
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "from-a-file\n").unwrap();
        let list = format!(
            "['${{HOOK_SECRET}}', '${{file:{}}}', a$$b]",
            file.path().display()
        );
        let expected =
            json!({ "type": "github", "secrets": ["secret-of-the-sender", "from-a-file", "a$b"] });
        assert_eq!(verify(&list).unwrap(), expected);
        let said = verify("['${OTHER}']").unwrap_err();
        assert!(
            said.starts_with("d.yaml:2: source \"a\": verify.secrets[0]: "),
            "{said}"
        );
        assert!(said.contains("OTHER"), "{said}");
    }

    #[test]
    fn strings_are_raw_unless_json_is_requested() {
        let raw = |fields: &str| column(fields).unwrap()["rawString"].clone();
        assert_eq!(raw("{ name: a, type: path, path: a }"), true);
        assert_eq!(
            raw("{ name: a, type: path, path: a, rawString: false }"),
            false
        );
        assert_eq!(raw("{ name: a, type: template, template: Ip() }"), true);
        assert_eq!(raw("{ name: a, type: uuid }"), Value::Null);
    }

    #[test]
    fn a_typo_is_reported_with_its_line_and_a_suggestion() {
        let said = read("sources:\n  - name: a\n    sink: []\n").unwrap_err();
        assert!(
            said.starts_with("d.yaml:3:5: unknown field `sink`"),
            "{said}"
        );
        assert!(said.ends_with("did you mean sinks?"), "{said}");
        let said = read("sources: []\n").unwrap_err();
        assert!(said.contains("has no sources"), "{said}");
    }
}
