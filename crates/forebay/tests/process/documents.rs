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
fn the_reference_of_the_command_line_is_up_to_date() {
    check("docs/reference/cli.md", &["reference", "cli"]);
}
