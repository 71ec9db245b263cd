//! The pages of `docs/errors`: one per error name, generated from `errors.yaml`, complete and in agreement
//! with the OpenAPI document and with the source code. `UPDATE=1` rewrites them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::server::Server;

/// Files of which each error name needs a page, with the prefixes of its names.
const SOURCES: [(&str, &[&str]); 5] = [
    ("ingest/src/source/http/response.rs", &["stream.in."]),
    ("ingest/src/dispatch/outcome.rs", &["stream.in."]),
    ("ingest/src/source/http/report.rs", &["stream.in."]),
    ("record/src/error.rs", &["stream.in."]),
    ("listener/src/rejection.rs", &["stream.in.", "stream.api."]),
];

const NOTE: &str =
    "<!-- Generated from errors.yaml; UPDATE=1 cargo test -p forebay writes it anew. -->\n\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    errors: Vec<ErrorText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorText {
    name: String,
    status: Vec<u16>,
    meaning: String,
    cause: String,
    action: String,
    /// A message of this error.
    example: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn texts() -> Vec<ErrorText> {
    let text = fs::read_to_string(root().join("docs/errors/errors.yaml")).unwrap();
    serde_saphyr::from_str::<Texts>(&text).unwrap().errors
}

impl ErrorText {
    fn page(&self) -> String {
        let place = match self.name.split_once(".in.") {
            Some(_) => "a source (`POST /stream/…`)",
            None => "the management API",
        };
        let status = self.status.iter().map(ToString::to_string);
        let status = status.collect::<Vec<_>>().join(" or ");
        let body = format!(
            "{{\n  \"statusCode\": {},\n  \"error\": \"{}\",\n  \"message\": {}\n}}",
            self.status[0],
            self.name,
            Value::from(self.example.as_str())
        );
        format!(
            "{NOTE}# {name}\n\n{meaning}\n\nStatus {status}, response of {place}.\n\n## Cause\n\n{cause}\n\n\
             ## What to do\n\n{action}\n\n## Example\n\n```json\n{body}\n```\n",
            name = self.name,
            meaning = self.meaning.trim(),
            cause = self.cause.trim(),
            action = self.action.trim(),
        )
    }
}

fn index(texts: &[ErrorText]) -> String {
    let mut page = format!(
        "{NOTE}# Error codes\n\n\
         Each error response is JSON with `statusCode`, `error` and `message`. `error` is the name of one of these \
         pages. `stream.in.…` are responses of a source, all others of the management API. The lookup service uses the \
         names of the listener ([tooManyConnections](stream.api.tooManyConnections.md) and similar) without a \
         prefix.\n\n\
         A response to a batch, or to a source with several sinks, has an error for each sink (`sinks`) and each rejected \
         record (`rejected`).\n\n| error | status | meaning |\n| --- | --- | --- |\n"
    );
    for text in texts {
        let status = text.status.iter().map(ToString::to_string);
        let status = status.collect::<Vec<_>>().join(", ");
        let (name, meaning) = (&text.name, text.meaning.trim());
        writeln!(page, "| [{name}]({name}.md) | {status} | {meaning} |").unwrap();
    }
    page
}

/// Compares a page with the file, or writes it.
fn check(file: &str, page: &str, expected: &mut BTreeSet<String>) {
    let path = root().join("docs/errors").join(file);
    expected.insert(file.to_owned());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/errors/{file} differs from errors.yaml: UPDATE=1 cargo test -p forebay"
    );
}

#[test]
fn error_pages_are_up_to_date() {
    let texts = texts();
    let names: Vec<&str> = texts.iter().map(|t| t.name.as_str()).collect();
    assert!(names.is_sorted(), "errors.yaml is sorted by name");
    let mut expected = BTreeSet::from(["errors.yaml".to_owned()]);
    check("README.md", &index(&texts), &mut expected);
    for text in &texts {
        check(&format!("{}.md", text.name), &text.page(), &mut expected);
    }
    let files = fs::read_dir(root().join("docs/errors")).unwrap();
    let files = files.map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), expected);
}

/// Names of errors in a source file: `=> "name"`, `error: "prefix.name"` and similar.
fn names_in(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let quoted = code.lines().flat_map(|line| {
        let line = line.trim();
        let is_comment = line.starts_with("//");
        let is_name = (line.contains("=> \"") && !line.contains("to_owned"))
            || line.contains("\"stream.in.")
            || line.contains("\"stream.api.");
        let parts = line.split('"').skip(1).step_by(2).map(str::to_owned);
        parts
            .filter(move |_| is_name && !is_comment)
            .collect::<Vec<_>>()
    });
    quoted
        .map(|text| {
            text.trim_start_matches("stream.in.")
                .trim_start_matches("stream.api.")
                .to_owned()
        })
        .filter(|text| text.len() > 2 && text.chars().all(|c| c.is_ascii_alphabetic()))
        .collect()
}

#[test]
fn each_error_of_the_source_code_has_a_page() {
    let texts = texts();
    let pages: BTreeSet<&str> = texts.iter().map(|t| t.name.as_str()).collect();
    let mut found = BTreeSet::new();
    for (file, prefixes) in SOURCES {
        let text = fs::read_to_string(root().join("crates").join(file))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        for name in names_in(&text) {
            for prefix in prefixes {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    assert!(found.len() > 30, "{found:?}");
    let missing: Vec<_> = found
        .iter()
        .filter(|n| !pages.contains(n.as_str()))
        .collect();
    assert!(missing.is_empty(), "without an entry: {missing:?}");
    let listener =
        ["tooManyConnections"].map(|n| [format!("stream.in.{n}"), format!("stream.api.{n}")]);
    found.extend(listener.into_iter().flatten());
    let unknown = pages.iter().filter(|p| p.starts_with("stream.in."));
    let unknown: Vec<_> = unknown.filter(|p| !found.contains(**p)).collect();
    assert!(unknown.is_empty(), "no such error: {unknown:?}");
}

/// All error examples of the OpenAPI document: statuses and messages by name.
fn documented(value: &Value, found: &mut BTreeMap<String, BTreeSet<(u64, String)>>) {
    match value {
        Value::Object(map) => {
            if let (Some(status), Some(error), Some(message)) = (
                value["statusCode"].as_u64(),
                value["error"].as_str(),
                value["message"].as_str(),
            ) {
                let messages = found.entry(error.to_owned()).or_default();
                messages.insert((status, message.to_owned()));
            }
            map.values().for_each(|v| documented(v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| documented(v, found)),
        _ => {}
    }
}

/// Whether a message is an instance of a template with placeholders in braces.
fn is_instance(message: &str, template: &str) -> bool {
    let mut rest = message;
    let mut parts = Vec::new();
    let mut template = template;
    while let Some((before, after)) = template.split_once('{') {
        parts.push(before);
        template = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    parts.push(template);
    parts.iter().all(|part| {
        let found = rest.split_once(part);
        rest = found.map_or("", |(_, after)| after);
        found.is_some()
    })
}

#[test]
fn each_error_of_the_api_document_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (status, document) = server.get("/v1/documentation/openapi3.json");
    assert_eq!(status, 200);
    let names = document
        .split("stream.api.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
    let names: BTreeSet<String> = names
        .map(|n| format!("stream.api.{}", n.unwrap()))
        .collect();
    let texts: BTreeMap<String, ErrorText> =
        texts().into_iter().map(|t| (t.name.clone(), t)).collect();
    let missing: Vec<_> = names.iter().filter(|n| !texts.contains_key(*n)).collect();
    assert!(missing.is_empty(), "without an entry: {missing:?}");
    let mut found = BTreeMap::new();
    documented(&serde_json::from_str(&document).unwrap(), &mut found);
    assert!(found.len() > 30, "{found:?}");
    for (name, examples) in found {
        let text = texts
            .get(&name)
            .unwrap_or_else(|| panic!("without an entry: {name}"));
        for (status, template) in examples {
            let status = u16::try_from(status).unwrap();
            assert!(text.status.contains(&status), "{name}: {status}");
            assert!(
                is_instance(&text.example, &template),
                "{name}: the example \"{}\" is not of the form \"{template}\"",
                text.example
            );
        }
    }
}
