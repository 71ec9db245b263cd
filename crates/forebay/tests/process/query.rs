//! `forebay query`.

use std::io::Write;
use std::process::Stdio;

use crate::server::{Ended, Server, forebay, run};

/// Runs `forebay query` with statements on standard input.
fn session(server: &Server, input: &str, args: &[&str]) -> Ended {
    let mut command = server.command(&[&["query"], args].concat());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn statements_come_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    server.post(&path, "{\"n\": 7}");
    server.settled("events", "events", 1);
    let input = ".tables\n.mode csv\n\nSELECT n\nFROM \"in.test.events\";\n.mode ndjson\n\
                 .schema \"in.test.events\"\n.mode\n.mode line\nSELECT 1 AS a, NULL AS bc";
    let said = session(&server, input, &[]);
    assert_eq!(
        said.stdout,
        "table\n----------------\n\"in.test.events\"\nn\n7\n\
         {\"column\":\"n\",\"type\":\"TEXT\",\"key\":0}\n{\"column\":\"id\",\"type\":\"TEXT\",\"key\":0}\n\
         ndjson\na   1\nbc  NULL\n",
        "{said:?}"
    );
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    for (input, code, expected) in [
        (".nope\n", 2, "unknown command .nope"),
        (
            ".mode xml\n",
            2,
            "mode is \"xml\", allowed are table, json, csv, ndjson, markdown, line",
        ),
        (".schema\n", 2, ".schema needs a table"),
        (
            "DELETE FROM \"in.test.events\";\nSELECT 1;\n",
            1,
            "would change the database",
        ),
    ] {
        let said = session(&server, input, &[]);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(
            said.stderr.contains(expected) && said.stdout.is_empty(),
            "{said:?}"
        );
    }
    let said = session(&server, ".help\n.quit\nnot reached", &[]);
    assert!(
        said.code == Some(0) && said.stdout.contains(".tables"),
        "{said:?}"
    );
}

#[test]
fn rows_are_printed_as_table_json_or_csv_and_queries_are_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    server.ok(&[
        "source",
        "create",
        "q",
        "--sink",
        "in.test.q",
        "--column",
        "n=path:n",
        "--column",
        "s=path:s",
    ]);
    let path = server.path("q");
    server.post(&path, r#"{"n": 7, "s": "a \"b\", ž"}"#);
    server.post(&path, r#"{"n": 12, "s": "line\nbreak"}"#);
    server.settled("q", "q", 2);
    let sql = "SELECT CAST(n AS INTEGER) AS n, s FROM \"in.test.q\" ORDER BY 1";
    assert_eq!(
        server.ok(&["query", sql]),
        "n   s\n--  -----------\n 7  a \"b\", ž\n12  line\\nbreak\n"
    );
    assert_eq!(
        server.ok(&["query", sql, "--format", "json"]),
        "[\n {\"n\":7,\"s\":\"a \\\"b\\\", ž\"},\n {\"n\":12,\"s\":\"line\\nbreak\"}\n]\n"
    );
    assert_eq!(
        server.ok(&["query", sql, "--format", "csv"]),
        "n,s\n7,\"a \"\"b\"\", ž\"\n12,\"line\nbreak\"\n"
    );
    assert_eq!(
        server.ok(&["query", "SELECT NULL AS x", "--format", "json"]),
        "[\n {\"x\":null}\n]\n"
    );
    assert_eq!(
        server.ok(&["query", "SELECT 1 AS x WHERE 0", "--format", "json"]),
        "[]\n"
    );

    let limited = run(&mut server.command(&["query", sql, "--limit", "1", "--format", "csv"]));
    assert_eq!(limited.stdout.lines().count(), 2);
    assert!(
        limited.stderr.contains("only the first 1 row shown"),
        "{limited:?}"
    );

    for (sql, said) in [
        ("DELETE FROM \"in.test.q\"", "would change the database"),
        ("SELECT 1; SELECT 2", "only one statement"),
        ("SELEC 1", "syntax error"),
        (
            "SELECT * FROM \"in.test.nope\"",
            "existing tables: \"in.test.q\"",
        ),
    ] {
        let ended = run(&mut server.command(&["query", sql]));
        assert!(
            ended.code == Some(1) && ended.stderr.contains(said),
            "{sql}: {ended:?}"
        );
    }
    // Also without a server.
    let after = server.command(&[
        "query",
        "SELECT count(*) AS n FROM \"in.test.q\"",
        "--format",
        "csv",
    ]);
    server.kill();
    let mut after = after;
    assert_eq!(run(&mut after).stdout, "n\n2\n");
}

#[test]
fn a_directory_without_tables_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let said = crate::server::forebay_with(&[
        "query",
        "SELECT 1",
        "--data-dir",
        dir.path().to_str().unwrap(),
    ]);
    assert!(
        said.code == Some(1) && said.stderr.contains("there is no database"),
        "{said:?}"
    );
    assert!(said.stderr.contains("--data-dir"), "{said:?}");
}

#[test]
fn a_reader_that_closes_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    rusqlite::Connection::open(dir.path().join("tables.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t (a TEXT)")
        .unwrap();
    let data = dir.path().to_str().unwrap();
    // A reader that closes early, as `head` does, is no error, with any format.
    for format in ["table", "json", "csv"] {
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) \
                    SELECT i FROM n";
        let mut command = forebay();
        command.args(["query", many, "--format", format, "--data-dir", data]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(
            ended.status.success() && ended.stderr.is_empty(),
            "{format}: {ended:?}"
        );
    }
}

#[test]
fn failed_statements_get_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--set", "coordinator.importMinInterval=2s"]);
    server.ok(&[
        "source",
        "create",
        "q",
        "--sink",
        "in.test.q",
        "--column",
        "n=path:n",
    ]);
    let asked = |sql: &str| run(&mut server.command(&["query", sql]));
    let unquoted = asked("SELECT * FROM in.test.q");
    let hint = "put table ids in double quotes: \"in.test.q\"";
    assert!(unquoted.stderr.contains(hint), "{unquoted:?}");
    let empty = asked("SELECT * FROM \"in.test.q\"");
    let hint = "\"in.test.q\" is defined and has no rows yet";
    assert!(
        empty.code == Some(1) && empty.stderr.contains(hint),
        "{empty:?}"
    );
    let unknown = asked("SELECT * FROM \"in.test.other\"");
    assert!(
        unknown.stderr.contains("no tables exist yet"),
        "{unknown:?}"
    );
    let path = server.path("q");
    for n in 0..3 {
        server.post(&path, &format!("{{\"n\": {n}}}"));
    }
    let sql = "SELECT count(*) AS n FROM \"in.test.q\"";
    assert_eq!(
        server.ok(&["query", sql, "--wait", "--format", "csv"]),
        "n\n3\n"
    );
}

/// Each sink is waited for, not only the first of the table.
#[test]
fn a_query_waits_for_all_sinks_of_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    for source in ["one", "two"] {
        server.ok(&[
            "source",
            "create",
            source,
            "--sink",
            "in.demo.shared",
            "--column",
            "id=uuid",
        ]);
    }
    for _ in 0..3 {
        server.post(&server.path("two"), "{}");
    }
    let sql = "SELECT count(*) FROM \"in.demo.shared\"";
    let rows = server.ok(&["query", sql, "--wait", "--format", "csv"]);
    assert!(rows.ends_with("\n3\n"), "{rows}");
}
