//! The path of a record through S3 and PostgreSQL, by a configuration file.

use forebay_test_support::services;
use secrecy::ExposeSecret;

use crate::server::{Server, forebay, run};

#[test]
fn records_pass_through_s3_into_postgres() {
    let name = "records_pass_through_s3_into_postgres";
    let (Some(postgres), Some(s3)) = (services::postgres(name), services::s3(name)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.yaml");
    let key = dir.path().join("s3.key");
    std::fs::write(&key, format!("{}\n", s3.secret_key.expose_secret())).unwrap();
    let url = dir.path().join("postgres.url");
    std::fs::write(&url, &postgres.url).unwrap();
    // Own schemas and objects: other tests use the same servers.
    let unique = format!("walk{}", std::process::id());
    let ca = postgres
        .ca_file
        .map(|f| format!("    caFile: {f}\n"))
        .unwrap_or_default();
    let text = format!(
        "staging:\n  type: s3\n  s3:\n    bucket: {}\n    prefix: {unique}\n    endpoint: {}\n    accessKeyId: {}\n    \
         secretAccessKey: ${{file:{}}}\ntable:\n  default: postgres\n  postgres:\n    url: ${{file:{}}}\n    \
         ledgerSchema: forebay_{unique}\n{ca}",
        s3.bucket,
        s3.endpoint,
        s3.access_key,
        key.display(),
        url.display(),
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let shown = run(forebay().args(["config", "show", "--config", file]));
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(
        !shown.stdout.contains(s3.secret_key.expose_secret()),
        "{}",
        shown.stdout
    );

    let server = Server::start_with(&dir.path().join("data"), &["--config", file]);
    let table = format!("in.{unique}.events");
    server.ok(&[
        "source", "create", "events", "--sink", &table, "--column", "n=path:n", "--column",
        "id=uuid",
    ]);
    let path = server.path("events");
    for n in 0..5 {
        server.post(&path, &format!("{{\"n\": {n}}}"));
    }
    let balance = server.settled("events", "events", 5);
    assert_eq!(balance["imported"], 5, "{balance}\n{}", server.log());
    // The embedded database has no rows of it.
    let here = run(&mut server.command(&[
        "query",
        &format!("SELECT * FROM \"{table}\""),
        "--config",
        file,
    ]));
    assert_eq!(here.code, Some(1), "{here:?}");
    assert!(!dir.path().join("data/staging").exists());
    let (schema, _) = table.rsplit_once('.').unwrap();
    let hint = format!("in PostgreSQL the table is \"{schema}\".\"events\"");
    assert!(here.stderr.contains(&hint), "{here:?}");
    queries_only_read(&server, schema, file);
}

/// Queries of the table `events` of a schema with five rows.
fn queries_only_read(server: &Server, schema: &str, file: &str) {
    let query = |sql: &str| {
        run(&mut server.command(&[
            "query", sql, "--config", file, "--format", "ndjson", "--limit", "2",
        ]))
    };
    let rows = query(&format!(
        "SELECT n, 1 AS one, NULL AS nothing FROM \"{schema}\".\"events\" ORDER BY n;"
    ));
    assert_eq!(
        rows.stdout,
        "{\"n\":\"0\",\"one\":1,\"nothing\":null}\n{\"n\":\"1\",\"one\":1,\"nothing\":null}\n",
        "{rows:?}"
    );
    assert!(
        rows.stderr.contains("only the first 2 rows shown"),
        "{rows:?}"
    );
    // The server rejects a write, wherever it is; the client what would end its transaction.
    let write =
        format!("WITH w AS (DELETE FROM \"{schema}\".\"events\" RETURNING 1) SELECT * FROM w");
    for (sql, expected) in [
        (write.as_str(), "read-only transaction"),
        ("COMMIT", "only reads are allowed"),
        ("SELECT 1; SELECT 2", "multiple commands"),
        ("SELECT pg_catalog.nope()", "does not exist"),
    ] {
        let said = query(sql);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains(expected), "{sql}: {said:?}");
    }
}
