//! The JSON schema of definition files: another implementation accepts every example of the documents, and
//! finds the mistakes that Forebay finds.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_test_support::services::openapi_tools;

use crate::server::{forebay, run};

/// Prints the first violation of each file.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for name in sys.argv[2:]:
    document = YAML(typ='safe', pure=True).load(open(name))
    for error in sorted(validator.iter_errors(document), key=str)[:1]:
        print(f'{name}: {error.json_path}: {error.message}')
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

/// Definition files in a text: from a line `sources:` to the first line that is not indented.
fn definitions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if line == "sources:" {
            found.push(String::new());
            is_inside = true;
        } else if !line.is_empty() && !line.starts_with(' ') && !line.starts_with('#') {
            is_inside = false;
        }
        if let Some(definition) = found.last_mut().filter(|_| is_inside) {
            definition.push_str(line);
            definition.push('\n');
        }
    }
    found
}

/// Files of the repository that may have definitions.
fn examples() -> Vec<String> {
    let mut files = vec![root().join("README.md")];
    for folder in ["docs", "examples", "crates/forebay/src/command/init"] {
        walk(&root().join(folder), &mut files);
    }
    let has_text = |path: &PathBuf| {
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        matches!(extension, "md" | "yaml" | "yml")
    };
    let texts = files.iter().filter(|path| has_text(path));
    let all = texts.flat_map(|path| definitions(&std::fs::read_to_string(path).unwrap()));
    // Vector has `sources` of its own.
    let is_list = |text: &String| {
        text.lines()
            .nth(1)
            .is_some_and(|l| l.trim_start().starts_with('-') || l.trim_start().starts_with('#'))
    };
    all.filter(is_list).collect()
}

#[test]
fn the_schema_accepts_every_example_and_finds_mistakes() {
    let name = "the_schema_accepts_every_example_and_finds_mistakes";
    let Some(tools) = openapi_tools(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    let printed = run(forebay().args(["apply", "--schema"]));
    assert_eq!(printed.code, Some(0), "{printed:?}");
    std::fs::write(&schema, printed.stdout).unwrap();
    let validate = |texts: &[String]| -> Vec<String> {
        let write = |(i, text): (usize, &String)| {
            let file = dir.path().join(format!("{i}.yaml"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let files: Vec<PathBuf> = texts.iter().enumerate().map(write).collect();
        let mut python = Command::new(tools.join("bin/python"));
        let ended = run(python.args(["-c", VALIDATE]).arg(&schema).args(&files));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.lines().map(str::to_owned).collect()
    };
    let examples = examples();
    assert!(examples.len() > 10, "{} examples", examples.len());
    let none: Vec<String> = Vec::new();
    assert_eq!(validate(&examples), none);

    let table = "table: in.a.b, columns: [{ name: a, type: uuid }]";
    let sink = |fields: &str| format!("sources: [{{ name: A, sinks: [{{ {fields} }}] }}]\n");
    let mistakes = [
        "sources: [{ nam: A }]\n".to_owned(),
        "source: []\n".to_owned(),
        "sources: [{ name: A, id: [] }]\n".to_owned(),
        sink("table: in.a.b"),
        sink(&format!("{table}, http: {{ provider: a }}")),
        sink("table: in.a.b, columns: [{ name: a, type: uid }]"),
        sink("table: in.a.b, columns: [{ name: a, type: template, template: 1.5 }]"),
        sink("http: { provider: a, method: GET }"),
        sink("http: { provider: a, message: { value: { name: x, type: body } } }"),
    ];
    assert_eq!(
        validate(&mistakes).len(),
        mistakes.len(),
        "{:#?}",
        validate(&mistakes)
    );
    // Numbers and words are texts where one is expected.
    let scalars =
        sink("table: in.a.b, name: 007, columns: [{ name: 1, type: static, value: true }]");
    assert_eq!(validate(&[scalars]), none);
}
