//! Typed columns from the record to the table, read by clients of the databases.

use forebay_test_support::{HttpClient, services};
use serde_json::json;

use crate::server::{Server, run, wait_for};

/// Records with values of all types; the last two are rejected.
const RECORDS: [(&str, u16); 5] = [
    (
        r#"{"id": 9223372036854775807, "price": 0.1, "paid": true, "at": 1767323045123, "more": {"b": 1.50, "a": "ě\u0000"}}"#,
        200,
    ),
    (
        r#"{"id": "-7", "price": "1e3", "paid": "false", "at": "2026-01-02T04:04:05.1234567+01:00", "more": [1, 2]}"#,
        200,
    ),
    (
        r#"{"id": 1.0, "price": null, "paid": null, "at": null, "more": null}"#,
        200,
    ),
    (
        r#"{"id": 2, "price": "abc", "paid": true, "at": 0, "more": 1}"#,
        422,
    ),
    (
        r#"{"id": null, "price": 1, "paid": true, "at": 0, "more": 1}"#,
        422,
    ),
];

fn definitions(table: &str, action: &str) -> String {
    format!(
        "sources:
  - name: Shop
    sinks:
      - table: {table}
        settings: {{ local.mapping.rejected.action: {action} }}
        columns:
          - {{ name: id, from: path, path: id, as: integer, key: true }}
          - {{ name: price, from: path, path: price, as: double }}
          - {{ name: double, type: template, template: 'Body(\"id\")', dataType: text }}
          - {{ name: paid, type: path, path: paid, dataType: boolean }}
          - {{ name: at, type: path, path: at, dataType: timestamp, unit: ms }}
          - {{ name: more, type: path, path: more, dataType: json }}
          - {{ name: missing, type: path, path: no, dataType: integer, defaultValue: '' }}
          - {{ name: received, type: datetime, dataType: timestamp }}
          - {{ name: half, type: template, template: '1 / 2', dataType: double }}
"
    )
}

fn post(server: &Server, record: &str) -> (u16, String) {
    let headers = [("Content-Type", "application/json")];
    let mut client = HttpClient::new(server.source);
    let path = server.path("shop");
    let answer = client
        .send("POST", &path, &headers, record.as_bytes())
        .unwrap();
    let text = String::from_utf8_lossy(&answer.body).replace("\\\"", "\"");
    (answer.status, text)
}

/// Applies the definitions, sends the records, and waits for the rows.
fn send(server: &Server, table: &str) {
    let file = server.data().join("shop.yaml");
    std::fs::write(&file, definitions(table, "reject")).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap()];
    server.ok(&apply);
    // What is stored is what was applied.
    let again = server.ok(&apply);
    assert!(again.contains("2 unchanged"), "{again}");
    for (record, status) in RECORDS {
        let (found, text) = post(server, record);
        assert_eq!(found, status, "{record}: {text}");
        let is_rejected = text.contains("stream.in.invalidType");
        assert_eq!(is_rejected, status == 422, "{text}");
    }
    let (_, text) = post(server, RECORDS[3].0);
    let said =
        r#"Column "price": the column is a double, the record has "abc"; allowed is a number"#;
    assert!(text.contains(said), "{text}");
    server.settled("shop", "orders", 3);
}

#[test]
fn typed_values_are_read_back_from_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    send(&server, "in.shop.orders");
    let file = server.data().join("tables.db");
    let database = rusqlite::Connection::open(file).unwrap();
    let rows: Vec<String> = {
        let sql = r#"SELECT json_array(id, typeof(id), price, typeof(price), paid, typeof(paid), at, more,
            missing, half, typeof(received)) FROM "in.shop.orders" ORDER BY id"#;
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|r| serde_json::from_str(r).unwrap())
        .collect();
    assert_eq!(
        rows,
        [
            json!([
                -7,
                "integer",
                1000.0,
                "real",
                0,
                "integer",
                "2026-01-02T03:04:05.123456Z",
                "[1,2]",
                null,
                0.5,
                "text"
            ]),
            json!([
                1, "integer", null, "null", null, "null", null, null, null, 0.5, "text"
            ]),
            json!([
                i64::MAX,
                "integer",
                0.1,
                "real",
                1,
                "integer",
                "2026-01-02T03:04:05.123000Z",
                r#"{"b":1.50,"a":"ě\u0000"}"#,
                null,
                0.5,
                "text"
            ]),
        ]
    );
    let said = server.ok(&[
        "query",
        r#"SELECT id, paid, price FROM "in.shop.orders" ORDER BY id"#,
        "--format",
        "ndjson",
    ]);
    assert_eq!(
        said,
        "{\"id\":-7,\"paid\":false,\"price\":1000.0}\n{\"id\":1,\"paid\":null,\"price\":null}\n\
         {\"id\":9223372036854775807,\"paid\":true,\"price\":0.1}\n"
    );
    rejected_values_can_be_kept(&server);
    types_of_existing_tables_are_checked(&server);
}

fn rejected_values_can_be_kept(server: &Server) {
    let file = server.data().join("shop.yaml");
    std::fs::write(&file, definitions("in.shop.orders", "dead_letter")).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    // The source node follows the change of the setting.
    wait_for("the record as a dead letter", || {
        let (status, _) = post(server, RECORDS[3].0);
        (status == 200).then_some(())
    });
    let dead = server.ok(&["dead", "ls", "shop", "orders", "--json"]);
    let dead: serde_json::Value = serde_json::from_str(&dead).unwrap();
    assert_eq!(dead[0]["error"], "stream.in.invalidType", "{dead}");
    assert_eq!(dead[0]["column"], "price", "{dead}");
}

/// The column `price` of the table is a double.
fn types_of_existing_tables_are_checked(server: &Server) {
    let file = server.data().join("shop.yaml");
    let changed = definitions("in.shop.orders", "reject").replace("as: double }", "as: integer }");
    std::fs::write(&file, changed).unwrap();
    let said = run(&mut server.command(&["apply", "-f", file.to_str().unwrap()]));
    assert_ne!(said.code, Some(0), "{said:?}");
    for words in [
        "column \"price\" has type REAL, Forebay writes integer",
        "use another column or table",
    ] {
        assert!(said.stderr.contains(words), "{said:?}");
    }
}

#[test]
fn typed_values_are_read_back_from_postgres() {
    let name = "typed_values_are_read_back_from_postgres";
    let Some(postgres) = services::postgres(name) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("postgres.url");
    std::fs::write(&url, &postgres.url).unwrap();
    let unique = format!("types{}", std::process::id());
    let config = dir.path().join("forebay.yaml");
    let ca = postgres
        .ca_file
        .map(|f| format!("    caFile: {f}\n"))
        .unwrap_or_default();
    let text = format!(
        "table:\n  default: postgres\n  postgres:\n    url: ${{file:{}}}\n    ledgerSchema: forebay_{unique}\n{ca}",
        url.display()
    );
    std::fs::write(&config, text).unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &["--config", config.to_str().unwrap()]);
    let table = format!("in.{unique}.orders");
    send(&server, &table);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rows: Vec<String> = runtime.block_on(async {
        let tls = tokio_postgres::NoTls;
        let (client, connection) = tokio_postgres::connect(&postgres.url, tls).await.unwrap();
        tokio::spawn(connection);
        let sql = format!(
            "SELECT concat_ws('|', id, pg_typeof(id), price, pg_typeof(price), paid, pg_typeof(paid),
                at AT TIME ZONE 'UTC', pg_typeof(at), more, pg_typeof(more), missing, half,
                pg_typeof(received)) FROM \"in.{unique}\".\"orders\" ORDER BY id"
        );
        let rows = client.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    });
    let time = "timestamp with time zone";
    assert_eq!(
        rows,
        [
            format!(
                "-7|bigint|1000|double precision|f|boolean|2026-01-02 03:04:05.123456|{time}|[1,2]|json|0.5|{time}"
            ),
            format!("1|bigint|double precision|boolean|{time}|json|0.5|{time}"),
            format!(
                "9223372036854775807|bigint|0.1|double precision|t|boolean|2026-01-02 03:04:05.123|{time}|{}|json|0.5|{time}",
                r#"{"b":1.50,"a":"ě\u0000"}"#
            ),
        ]
    );
}
