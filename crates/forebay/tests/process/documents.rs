//! Compares generated documents with the output of the binary; `UPDATE=1` rewrites them.

use std::path::Path;

use crate::server::forebay_with;

fn check(file: &str, args: &[&str]) {
    let said = forebay_with(args);
    assert_eq!(said.code, Some(0), "{said:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &said.stdout).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == said.stdout,
        "{file} is not what forebay says: UPDATE=1 cargo test -p forebay"
    );
}

#[test]
fn the_default_configuration_is_up_to_date() {
    check("config/forebay.yaml", &["config", "default"]);
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    check("docs/reference/config.md", &["reference", "config"]);
}

#[test]
fn the_reference_of_metrics_is_up_to_date() {
    check("docs/reference/metrics.md", &["reference", "metrics"]);
}

/// Alert rules and boards name metrics that exist.
#[test]
fn metrics_in_deployment_files_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let known = std::fs::read_to_string(root.join("docs/reference/metrics.md")).unwrap();
    let mut named = 0;
    for file in ["prometheus/alerts.yaml", "grafana/forebay.json"] {
        let text = std::fs::read_to_string(root.join("deploy").join(file)).unwrap();
        let words =
            text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        for word in words.filter(|w| w.starts_with("forebay_") || w.starts_with("process_")) {
            let metric = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .unwrap_or(word);
            assert!(known.contains(&format!("| `{metric}` |")), "{file}: {word}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn the_reference_of_the_command_line_is_up_to_date() {
    check("docs/reference/cli.md", &["reference", "cli"]);
}
