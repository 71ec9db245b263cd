//! Paths that the documents name exist: a reader who follows one finds the file.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Endings of names that are files of this repository.
const ENDINGS: [&str; 8] = [".rs", ".md", ".toml", ".yaml", ".sh", ".json", ".js", ".ts"];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap().parent().unwrap().to_owned()
}

/// Documents for people, without the decision records: a record names what was there when it was
/// decided.
fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let folders = [
        "",
        "docs",
        "docs/errors",
        "docs/formats",
        "docs/howto",
        "docs/operate",
        "docs/reference",
    ];
    for folder in folders {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".md") && name != "CHANGELOG.md" {
                documents.push(path);
            }
        }
    }
    documents
}

/// What stands between backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((list, after)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    let each = list.split(',').map(|part| format!("{before}{part}{after}"));
    each.collect()
}

/// A path of the repository: with a folder and the ending of a file, and without a placeholder.
fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-{},".contains(c);
    text.contains('/')
        && !text.starts_with(['/', '.'])
        && text.chars().all(plain)
        && (ENDINGS.iter().any(|e| text.ends_with(e)) || text.starts_with("crates/"))
}

/// From the root, from `crates`, or `<crate>/<file>` for `crates/<crate>/src/<file>`.
fn exists(path: &str, beside: &Path) -> bool {
    let root = root();
    let short = path.split_once('/').map(|(name, file)| {
        let sources = root.join("crates").join(name).join("src");
        sources.join(file)
    });
    root.join(path).exists()
        || root.join("crates").join(path).exists()
        || beside.parent().unwrap().join(path).exists()
        || short.is_some_and(|p| p.exists())
}

#[test]
fn paths_in_documents_exist() {
    let (mut found, mut missing) = (0, Vec::new());
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (index, line) in text.lines().enumerate() {
            for path in quoted(line)
                .filter(|text| is_path(text))
                .flat_map(alternatives)
            {
                found += 1;
                if !exists(&path, &document) {
                    let document = document.strip_prefix(root()).unwrap().display();
                    missing.push(format!("{document}:{}: {path}", index + 1));
                }
            }
        }
    }
    assert!(found > 100, "only {found} paths found");
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

/// Links between documents, and from them to the code.
#[test]
fn links_in_documents_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets {
            let target = target.split(['#', ' ']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !document.parent().unwrap().join(target).exists() {
                let document = document.strip_prefix(root()).unwrap().display();
                missing.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

/// Reference links whose title is the name of a test: `[a]: ../file.rs "name"`.
#[test]
fn tests_that_documents_name_exist() {
    let (mut found, mut missing) = (0, Vec::new());
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for line in text.lines() {
            let Some((file, name)) = line
                .split_once("]: ")
                .and_then(|(_, l)| l.split_once(" \""))
            else {
                continue;
            };
            let name = name.trim_end_matches('"');
            let source = fs::read_to_string(document.parent().unwrap().join(file));
            found += 1;
            if !source.is_ok_and(|s| s.contains(&format!("fn {name}()"))) {
                missing.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(found > 20, "only {found} tests found");
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}
