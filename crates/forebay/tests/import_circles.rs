//! Finds import circles between the files of a crate: files that can only be understood together.
//!
//! File A has an edge to file B when A names an item that B defines, by `use` or by a path. A
//! `pub use` alone is no edge, and is followed to the file that defines the item. A circle is a
//! strongly connected component of more than one file. Tests are not counted.

#![allow(
    clippy::string_slice,
    reason = "positions come from searches in the same text"
)]
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Longest chain of re-exports that is followed.
const REEXPORTS_MAX: usize = 8;

type ModulePath = Vec<String>;

/// An imported path and whether the import is a re-export.
#[derive(Debug, PartialEq)]
struct ImportPath {
    segments: Vec<String>,
    name: String,
    public: bool,
}

#[derive(Default)]
struct SourceModule {
    defined: BTreeSet<String>,
    imports: Vec<ImportPath>,
    /// Paths in the code below the imports.
    inline: Vec<Vec<String>>,
}

/// The items that each file names of each other.
type FileEdges = BTreeMap<ModulePath, BTreeMap<ModulePath, BTreeSet<String>>>;

fn words(path: &str) -> Vec<String> {
    path.split("::").map(|s| s.trim().to_owned()).collect()
}

/// Code without comments, texts and its own tests.
fn code_of(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap();
        for (index, part) in line.split('"').enumerate() {
            code.push_str(if index % 2 == 0 { part } else { "\"\"" });
        }
        code.push('\n');
    }
    code
}

/// The paths of a use tree, each with the name that it gets in the file.
fn expand(tree: &str) -> Vec<(Vec<String>, String)> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let (path, alias) = tree
            .split_once(" as ")
            .map_or((tree, None), |(p, a)| (p, Some(a)));
        let mut segments = words(path);
        if segments.last().is_some_and(|s| s == "self") && segments.len() > 1 {
            segments.pop();
        }
        let name = alias.map_or_else(|| segments.last().unwrap().clone(), |a| a.trim().to_owned());
        return vec![(segments, name)];
    };
    let (prefix, body) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap()]);
    let mut paths = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, c) in body.char_indices().chain([(body.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = body[from..at].trim();
                if !part.is_empty() {
                    paths.extend(expand(&format!("{prefix}{part}")));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    paths
}

/// The name that a line defines, without its visibility.
fn defined_name(line: &str) -> Option<String> {
    const KINDS: [&str; 9] = [
        "struct",
        "enum",
        "trait",
        "fn",
        "type",
        "const",
        "static",
        "union",
        "macro_rules!",
    ];
    let mut tokens = line.split_whitespace().peekable();
    let mut is_item = false;
    while let Some(token) = tokens.next() {
        let next_is_fn = tokens.peek() == Some(&"fn");
        match token {
            "async" | "unsafe" => {}
            "const" if next_is_fn => {}
            _ if token.starts_with("pub") || token.starts_with("in") => {}
            _ if KINDS.contains(&token) => {
                is_item = true;
                break;
            }
            _ => return None,
        }
    }
    let name = tokens.next().filter(|_| is_item)?;
    let end = |c: char| !c.is_alphanumeric() && c != '_';
    let name = name.split(end).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Paths like `a::b::C` in code.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let all = code.split(|c: char| !is_word(c));
    let paths = all.filter(|t| t.contains("::") && !t.starts_with(':'));
    let paths = paths.map(|t| words(t.trim_end_matches(':')));
    paths.filter(|p| p.len() > 1).collect()
}

fn parse(text: &str) -> SourceModule {
    let code = code_of(text);
    let mut module = SourceModule::default();
    let mut body = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let (visibility, tree) = match trimmed.split_once("use ") {
            Some((v, tree)) if v.is_empty() || v.starts_with("pub") => (v, tree),
            _ => {
                module.defined.extend(defined_name(trimmed));
                body.push_str(line);
                body.push('\n');
                continue;
            }
        };
        let mut tree = tree.to_owned();
        while !tree.contains(';') {
            let Some(more) = lines.next() else { break };
            tree.push(' ');
            tree.push_str(more.trim());
        }
        let tree = tree.split(';').next().unwrap();
        for (segments, name) in expand(tree) {
            let public = !visibility.is_empty();
            module.imports.push(ImportPath {
                segments,
                name,
                public,
            });
        }
    }
    module.inline = inline_paths(&body);
    module
}

struct CrateFiles(BTreeMap<ModulePath, SourceModule>);

impl CrateFiles {
    /// The path from the crate's root. `None`: the path leads out of the crate.
    fn absolute(&self, from: &[String], path: &[String]) -> Option<ModulePath> {
        let first = path.first()?.as_str();
        let supers = path.iter().take_while(|s| *s == "super").count();
        let (base, rest) = match first {
            "crate" => (&[][..], &path[1..]),
            "self" => (from, &path[1..]),
            "super" => (&from[..from.len().checked_sub(supers)?], &path[supers..]),
            _ => {
                let child = [from, &path[..1]].concat();
                self.0.contains_key(&child).then_some((from, path))?
            }
        };
        Some([base, rest].concat())
    }

    /// The file that defines the item of a path, and the item's name.
    fn definition(
        &self,
        from: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(ModulePath, String)> {
        let path = self.absolute(from, path)?;
        let is_file = |len: &usize| self.0.contains_key(&path[..*len]);
        let file_len = (1..=path.len()).take_while(is_file).last().unwrap_or(0);
        let (file, rest) = path.split_at(file_len);
        let name = rest.first().filter(|name| *name != "*")?;
        let module = self.0.get(file)?;
        if !module.defined.contains(name) && depth < REEXPORTS_MAX {
            let of_name = |public| {
                let all = module.imports.iter();
                all.filter(move |i| i.public == public && i.name == *name)
            };
            for import in of_name(true).chain(of_name(false)) {
                if let Some(found) = self.definition(file, &import.segments, depth + 1) {
                    return Some(found);
                }
            }
        }
        Some((file.to_vec(), name.clone()))
    }

    fn edges(&self) -> FileEdges {
        let mut edges = FileEdges::new();
        for (path, module) in &self.0 {
            let imported = module.imports.iter().filter(|i| !i.public);
            let mut used: Vec<Vec<String>> = imported.map(|i| i.segments.clone()).collect();
            for inline in &module.inline {
                // A path may begin with the name of an imported module.
                let import = module.imports.iter().find(|i| i.name == inline[0]);
                let used_path = match import {
                    Some(i) if i.segments != inline[..1] => [&i.segments, &inline[1..]].concat(),
                    _ => inline.clone(),
                };
                used.push(used_path);
            }
            for used_path in used {
                if let Some((file, name)) = self.definition(path, &used_path, 0)
                    && file != *path
                {
                    let to = edges.entry(path.clone()).or_default();
                    to.entry(file).or_default().insert(name);
                }
            }
        }
        edges
    }
}

/// Files that can be reached from a file.
fn reachable<'a>(edges: &'a FileEdges, from: &'a ModulePath) -> BTreeSet<&'a ModulePath> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// Strongly connected components of more than one file.
fn circles(edges: &FileEdges) -> Vec<BTreeSet<&ModulePath>> {
    let reach: BTreeMap<_, _> = edges.keys().map(|f| (f, reachable(edges, f))).collect();
    let mut all = BTreeSet::new();
    for (file, reached) in &reach {
        let back = |f: &&ModulePath| reach.get(f).is_some_and(|r| r.contains(file));
        let circle: BTreeSet<_> = reached.iter().copied().filter(back).collect();
        if circle.len() > 1 {
            all.insert(circle);
        }
    }
    all.into_iter().collect()
}

fn shown(path: &[String]) -> String {
    if path.is_empty() {
        "lib".to_owned()
    } else {
        path.join("::")
    }
}

fn describe(crate_name: &str, circle: &BTreeSet<&ModulePath>, edges: &FileEdges) -> String {
    let mut text = format!("{crate_name}: {} files\n", circle.len());
    for file in circle {
        for (to, names) in edges[*file].iter().filter(|(to, _)| circle.contains(to)) {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let (from, to) = (shown(file), shown(to));
            writeln!(text, "  {from} -> {to}: {}", names.join(", ")).unwrap();
        }
    }
    text
}

/// Adds all `.rs` files of a folder, without test files.
fn read_files(folder: &Path, module: &[String], files: &mut CrateFiles) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            read_files(&path, &[module, &[name.to_owned()]].concat(), files);
        } else if let Some(stem) = name.strip_suffix(".rs").filter(|s| !s.ends_with("tests")) {
            let own = match stem {
                "mod" => module.to_vec(),
                "lib" | "main" if module.is_empty() => Vec::new(),
                _ => [module, &[stem.to_owned()]].concat(),
            };
            let text = fs::read_to_string(&path).unwrap();
            files.0.entry(own).or_insert_with(|| parse(&text));
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut file_count = 0;
    for entry in fs::read_dir(root).unwrap() {
        let folder = entry.unwrap().path();
        let mut files = CrateFiles(BTreeMap::new());
        read_files(&folder.join("src"), &[], &mut files);
        file_count += files.0.len();
        let crate_name = folder.file_name().unwrap().to_str().unwrap();
        let edges = files.edges();
        let all = circles(&edges);
        found.extend(
            all.iter()
                .map(|circle| describe(crate_name, circle, &edges)),
        );
    }
    assert!(file_count > 500, "{file_count} files found");
    assert!(
        found.is_empty(),
        "{} import circles:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn files_of(texts: &[(&str, &str)]) -> CrateFiles {
    let path = |name: &str| {
        if name.is_empty() {
            Vec::new()
        } else {
            words(name)
        }
    };
    CrateFiles(
        texts
            .iter()
            .map(|(name, text)| (path(name), parse(text)))
            .collect(),
    )
}

fn circles_of(texts: &[(&str, &str)]) -> Vec<String> {
    let edges = files_of(texts).edges();
    let all = circles(&edges);
    all.iter()
        .map(|circle| describe("x", circle, &edges))
        .collect()
}

#[test]
fn use_trees_are_expanded() {
    let paths = expand("crate::{a::{self, B as C}, d::E,}");
    let shown: Vec<_> = paths
        .iter()
        .map(|(p, n)| format!("{} {n}", p.join("::")))
        .collect();
    assert_eq!(shown, ["crate::a a", "crate::a::B C", "crate::d::E E"]);
}

#[test]
fn definitions_have_a_name() {
    let name = |line| defined_name(line).unwrap_or_default();
    assert_eq!(name("pub(crate) const fn limit() {"), "limit");
    assert_eq!(name("pub struct Pair<'a>(&'a str);"), "Pair");
    assert_eq!(name("pub(in crate::a) enum Kind {"), "");
    assert_eq!(name("const MAX: usize = 1;"), "MAX");
    assert_eq!(name("let struct_count = 1;"), "");
}

#[test]
fn a_parent_and_its_child_form_a_circle() {
    let parent = "mod b;\npub struct Pair;\nfn f() { b::run(); }\n";
    let child = "use super::Pair;\npub fn run() {}\n";
    let expected = "x: 2 files\n  a -> a::b: run\n  a::b -> a: Pair\n";
    assert_eq!(circles_of(&[("a", parent), ("a::b", child)]), [expected]);
}

#[test]
fn chains_of_super_and_imported_modules_are_followed() {
    let deep = "use super::super::other::{self};\nfn f() -> other::Pair { other::pair() }\n";
    let other = "use crate::a::b::f;\npub struct Pair;\npub fn pair() -> Pair { f() }\n";
    let deep = deep.replace("fn f()", "pub fn f()");
    let all = circles_of(&[("a", "mod b;"), ("a::b", &deep), ("other", other)]);
    let expected = "x: 2 files\n  a::b -> other: Pair, pair\n  other -> a::b: f\n";
    assert_eq!(all, [expected]);
}

#[test]
fn a_reexport_leads_to_the_definition_and_is_no_import() {
    let root = "pub use b::Pair as Couple;\npub mod a;\nmod b;\n";
    let user = "use crate::Couple;\npub struct User(Couple);\n";
    let texts = [("", root), ("a", user), ("b", "pub struct Pair;\n")];
    assert!(circles_of(&texts).is_empty());
    let edges = files_of(&texts).edges();
    assert_eq!(shown(edges[&words("a")].keys().next().unwrap()), "b");
    // The definition uses the file that names its re-export.
    let back = "use crate::a::User;\npub struct Pair(User);\n";
    assert_eq!(circles_of(&[("", root), ("a", user), ("b", back)]).len(), 1);
}

#[test]
fn comments_texts_and_tests_are_no_imports() {
    let text = "// crate::b::f\nfn g() { h(\"crate::b::f\") }\n#[cfg(test)]\nmod tests {\n    use crate::b::f;\n}\n";
    assert!(parse(text).imports.is_empty());
    assert!(parse(text).inline.is_empty());
}
