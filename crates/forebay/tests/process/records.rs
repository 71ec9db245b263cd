//! Runs the examples of `docs/reference/records.md`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_test_support::HttpClient;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::server::{Ended, Server, run};

const PAGE: &str = include_str!("../../../../docs/reference/records.md");

/// One example. The first paragraphs of the page explain the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    columns: Value,
    /// Settings of the source.
    #[serde(default)]
    settings: BTreeMap<String, Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    query: Option<String>,
    #[serde(default)]
    body: Option<String>,
    /// A body that is not UTF-8, in base64.
    #[serde(default)]
    bytes: Option<String>,
    #[serde(default)]
    status: Option<u16>,
    /// Part of the response.
    #[serde(default)]
    error: Option<String>,
    /// Part of the output of `forebay apply` about the columns.
    #[serde(default)]
    rejected: Option<String>,
    #[serde(default)]
    rows: Vec<Vec<Option<String>>>,
}

/// The examples with their line numbers and the text of their columns.
fn examples() -> Vec<(usize, Example, String)> {
    let mut found = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line != "```yaml example" {
            continue;
        }
        let text: Vec<&str> = lines
            .by_ref()
            .map(|(_, l)| l)
            .take_while(|l| *l != "```")
            .collect();
        let example = serde_saphyr::from_str(&text.join("\n"))
            .unwrap_or_else(|e| panic!("records.md:{}: {e}", number + 1));
        let columns = text.iter().skip_while(|l| **l != "columns:").skip(1);
        let columns = columns.take_while(|l| l.starts_with(' '));
        found.push((
            number + 1,
            example,
            columns.map(|l| format!("      {l}\n")).collect(),
        ));
    }
    found
}

/// Applies the definition of an example with its columns verbatim: the YAML parsing of scalars is part
/// of the test.
fn apply(server: &Server, id: &str, example: &Example, columns: &str) -> Ended {
    let file = server.data().join(format!("{id}.yaml"));
    let settings = json!(example.settings);
    let text = format!(
        "sources:\n  - name: {id}\n    settings: {settings}\n    sinks:\n    - table: in.page.{id}\n      columns:\n{columns}"
    );
    std::fs::write(&file, text).unwrap();
    run(&mut server.command(&["apply", "-f", file.to_str().unwrap()]))
}

fn send(server: &Server, id: &str, example: &Example) -> (u16, String) {
    let mut path = server.path(id);
    if let Some(query) = &example.query {
        path += &format!("?{query}");
    }
    let body = match &example.bytes {
        Some(encoded) => STANDARD.decode(encoded).unwrap(),
        None => example.body.clone().unwrap_or_default().into_bytes(),
    };
    let mut headers: Vec<(&str, &str)> = example
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    if example.headers.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    let method = example.method.as_deref().unwrap_or("POST");
    let answer = HttpClient::new(server.source)
        .send(method, &path, &headers, &body)
        .unwrap();
    // The page has messages without JSON escapes.
    let text = String::from_utf8_lossy(&answer.body).replace("\\\"", "\"");
    (answer.status, text)
}

/// The rows of an example's table in order of arrival.
fn rows(server: &Server, id: &str, example: &Example) -> Vec<Vec<Option<String>>> {
    let names: Vec<String> = example
        .columns
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect();
    let list: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    let sql = format!("SELECT {} FROM \"in.page.{id}\"", list.join(", "));
    let said = server.ok(&["query", &sql, "--format", "json"]);
    let cell = |row: &Value, name: &String| match &row[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => panic!("{id}: {name} is {other}, not a text"),
    };
    let found: Vec<Value> = serde_json::from_str(&said).unwrap();
    let found = found.iter();
    found
        .map(|row| names.iter().map(|n| cell(row, n)).collect())
        .collect()
}

fn name(column: &Value) -> String {
    column["name"].as_str().unwrap().to_owned()
}

#[test]
fn the_examples_of_the_records_page_work() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let examples = examples();
    assert!(examples.len() >= 2, "the page has examples");
    let mut wrong = Vec::new();
    let mut stored = Vec::new();
    for (line, example, columns) in &examples {
        let id = format!("line-{line}");
        let applied = apply(&server, &id, example, columns);
        if let Some(rejected) = &example.rejected {
            if applied.code == Some(0) || !applied.stderr.contains(rejected) {
                wrong.push(format!("records.md:{line}: {applied:?}"));
            }
            continue;
        }
        if applied.code != Some(0) {
            wrong.push(format!("records.md:{line}: {applied:?}"));
            continue;
        }
        let (status, text) = send(&server, &id, example);
        let error = example.error.as_deref().unwrap_or_default();
        if status != example.status.unwrap_or(200) || !text.contains(error) {
            wrong.push(format!("records.md:{line}: {status} {text}"));
        }
        if !example.rows.is_empty() {
            stored.push((line, id, example));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), server.log());
    for (line, id, example) in stored {
        server.settled(&id, &id, example.rows.len());
        let rows = rows(&server, &id, example);
        if rows != example.rows {
            wrong.push(format!(
                "records.md:{line}: {rows:?}, not {:?}",
                example.rows
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
