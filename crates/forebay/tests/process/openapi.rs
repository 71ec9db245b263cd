//! The served OpenAPI documents: a validator and a linter find nothing in any of the four, and a client
//! generated from one works with the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_test_support::services::openapi_tools;

use crate::server::{Server, run};

/// Path of the non-Rust parts of these tests.
fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Runs a tool that must succeed.
fn succeeds(command: &mut Command) -> String {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{command:?}: {ended:?}");
    ended.stdout
}

/// A server's document in a file.
fn document(server: &Server, dir: &Path, name: &str) -> PathBuf {
    let (status, text) = server.get(&format!("/v1/documentation/{name}"));
    assert_eq!(status, 200, "{name}");
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_validator_and_a_linter_find_nothing_in_the_four_documents() {
    let Some(tools) = openapi_tools("a_validator_and_a_linter_find_nothing_in_the_four_documents")
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let names = [
        "openapi.json",
        "openapi.yaml",
        "openapi3.json",
        "openapi3.yaml",
    ];
    let files = names.map(|name| document(&server, dir.path(), name));
    succeeds(Command::new(tools.join("bin/openapi-spec-validator")).args(&files));
    let rules = here("../../scripts/services/openapi/spectral.yaml");
    let mut linter = Command::new(tools.join("bin/spectral"));
    linter.args(["lint", "--fail-severity", "hint", "--ruleset"]);
    succeeds(linter.arg(rules).args(&files));
    // Each of them detects an error.
    let broken = dir.path().join("broken.json");
    let text = std::fs::read_to_string(&files[2]).unwrap();
    std::fs::write(&broken, text.replace("\"operationId\"", "\"operationID\"")).unwrap();
    let found = run(Command::new(tools.join("bin/openapi-spec-validator")).arg(&broken));
    assert_ne!(found.code, Some(0), "{found:?}");
    assert_ne!(run(linter.arg(&broken)).code, Some(0));
}

#[test]
fn a_generated_client_manages_a_source() {
    let Some(tools) = openapi_tools("a_generated_client_manages_a_source") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let file = document(&server, dir.path(), "openapi3.json");
    let mut generator = Command::new(tools.join("bin/openapi-python-client"));
    generator.args(["generate", "--meta", "none", "--fail-on-warning"]);
    generator.arg("--config");
    generator.arg(here("tests/process/openapi/generator.yaml"));
    generator.arg("--path").arg(file);
    succeeds(
        generator
            .arg("--output-path")
            .arg(dir.path().join("client")),
    );
    let token = std::fs::read_to_string(data.join("token")).unwrap();
    let mut life = Command::new(tools.join("bin/python"));
    life.arg(here("tests/process/openapi/life.py"));
    life.arg(dir.path()).arg(format!("http://{}", server.api));
    let said = succeeds(life.arg(token.trim()));
    assert_eq!(said.matches("as documented").count(), 8, "{said}");
}
