//! `forebay source` and `forebay apply` with a server.

use crate::server::{Server, forebay, forebay_with, run};

const EVENTS: &str = "\
sources:
  - name: My events
    description: Of the shop.
    sinks:
      - name: Events
        table: in.demo.events
        columns:
          - { name: id, type: uuid }
          - { name: at, type: datetime }
          - { name: ip, type: ip }
          - { name: all, type: body }
          - { name: head, type: headers }
          - { name: user, type: path, path: user.id, rawString: true, defaultValue: 0 }
          - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }
          - { name: env, type: static, value: prod, primaryKey: true }
";

fn write(dir: &std::path::Path, content: &str) -> String {
    let file = dir.join("events.yaml");
    std::fs::write(&file, content).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn applying_again_changes_only_differences() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let file = write(dir.path(), EVENTS);
    let lines = |args: &[&str]| -> Vec<String> {
        let said = server.ok(args);
        said.lines()
            .filter(|l| !l.starts_with("post to "))
            .map(str::to_owned)
            .collect()
    };
    let planned = lines(&["apply", "--dry-run", "-f", &file]);
    assert_eq!(
        planned,
        [
            "+ source my-events",
            "+ sink my-events/events",
            "dry run: 2 to create, 0 to change, 0 to delete, 0 unchanged",
        ]
    );
    assert!(server.ok(&["source", "ls", "--json"]).contains("[]"));
    let done = server.ok(&["apply", "-f", &file]);
    assert!(
        done.starts_with("+ source my-events\n+ sink my-events/events\npost to http://"),
        "{done}"
    );
    assert!(
        done.ends_with("2 created, 0 changed, 0 deleted, 0 unchanged\n"),
        "{done}"
    );
    let unchanged = [
        "= source my-events",
        "= sink my-events/events",
        "0 created, 0 changed, 0 deleted, 2 unchanged",
    ];
    assert_eq!(lines(&["apply", "-f", &file]), unchanged);

    let changed = EVENTS
        .replace("Of the shop.", "Of all shops.")
        .replace("          - { name: ip, type: ip }\n", "")
        .replace("value: prod", "value: test");
    let file = write(dir.path(), &changed);
    let differences = [
        "~ source my-events",
        "    ~ description: \"Of the shop.\" → \"Of all shops.\"",
        "~ sink my-events/events",
        "    - columns.ip: {\"type\":\"ip\"}",
        "    ~ columns.env.value: \"prod\" → \"test\"",
    ];
    let planned = lines(&["apply", "--dry-run", "-f", &file]);
    assert_eq!(planned[..5], differences);
    let version = |path: &str| -> serde_json::Value {
        let shown = server.ok(&["source", "show", "my-events", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown.pointer(path).unwrap().clone()
    };
    assert_eq!(version("/sinks/0/version/number"), 1);
    assert_eq!(lines(&["apply", "-f", &file])[..5], differences);
    assert_eq!(version("/sinks/0/version/number"), 2);
    assert_eq!(lines(&["apply", "-f", &file]), unchanged);
    assert_eq!(version("/sinks/0/version/number"), 2);
}

#[test]
fn the_exit_code_tells_whether_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let file = write(dir.path(), EVENTS);
    let code = |more: &[&str]| {
        let args = [&["apply", "-f", &file, "--exit-code"], more].concat();
        let ended = run(&mut server.command(&args));
        assert_eq!(ended.stderr, "", "{ended:?}");
        ended.code
    };
    assert_eq!(code(&["--dry-run"]), Some(2));
    assert_eq!(code(&["--dry-run"]), Some(2), "a dry run changed something");
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--dry-run"]), Some(0));
    let file = write(dir.path(), &EVENTS.replace("type: uuid", "type: uid"));
    let ended = run(&mut server.command(&["apply", "-f", &file, "--exit-code"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn json_has_the_same_differences() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let json = |args: &[&str]| -> serde_json::Value {
        let ended = run(&mut server.command(args));
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
    };
    let file = write(dir.path(), EVENTS);
    let made = json(&["apply", "-f", &file, "--json"]);
    assert_eq!(made["dryRun"], false);
    assert_eq!(made["changes"][0]["action"], "create");
    let url = made["changes"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("http://"), "{made}");
    assert_eq!(made["summary"]["created"], 2);
    let file = write(dir.path(), &EVENTS.replace("value: prod", "value: test"));
    let planned = json(&["apply", "-f", &file, "--json", "--dry-run"]);
    assert_eq!(planned["dryRun"], true);
    assert_eq!(
        planned["changes"][1]["fields"],
        serde_json::json!([{ "field": "columns.env.value", "old": "prod", "new": "test" }])
    );
    let file = write(dir.path(), &EVENTS.replace("type: uuid", "type: uid"));
    let wrong = json(&["apply", "-f", &file, "--json"]);
    let problem = &wrong["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&8.into(), &31.into())
    );
    assert_eq!(problem["path"], "sources[0].sinks[0].columns[0].type");
}

#[test]
fn sinks_that_are_not_in_the_file_are_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let file = write(dir.path(), EVENTS);
    server.ok(&["apply", "-f", &file]);
    let file = write(
        dir.path(),
        "sources:\n  - { name: My events, description: Of the shop. }\n",
    );
    let said = run(&mut server.command(&["apply", "-f", &file]));
    assert!(said.stdout.starts_with("= source my-events\n"), "{said:?}");
    assert!(
        said.stderr
            .contains("sink my-events/events is not in the file and is not changed"),
        "{said:?}"
    );
}

/// Invalid files with parts of their error messages.
fn mistakes() -> Vec<(String, Vec<&'static str>)> {
    vec![
        (
            EVENTS.replace("columns:", "colums:"),
            vec![
                "error: colums is not a known key; did you mean columns?",
                " --> ",
                "events.yaml:7:9\n  |\n7 |         colums:",
                "\n  |         ^^^^^^\n",
            ],
        ),
        (
            EVENTS.replace("type: uuid", "type: uid"),
            vec![
                "type is \"uid\", allowed is uuid, datetime",
                "did you mean uuid?",
                "events.yaml:8:31\n",
                "8 |           - { name: id, type: uid }\n",
                "  |                               ^^^\n",
            ],
        ),
        (
            EVENTS.replace("'Body(\"price\")", "'Bod(\"price\")"),
            vec!["sink my-events/events: ", "events.yaml:14:54\n", "1:1"],
        ),
        (
            EVENTS.replace("name: at", "name: ID"),
            vec!["used more than once", "events.yaml:9:21\n"],
        ),
        (
            EVENTS.replace("in.demo.events", "demo.events"),
            vec!["events.yaml:6:16\n", "tableId"],
        ),
        (
            EVENTS.replace(
                "        columns",
                "        settings: { nope: 1 }\n        columns",
            ),
            vec!["sink my-events/events: ", "events.yaml:7:27\n", "nope"],
        ),
        (
            EVENTS.replace("    sinks:", "    settings: { nope: 1 }\n    sinks:"),
            vec!["source my-events: ", "events.yaml:4:23\n", "nope"],
        ),
        (
            EVENTS
                .replace(
                    "        table: in.demo.events\n",
                    "        http: { provider: none }\n",
                )
                .split("        columns")
                .next()
                .unwrap()
                .to_owned(),
            vec!["sink my-events/events: ", "events.yaml:6:27\n", "none"],
        ),
    ]
}

/// Several mistakes in one file.
fn combined_mistakes() -> Vec<(String, Vec<&'static str>)> {
    // A second invalid sink, and a valid source.
    let twice = EVENTS
        .replace("path: user.id", "path: 'user['")
        .replace("Body(\"price\")", "Body(")
        + "      - table: demo.x\n        columns: [{ name: a, type: uuid }]\n\
           \x20 - name: Fine\n    sinks: [{ table: in.a.b, columns: [{ name: a, type: uuid }] }]\n";
    vec![
        (
            twice,
            vec![
                "3 problems; nothing was changed",
                "events.yaml:13:45\n",
                "events.yaml:14:54\n",
                "sink my-events/x: ",
                "events.yaml:16:16\n",
                "tableId",
            ],
        ),
        (
            format!(
                "{EVENTS}      - {{ name: Events, table: in.a.b, columns: [{{ name: a, type: ip }}] }}\n"
            ),
            vec!["sink events is defined twice", "events.yaml:16:"],
        ),
        ("sources: [".to_owned(), vec!["events.yaml:"]),
    ]
}

#[test]
fn an_invalid_file_changes_nothing_and_reports_every_violation_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    for (content, said) in mistakes().into_iter().chain(combined_mistakes()) {
        let file = write(dir.path(), &content);
        for more in [&["--dry-run"][..], &[]] {
            let args = [&["apply", "-f", &file], more].concat();
            let ended = run(&mut server.command(&args));
            assert_eq!(ended.code, Some(2), "{more:?} {ended:?}\n{content}");
            for said in &said {
                assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
            }
            assert_eq!(server.ok(&["source", "ls", "--json"]).trim(), "[]");
        }
    }
    // A rejected change is found before an earlier one is applied.
    let file = write(dir.path(), EVENTS);
    server.ok(&["apply", "-f", &file]);
    let changed = EVENTS
        .replace("Of the shop.", "Of another shop.")
        .replace("type: uuid", "type: uid");
    let file = write(dir.path(), &changed);
    let ended = run(&mut server.command(&["apply", "-f", &file]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let shown = server.ok(&["source", "show", "my-events"]);
    assert!(shown.contains("Of the shop."), "{shown}");
}

#[test]
fn a_source_is_created_listed_shown_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let none = run(&mut server.command(&["source", "ls"]));
    assert!(none.stderr.contains("no sources yet"), "{none:?}");
    let said = server.ok(&[
        "source",
        "create",
        "My events",
        "--sink",
        "in.demo.events",
        "--column",
        "id=uuid",
        "--column",
        "user=path,key,default=\"-\":user.id",
        "--column",
        "env=static:prod",
    ]);
    assert!(
        said.starts_with("source my-events created\npost to http://127.0.0.1:"),
        "{said}"
    );
    let list = server.ok(&["source", "ls"]);
    assert!(
        list.contains("my-events") && list.contains("My events"),
        "{list}"
    );
    let shown = server.ok(&["source", "show", "my-events"]);
    for part in [
        "into table in.demo.events",
        "user",
        "path",
        "user.id",
        "prod",
        "0 accepted",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&server.ok(&["source", "show", "my-events", "--json"])).unwrap();
    assert_eq!(
        json["sinks"][0]["table"]["mapping"]["columns"][1]["primaryKey"],
        true
    );
    let twice = run(&mut server.command(&["source", "create", "My events"]));
    assert_eq!(twice.code, Some(1));
    assert!(twice.stderr.contains("already exists"), "{twice:?}");
    assert!(
        server
            .ok(&["source", "delete", "my-events"])
            .contains("deleted")
    );
    let gone = run(&mut server.command(&["source", "show", "my-events"]));
    assert!(
        gone.code == Some(1) && gone.stderr.contains("not found"),
        "{gone:?}"
    );
}

#[test]
fn a_source_is_not_left_behind_without_its_sink() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    for (table, column, said) in [
        ("in.demo.events", "t=template:Bod()", "1:1"),
        ("demo.events", "id=uuid", "tableId"),
    ] {
        let ended = run(&mut server.command(&[
            "source", "create", "events", "--sink", table, "--column", column,
        ]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
    assert_eq!(server.ok(&["source", "ls", "--json"]).trim(), "[]");
    let said = forebay_with(&[
        "source", "create", "x", "--sink", "in.a.b", "--column", "id=uid",
    ]);
    assert!(
        said.code == Some(2) && said.stderr.contains("did you mean uuid?"),
        "{said:?}"
    );
}

#[test]
fn a_missing_server_or_token_is_reported_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let api = format!("http://{}", server.api);
    let bad = dir.path().join("bad");
    std::fs::write(&bad, "wrong").unwrap();
    let bad = bad.to_str().unwrap();
    let said = run(&mut server.command(&["source", "ls", "--token-file", bad]));
    assert!(
        said.code == Some(1) && said.stderr.contains("Invalid access token."),
        "{said:?}"
    );
    assert!(said.stderr.contains("--token-file"), "{said:?}");
    let token = std::fs::read_to_string(data.join("token")).unwrap();
    let said = run(forebay()
        .args(["source", "ls", "--api", &api])
        .env("FOREBAY_TOKEN", token.trim()));
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = run(forebay()
        .current_dir(dir.path())
        .args(["source", "ls", "--api", &api]));
    assert!(
        said.stderr.contains("no token: ") && said.stderr.contains("--data-dir"),
        "{said:?}"
    );
    server.kill();
    let said = run(forebay().args([
        "source",
        "ls",
        "--api",
        &api,
        "--data-dir",
        data.to_str().unwrap(),
    ]));
    assert!(
        said.code == Some(1) && said.stderr.contains("can't reach Forebay at"),
        "{said:?}"
    );
    assert!(said.stderr.contains("is it running?"), "{said:?}");
    let said = forebay_with(&[
        "source",
        "ls",
        "--api",
        "nonsense",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert!(
        said.code == Some(2) && said.stderr.contains("\"nonsense\" is not an address"),
        "{said:?}"
    );
}

#[test]
fn command_line_and_file_define_the_same_source() {
    for profile in ["forebay", "keboola"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start_with(
            &dir.path().join("data"),
            &["--set", &format!("profile={profile}")],
        );
        server.ok(&[
            "source",
            "create",
            "My events",
            "--sink",
            "in.demo.events",
            "--backend",
            "sqlite",
            "--column",
            "id=uuid",
            "--column",
            "user=path:user.id",
            "--column",
            "all=path,json:user",
            "--column",
            "total=template:Body(\"price\")",
            "--column",
            "code=static:07302",
        ]);
        let file = write(
            dir.path(),
            "\
sources:
  - name: My events
    sinks:
      - table: in.demo.events
        backend: sqlite
        columns:
          - { name: id, type: uuid }
          - { name: user, type: path, path: user.id }
          - { name: all, type: path, path: user, rawString: false }
          - { name: total, type: template, template: 'Body(\"price\")' }
          - { name: code, type: static, value: 07302 }
",
        );
        let said = server.ok(&["apply", "-f", &file]);
        assert!(
            said.starts_with("= source my-events\n= sink my-events/events\n"),
            "{profile}: {said}"
        );
        let shown = server.ok(&["source", "show", "my-events"]);
        for part in ["07302", "path,json "] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
