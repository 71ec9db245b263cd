//! Runs the commands of the tutorial and the guides: the blocks `sh` of a page in order, in an empty
//! directory. A block `text` after one is its output; `…` in it stands for any text.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::{forebay, run};

/// Pages with commands. The test starts a server, unless the page does.
const PAGES: [&str; 13] = [
    "README.md",
    "docs/tutorial.md",
    "docs/howto/browser.md",
    "docs/howto/fluent-bit.md",
    "docs/howto/github.md",
    "docs/howto/gitops.md",
    "docs/howto/iot.md",
    "docs/howto/stripe.md",
    "docs/howto/test-mappings.md",
    "docs/howto/vector.md",
    "docs/operate/install.md",
    "docs/operate/security.md",
    "docs/operate/troubleshooting.md",
];

const SERVE: &str = "forebay serve 2> forebay.log &\nuntil test -f forebay-data/endpoints.json; do sleep 0.1; done\n";

struct Block {
    line: usize,
    commands: String,
    output: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if !line.starts_with("```") || line == "```" {
            continue;
        }
        let body = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```");
        let body: String = body.flat_map(|l| [l, "\n"]).collect();
        match line {
            "```sh" => found.push(Block {
                line: number + 1,
                commands: body,
                output: None,
            }),
            "```text" => {
                if let Some(block) = found.last_mut().filter(|b| b.output.is_none()) {
                    block.output = Some(body);
                }
            }
            _ => {}
        }
    }
    found
}

/// Lines without spaces at their ends.
fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Whether a text has the form of a pattern in which `…` stands for any text.
fn has_form(text: &str, pattern: &str) -> bool {
    let pattern = trimmed(pattern).replace("…\n", "…").replace("\n…", "…");
    let mut parts = pattern.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

/// Free ports: the server keeps them across its restart in the tutorial. They are below those that the
/// system gives to other servers and to connections.
fn free_addresses() -> [String; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(), ()].map(|()| {
        loop {
            let number = std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed);
            let address = format!("127.0.0.1:{}", 20_000 + number % 10_000);
            if TcpListener::bind(&address).is_ok() {
                return address;
            }
        }
    })
}

fn check(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join(page)).unwrap();
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "{page} has no commands");
    let dir = tempfile::tempdir().unwrap();
    let mut script =
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n".to_owned();
    if !blocks.iter().any(|b| b.commands.contains("forebay serve")) {
        script.push_str(SERVE);
    }
    for (number, block) in blocks.iter().enumerate() {
        write!(script, "exec > output.{number}\n{}", block.commands).unwrap();
    }
    std::fs::write(dir.path().join("page.sh"), script).unwrap();

    let program = forebay();
    let folder = Path::new(program.get_program()).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let [api, source] = free_addresses();
    let mut bash = std::process::Command::new("bash");
    bash.arg("page.sh").current_dir(dir.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FOREBAY_") {
            bash.env_remove(name);
        }
    }
    bash.env("PATH", format!("{}:{path}", folder.display()));
    bash.env("FOREBAY_API_LISTEN", api);
    bash.env("FOREBAY_SOURCE_HTTP_LISTEN", source);
    let ended = run(&mut bash);
    let log = std::fs::read_to_string(dir.path().join("forebay.log")).unwrap_or_default();
    for (number, block) in blocks.iter().enumerate() {
        let file = dir.path().join(format!("output.{number}"));
        let output = trimmed(&std::fs::read_to_string(file).unwrap_or_default());
        if let Some(expected) = block.output.as_ref().filter(|e| !has_form(&output, e)) {
            panic!(
                "{page}:{}: the output is\n{output}\ninstead of\n{expected}\n{ended:?}\n{log}",
                block.line
            );
        }
    }
    assert_eq!(ended.code, Some(0), "{page}: {ended:?}\n{log}");
}

#[test]
fn the_tutorial_works() {
    check("docs/tutorial.md");
}

#[test]
fn the_commands_of_all_other_pages_work() {
    for page in PAGES.iter().filter(|p| **p != "docs/tutorial.md") {
        check(page);
    }
}

#[test]
fn each_page_with_commands_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for folder in ["", "howto", "operate"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = Path::new("docs")
                .join(folder)
                .join(path.file_name().unwrap());
            let name = name.to_str().unwrap().to_owned();
            // Commands of developers.
            if !name.ends_with(".md") || name == "docs/dashboard.md" {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let is_listed = PAGES.contains(&name.as_str());
            assert_eq!(!blocks(&text).is_empty(), is_listed, "{name}");
        }
    }
}
