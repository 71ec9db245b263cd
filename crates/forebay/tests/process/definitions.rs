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
            "source my-events would create",
            "sink my-events/events would create"
        ]
    );
    assert!(server.ok(&["source", "ls", "--json"]).contains("[]"));
    let done = server.ok(&["apply", "-f", &file]);
    assert!(
        done.starts_with(
            "source my-events created\nsink my-events/events created\npost to http://"
        ),
        "{done}"
    );
    let again = lines(&["apply", "-f", &file]);
    assert_eq!(
        again,
        [
            "source my-events unchanged",
            "sink my-events/events unchanged"
        ]
    );

    let changed = EVENTS
        .replace("Of the shop.", "Of all shops.")
        .replace("value: prod", "value: test");
    let file = write(dir.path(), &changed);
    let said = lines(&["apply", "-f", &file]);
    assert_eq!(
        said,
        [
            "source my-events updated (description)",
            "sink my-events/events updated (columns)"
        ]
    );
    let said = lines(&["apply", "-f", &file]);
    assert_eq!(
        said,
        [
            "source my-events unchanged",
            "sink my-events/events unchanged"
        ]
    );
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
    assert!(
        said.stdout.starts_with("source my-events unchanged\n"),
        "{said:?}"
    );
    assert!(
        said.stderr
            .contains("sink my-events/events is not in the file and is not changed"),
        "{said:?}"
    );
}

/// Invalid files with parts of their error messages.
fn mistakes() -> Vec<(String, Vec<&'static str>)> {
    // A second invalid sink, and a valid source.
    let twice = EVENTS.replace("type: uuid", "type: uid")
        + "      - table: demo.x\n        columns: [{ name: a, type: uuid }]\n\
           \x20 - name: Fine\n    sinks: [{ table: in.a.b, columns: [{ name: a, type: uuid }] }]\n";
    vec![
        (
            EVENTS.replace("columns:", "colums:"),
            vec!["events.yaml:7:", "unknown field `colums`"],
        ),
        (
            EVENTS.replace("type: uuid", "type: uid"),
            vec!["events.yaml:5: sink my-events/events: ", "uid"],
        ),
        (
            EVENTS.replace("'Body(\"price\")", "'Bod(\"price\")"),
            vec!["events.yaml:5: sink my-events/events: ", "1:1"],
        ),
        (
            EVENTS.replace("name: at", "name: ID"),
            vec!["used more than once"],
        ),
        (
            EVENTS.replace("in.demo.events", "demo.events"),
            vec!["events.yaml:5: ", "tableId"],
        ),
        (
            EVENTS.replace(
                "        columns",
                "        settings: { nope: 1 }\n        columns",
            ),
            vec!["events.yaml:5: settings of sink my-events/events: ", "nope"],
        ),
        (
            EVENTS.replace("    sinks:", "    settings: { nope: 1 }\n    sinks:"),
            vec!["events.yaml:2: settings of source my-events: ", "nope"],
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
            vec!["events.yaml:5: sink my-events/events: ", "none"],
        ),
        (
            twice,
            vec![
                "2 problems",
                "events.yaml:5: sink my-events/events: ",
                "events.yaml:16: sink my-events/x: ",
                "tableId",
            ],
        ),
        (
            format!(
                "{EVENTS}      - {{ name: Events, table: in.a.b, columns: [{{ name: a, type: ip }}] }}\n"
            ),
            vec!["events.yaml:16: sink events is defined twice"],
        ),
        ("sources: [".to_owned(), vec!["events.yaml:"]),
    ]
}

#[test]
fn an_invalid_file_changes_nothing_and_reports_every_violation_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    for (content, said) in mistakes() {
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
            said.starts_with("source my-events unchanged\nsink my-events/events unchanged\n"),
            "{profile}: {said}"
        );
        let shown = server.ok(&["source", "show", "my-events"]);
        for part in ["07302", "path,json "] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
