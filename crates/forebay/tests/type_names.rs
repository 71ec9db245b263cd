//! Checks names of types: a search for a name finds one thing. The rules are in `docs/glossary.md`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum percentage of types with a one-word name.
const ONE_WORD_PERCENT_MAX: usize = 25;
/// Maximum percentage of types that share their name with another one.
const SHARED_PERCENT_MAX: usize = 10;

struct NamedType {
    name: String,
    place: String,
}

/// All `.rs` files below `src` folders, without test files.
fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            source_files(&path, files);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
}

/// The name of the type defined on a line. Associated types are indented and have no name of their own.
fn defined_type(line: &str) -> Option<&str> {
    let is_indented = line.starts_with(' ');
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    if word.starts_with("pub") {
        word = words.next()?;
    }
    let is_type = match word {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !is_indented,
        _ => false,
    };
    let name = words.next().filter(|_| is_type)?;
    let name = name.split(|c: char| !c.is_alphanumeric()).next()?;
    name.starts_with(char::is_uppercase).then_some(name)
}

fn types() -> Vec<NamedType> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        source_files(&entry.unwrap().path().join("src"), &mut files);
    }
    let mut types = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Types of a file's own tests are not counted.
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let file = file.strip_prefix(root).unwrap().display();
        for (index, line) in code.lines().enumerate() {
            if let Some(name) = defined_type(line) {
                types.push(NamedType {
                    name: name.to_owned(),
                    place: format!("{file}:{}", index + 1),
                });
            }
        }
    }
    types
}

fn is_one_word(name: &str) -> bool {
    name.chars().filter(|c| c.is_uppercase()).count() == 1
}

fn assert_few(what: &str, offenders: &[&NamedType], all: usize, percent_max: usize) {
    let list = offenders.iter().map(|t| format!("{} {}", t.name, t.place));
    let list: Vec<_> = list.collect();
    assert!(
        offenders.len() * 100 <= all * percent_max,
        "{} of {all} types {what}, more than {percent_max} %:\n{}",
        offenders.len(),
        list.join("\n")
    );
}

#[test]
fn few_types_have_a_name_of_one_word() {
    let types = types();
    assert!(types.len() > 1000, "{} types found", types.len());
    let offenders: Vec<_> = types.iter().filter(|t| is_one_word(&t.name)).collect();
    let what = "have a name of one word";
    assert_few(what, &offenders, types.len(), ONE_WORD_PERCENT_MAX);
}

#[test]
fn few_types_share_their_name() {
    let types = types();
    let mut by_name: BTreeMap<&str, Vec<&NamedType>> = BTreeMap::new();
    for named in &types {
        by_name.entry(&named.name).or_default().push(named);
    }
    let shared = by_name.into_values().filter(|t| t.len() > 1);
    let offenders: Vec<_> = shared.flatten().collect();
    let what = "share their name with another one";
    assert_few(what, &offenders, types.len(), SHARED_PERCENT_MAX);
}
