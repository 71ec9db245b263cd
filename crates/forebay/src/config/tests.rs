//! Tests of layers, violations and masked secrets.

use super::*;

fn sources(
    file: &str,
    env: Environment,
    flags: &[(&'static str, &str, &str)],
) -> (tempfile::TempDir, ConfigSources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.yaml");
    std::fs::write(&path, file).unwrap();
    let flags = flags
        .iter()
        .map(|(f, k, v)| (*f, (*k).to_owned(), (*v).to_owned()))
        .collect();
    let sources = ConfigSources {
        file: Some(path),
        env,
        flags,
    };
    (dir, sources)
}

fn problems(file: &str, env: Environment) -> Vec<String> {
    let (dir, sources) = sources(file, env, &[]);
    let place = format!("{}/", dir.path().display());
    let problems = load(&sources).unwrap_err();
    problems
        .iter()
        .map(|p| p.to_string().replace(&place, ""))
        .collect()
}

#[test]
fn a_flag_overrides_a_variable_overrides_the_file_overrides_the_default() {
    let file = "api:\n  listen: 127.0.0.1:1\nlog:\n  maxStreams: 11\nnodeId: a\n";
    let env = Environment::from([("FOREBAY_LOG_MAX_STREAMS", "12"), ("FOREBAY_NODE_ID", "b")]);
    let (_dir, sources) = sources(file, env, &[("--set", "nodeId", "c")]);
    let loaded = load(&sources).unwrap();
    let config = &loaded.config;
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:1");
    assert_eq!((config.log.max_streams, config.node_id.as_str()), (12, "c"));
    assert_eq!(config.source.http.listen.to_string(), "127.0.0.1:7000");
    assert_eq!(
        loaded.origin("nodeId"),
        ValueOrigin::Flag("--set".to_owned())
    );
    assert!(
        loaded
            .origin("api.listen")
            .to_string()
            .ends_with("f.yaml:2")
    );
    assert_eq!(loaded.origin("log.sync"), ValueOrigin::Default);
}

#[test]
fn a_text_is_taken_literally() {
    for written in [
        "07302",
        "1.10",
        "no",
        "1e3",
        "0x1F",
        "12345678901234567890123",
    ] {
        let file = format!("nodeId: n\napi: {{ supportContact: {written} }}\n");
        let (_dir, sources) = sources(&file, Environment::default(), &[]);
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.api.support_contact, written);
    }
}

#[test]
fn all_violations_are_reported_with_origin_and_allowed_values() {
    let file = "api:\n  lisen: 127.0.0.1:1\nlog:\n  sync: dsik\n  segmentSize: 5XB\nsource.http.maxConnections: 0\n\
                storage:\n  level:\n    staging.upload.trigger.interval: 5h\ncordinator: {}\nshutdown: 5\n";
    let env = Environment::from([
        ("FOREBAY_SHUTDOWN_GRACE", "soon"),
        ("FOREBAY_LOG_MAXSTREAMS", "1"),
    ]);
    assert_eq!(
        problems(file, env),
        [
            "there is no setting api.lisen (f.yaml:2); did you mean api.listen?",
            "there is no setting cordinator (f.yaml:10); did you mean coordinator?",
            "shutdown must have settings below it (f.yaml:11)",
            "there is no setting for the variable FOREBAY_LOG_MAXSTREAMS; did you mean FOREBAY_LOG_MAX_STREAMS?",
            "log.segmentSize is \"5XB\", allowed is a size like 512KB or 5MB, from 4KB to 2GB (f.yaml:5)",
            "log.sync is \"dsik\", allowed is one of disk, cache, none (f.yaml:4)",
            "shutdown.grace is \"soon\", allowed is a duration like 50ms, 10s or 1h30m, from 1s to 10m (variable FOREBAY_SHUTDOWN_GRACE)",
            "Invalid \"storage.level.staging.upload.trigger.interval\" value \"5h\": must be between 1s and 30m (f.yaml:9)",
            "source.http.maxConnections is 0, allowed is 1 to 1000000 (f.yaml:6)",
        ]
    );
}

#[test]
fn an_invalid_or_missing_file_is_reported() {
    let said = problems("a: [\n", Environment::default());
    assert!(
        said[0].starts_with("f.yaml:1: this is not YAML: "),
        "{said:?}"
    );
    let sources = ConfigSources {
        file: Some("/no/such.yaml".into()),
        ..ConfigSources::default()
    };
    let said = load(&sources).unwrap_err()[0].to_string();
    assert!(said.starts_with("can't read /no/such.yaml: "), "{said}");
}

#[test]
fn a_secret_from_a_variable_is_never_shown() {
    let file = "table:\n  postgres:\n    url: postgres://h/d\n    password: ${PG}\n    poolSize: ${SIZE}\n";
    let env = Environment::from([("PG", "hunter2"), ("SIZE", "7")]);
    let (_dir, sources) = sources(file, env, &[]);
    let loaded = load(&sources).unwrap();
    assert_eq!(
        loaded
            .config
            .table
            .postgres
            .password
            .as_ref()
            .unwrap()
            .expose(),
        "hunter2"
    );
    assert_eq!(loaded.config.table.postgres.pool_size, 7);
    for text in [format!("{:?}", loaded.config), yaml::effective(&loaded)] {
        assert!(!text.contains("hunter2") && text.contains("***"), "{text}");
    }
    let said = problems(file, Environment::default());
    assert_eq!(
        said[0],
        "table.postgres.password: the variable PG is not set (f.yaml:4)"
    );
    let said = problems(
        "table:\n  postgres:\n    password: [hunter2]\n",
        Environment::default(),
    );
    assert_eq!(said, ["table.postgres.password must be a text (f.yaml:3)"]);
}

/// Mistakes of all kinds where secrets are possible, with the secret in each possible position.
#[test]
fn no_message_quotes_a_value_below_a_key_that_can_hold_a_secret() {
    const SECRET: &str = "hunter2-hunter2";
    let providers = [
        "{name: a, type: http, url: 'http://u:SECRET@h', tokn: SECRET}",
        "{name: a, type: http, url: [SECRET]}",
        "{name: a, type: SECRET, url: 'http://h'}",
        "{name: a, type: http, url: 'http://h', headers: SECRET}",
        "{name: a, type: http, url: 'http://h', headers: {X-Api-Key: [SECRET]}}",
        "{name: a, type: kafka, brokers: 'h:1', settings: {sasl.password: {a: SECRET}}}",
        "{name: a, type: kafka, brokers: 'h:1', transactions: SECRET}",
        "{name: a, type: http, url: 'http://h', timeout: SECRET}",
        "{name: 'SECRET x', type: http, url: 'http://h'}",
        "{name: SECRET, type: http, url: 'http://h'}, {name: SECRET, type: http, url: 'http://h'}",
        "{type: http, url: 'http://h', token: SECRET}",
        "SECRET",
        "{name: a, type: http, url: 'http://h', token: 'SECRET ${'}",
        "{name: a, type: http, url: 'http://h', token: 'x${SECRET!}'}",
    ];
    let tokens = [
        "{id: a, project: 1, sha256: [SECRET]}",
        "{id: a, project: SECRET, sha256: aa}",
        "{id: a, project: 1, token: SECRET}",
        "{id: a, project: 1, admin: SECRET, sha256: aa}",
        "SECRET",
    ];
    let mut files: Vec<String> = Vec::new();
    files.extend(providers.map(|p| format!("providers: [{p}]\n")));
    files.extend(tokens.map(|t| format!("api.tokens: [{t}]\n")));
    let others = [
        "providers: SECRET",
        "api.tokens: SECRET",
        "token: [SECRET]",
        "table.postgres.url: {a: SECRET}",
        "table.postgres.password: [SECRET]",
        "staging.s3.secretAccessKey: {a: SECRET}",
        "staging: {type: s3, s3: {bucket: b, secretAccessKey: SECRET, bukket: SECRET}}",
    ];
    files.extend(others.map(str::to_owned));
    for form in [SECRET, "${KEY}"] {
        for file in &files {
            let file = file.replace("SECRET", form);
            let said = problems(&file, Environment::from([("KEY", SECRET)])).join("\n");
            assert!(!said.is_empty(), "{file}");
            assert!(!said.contains("hunter2"), "{file}: {said}");
        }
    }
    for (name, text) in [
        ("FOREBAY_PROVIDERS", "[hunter2"),
        ("FOREBAY_PROVIDERS", "hunter2"),
        ("FOREBAY_API_TOKENS", "- {id: a, sha256: hunter2}"),
    ] {
        let said = problems("", Environment::from([(name, text)])).join("\n");
        assert!(
            !said.is_empty() && !said.contains("hunter2"),
            "{name}: {said}"
        );
    }
}

#[test]
fn a_violation_in_a_list_has_its_index() {
    let said = |file: &str| problems(file, Environment::default()).join("\n");
    assert_eq!(
        said("providers:\n  - {name: a, type: http, url: 'http://h', timeot: 5s}\n"),
        "providers[0].timeot: unknown field `timeot`, expected one of `name`, `type`, `brokers`, \
         `transactions`, `settings`, `url`, `token`, `headers`, `timeout` (f.yaml:1)"
    );
    assert_eq!(
        said("api:\n  tokens:\n    - {id: a, project: one, sha256: aa}\n"),
        "api.tokens[0].project: expected u64 (f.yaml:2)"
    );
    assert_eq!(
        said("providers: [{name: a, type: hppt}]\n"),
        "providers[0].type: expected `kafka` or `http` (f.yaml:1)"
    );
}

#[test]
fn the_hash_of_a_token_is_not_shown() {
    let file = format!(
        "api.tokens: [{{id: a, project: 1, sha256: {}}}]\n",
        "ab".repeat(32)
    );
    let (_dir, sources) = sources(&file, Environment::default(), &[]);
    let shown = yaml::effective(&load(&sources).unwrap());
    assert!(shown.contains("***") && !shown.contains("abab"), "{shown}");
}

#[test]
fn an_optional_group_must_be_complete() {
    let said = problems(
        "source:\n  http:\n    tls:\n      certFile: a.pem\n",
        Environment::default(),
    );
    assert_eq!(
        said,
        ["source.http.tls is not complete: missing field `keyFile` (f.yaml:4)"]
    );
}

#[test]
fn listeners_may_not_clash_and_a_default_backend_needs_its_address() {
    let said = problems(
        "api.listen: 0.0.0.0:7000\ntable.default: postgres\n",
        Environment::default(),
    );
    assert_eq!(
        said,
        [
            "table.default is postgres, but table.postgres.url is not set (f.yaml:2)",
            "source.http.listen is 127.0.0.1:7000, which clashes with api.listen 0.0.0.0:7000: use another port",
        ]
    );
}

#[test]
fn defaults_of_sinks_take_effect() {
    let file = "storage:\n  level:\n    target:\n      import:\n        trigger:\n          interval: 30s\n";
    let (_dir, sources) = sources(
        file,
        Environment::from([("FOREBAY_STORAGE_LEVEL_LOCAL_ENCODING_SYNC_WAIT", "false")]),
        &[],
    );
    let settings = load(&sources).unwrap().config.storage.level.0;
    assert_eq!(
        settings.import.interval,
        forebay_model::HumanDuration::secs(30)
    );
    assert!(!settings.sync.wait);
}
