//! Configuration from files, variables and flags.

use crate::server::{forebay, forebay_with, run};

fn file(content: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("forebay.yaml");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn the_default_file_is_valid() {
    let (_dir, path) = file(&forebay_with(&["config", "default"]).stdout);
    let said = forebay_with(&["config", "check", "--config", &path]);
    assert_eq!(
        (said.code, said.stdout.trim()),
        (Some(0), "The configuration is valid."),
        "{said:?}"
    );
}

#[test]
fn every_command_reports_a_typo_with_its_location_and_a_suggestion() {
    let (_dir, path) = file("source:\n  http:\n    maxRequestBodySzie: 1MB\n");
    for args in [
        ["config", "check"],
        ["serve", "--roles=api"],
        ["query", "SELECT 1"],
        ["source", "ls"],
    ] {
        let said = run(forebay().args(args).args(["--config", &path]));
        assert_eq!(said.code, Some(2), "{said:?}");
        let expected = format!(
            "there is no setting source.http.maxRequestBodySzie ({path}:3); did you mean source.http.maxRequestBodySize?"
        );
        assert!(said.stderr.contains(&expected), "{}", said.stderr);
    }
}

#[test]
fn an_unknown_variable_is_rejected_with_a_suggestion() {
    let said = run(forebay()
        .args(["config", "check"])
        .env("FOREBAY_DATADIR", "x"));
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr
            .contains("variable FOREBAY_DATADIR; did you mean FOREBAY_DATA_DIR?"),
        "{}",
        said.stderr
    );
}

#[test]
fn all_violations_are_reported_at_once() {
    let (_dir, path) = file("log:\n  sync: dsik\n  maxStreams: 0\nnodeId: \"a b\"\n");
    let said = run(forebay()
        .args(["config", "check", "--config", &path])
        .env("FOREBAY_SHUTDOWN_GRACE", "1h"));
    assert_eq!(said.code, Some(2));
    for part in [
        "the configuration has 4 problems",
        "log.sync is \"dsik\", allowed is one of disk, cache, none",
        "log.maxStreams is 0, allowed is 1 to 1000000",
        "nodeId is \"a b\"",
        "shutdown.grace is 1h0m0s, allowed is 1s to 10m0s (variable FOREBAY_SHUTDOWN_GRACE)",
    ] {
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
}

#[test]
fn later_layers_override_earlier_ones_and_secrets_are_masked() {
    let (_dir, path) =
        file("nodeId: of-the-file\nlog: { maxStreams: 5, syncInterval: 1ms }\ntoken: ${MINE}\n");
    let said = run(forebay()
        .args([
            "config",
            "show",
            "--config",
            &path,
            "--data-dir",
            "of-the-flag",
        ])
        .env("FOREBAY_LOG_MAX_STREAMS", "6")
        .env("FOREBAY_DATA_DIR", "of-the-variable")
        .env("MINE", "s3cret"));
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "dataDir: of-the-flag  # flag --data-dir",
        "  maxStreams: 6  # variable FOREBAY_LOG_MAX_STREAMS",
        &format!("  syncInterval: 1ms  # {path}:2"),
        &format!("nodeId: of-the-file  # {path}:1"),
        "  segmentSize: 64MB",
    ] {
        assert!(
            said.stdout.lines().any(|l| l == line),
            "{line}\n{}",
            said.stdout
        );
    }
    assert!(
        said.stdout.contains("***") && !said.stdout.contains("s3cret"),
        "{}",
        said.stdout
    );
}

#[test]
fn the_schema_is_json_and_has_the_settings_of_sinks() {
    let said = forebay_with(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let level = &schema["$defs"]["SinkDefaults"]["properties"]["target"]["properties"]["import"];
    assert!(
        level["properties"]["trigger"]["properties"]["interval"].is_object(),
        "{level}"
    );
}

#[test]
fn an_invalid_flag_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let said = forebay_with(&["serve", "--data-dir", data, "--roles", "api,writer"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("roles is [\"api\",\"writer\"]")
            && said.stderr.contains("flag --roles"),
        "{said:?}"
    );
    let said = forebay_with(&["serve", "--data-dir", data, "--set", "log.sinc=disk"]);
    assert!(
        said.stderr
            .contains("there is no setting log.sinc (flag --set); did you mean log.sync?"),
        "{said:?}"
    );
    let said = forebay_with(&["serve", "--api-listen", "here"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("--api-listen"), "{said:?}");
}

/// `config check` and a start reject it with the same message, and nothing is written.
fn is_rejected(content: &str, named: &str) {
    let (dir, path) = file(content);
    let checked = forebay_with(&["config", "check", "--config", &path]);
    assert_eq!(checked.code, Some(2), "{content}: {checked:?}");
    assert!(checked.stderr.contains(named), "{content}: {checked:?}");
    let data = dir.path().join("data");
    let mut serve = forebay();
    serve.args(["serve", "--config", &path, "--api-listen=127.0.0.1:0"]);
    serve.arg("--source-listen=127.0.0.1:0");
    if !content.starts_with("dataDir") {
        serve.args(["--data-dir", data.to_str().unwrap()]);
    }
    let served = run(&mut serve);
    assert_ne!(served.code, Some(0), "{content}");
    assert!(served.stderr.contains(named), "{content}: {served:?}");
    assert!(!data.exists(), "{content}");
}

const PROVIDER: &str = "providers: [{name: h, type: http, REST}]\n";
const KAFKA: &str = "providers: [{name: k, type: kafka, REST}]\n";
const POSTGRES: &str = "table: {postgres: {REST}}\n";
const S3: &str = "staging: {type: s3, s3: {bucket: b, REST}}\n";

/// Settings of other systems with an error, and its message.
const WRONG: [(&str, &str, &str); 13] = [
    (PROVIDER, "url: /relative", "provider \"h\": url"),
    (PROVIDER, "url: 'http://h:99999/'", "provider \"h\": url"),
    (
        PROVIDER,
        "url: 'http://h/', token: \"a\\nb\"",
        "provider \"h\": token",
    ),
    (
        PROVIDER,
        "url: 'http://h/', headers: {'X Key': a}",
        "header \"X Key\"",
    ),
    (KAFKA, "brokers: ''", "brokers has \"\""),
    (KAFKA, "brokers: 'h:99999'", "brokers has \"h:99999\""),
    (
        POSTGRES,
        "url: 'mysql://h/x'",
        "table.postgres: the PostgreSQL connection string",
    ),
    (
        POSTGRES,
        "url: 'postgres://h/x?sslmode=no'",
        "unknown sslmode \"no\"",
    ),
    (
        POSTGRES,
        "url: 'postgres://h/x', caFile: JUNK",
        "contains no certificate",
    ),
    (
        POSTGRES,
        "url: 'postgres://h/x', ledgerSchema: ''",
        "ledgerSchema is \"\"",
    ),
    (
        S3,
        "endpoint: 'https://h'",
        "staging.s3: bucket \"b\" at https://h",
    ),
    (
        S3,
        "accessKeyId: a",
        "staging.s3.accessKeyId and secretAccessKey",
    ),
    (
        S3,
        "caFile: /nonexistent/ca",
        "staging.s3.caFile: can't read",
    ),
];

#[test]
fn the_check_reports_invalid_settings_of_other_systems() {
    let dir = tempfile::tempdir().unwrap();
    let junk = dir.path().join("junk");
    std::fs::write(&junk, "no certificate").unwrap();
    for (content, rest, named) in WRONG {
        let rest = rest.replace("JUNK", junk.to_str().unwrap());
        is_rejected(&content.replace("REST", &rest), named);
    }
}

#[test]
fn the_check_reports_invalid_paths_and_enum_values() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("junk"), "").unwrap();
    std::fs::create_dir(at("other")).unwrap();
    std::fs::write(at("other/thesis.tex"), "").unwrap();
    for (content, named) in [
        ("table: {sqlite: {path: OTHER}}\n", "table.sqlite.path"),
        (
            "table: {sqlite: {path: /nonexistent/t.db}}\n",
            "table.sqlite.path",
        ),
        ("staging: {local: {dir: JUNK}}\n", "staging.local.dir"),
        ("metadata: {copiesDir: JUNK}\n", "metadata.copiesDir"),
        ("dataDir: OTHER\n", "is not a data directory of the server"),
        (
            "telemetry: {log: {level: warning}}\n",
            "log.level has \"warning\"",
        ),
        (
            "roles: [api, pai]\n",
            "roles[1] is not valid: unknown variant `pai`",
        ),
        (
            "source: {http: {trustedProxies: [10.0.0.0/99]}}\n",
            "trustedProxies[0]",
        ),
    ] {
        let content = content.replace("OTHER", &at("other"));
        is_rejected(&content.replace("JUNK", &at("junk")), named);
    }
}
