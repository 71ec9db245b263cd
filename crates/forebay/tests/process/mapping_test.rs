//! `forebay test`: mappings on sample records, without a server.

use std::path::Path;

use serde_json::{Value, json};

use crate::server::{Ended, Server, forebay, run};

const DEFINITIONS: &str = "\
sources:
  - name: Orders
    sinks:
      - table: in.demo.orders
        columns:
          - { name: id, type: uuid, primaryKey: true }
          - { name: at, type: datetime }
          - { name: user, type: path, path: user.id }
          - { name: total, type: template, template: 'Body(\"price\") * Body(\"count\")' }
";

fn test(dir: &Path, samples: &str, args: &[&str]) -> Ended {
    let mut command = forebay();
    command.current_dir(dir);
    run(command
        .args(["test", "-f", "events.yaml", samples])
        .args(args))
}

/// A directory with definitions and one file of samples.
fn dir_with(name: &str, samples: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("events.yaml"), DEFINITIONS).unwrap();
    std::fs::write(dir.path().join(name), samples).unwrap();
    dir
}

#[test]
fn rows_are_printed_and_rejected_records_fail() {
    let samples =
        "{\"user\":{\"id\":\"ada\"},\"price\":2,\"count\":3}\n\n{\"price\":1,\"count\":1}\n";
    let dir = dir_with("s.ndjson", samples);
    let said = test(dir.path(), "s.ndjson", &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    // Nothing depends on the time of the test or on random numbers.
    let row = "1  019b76da-a800-7000-8000-000000000000  2026-01-01T00:00:00.000Z  ada       6";
    assert!(
        said.stdout.contains("orders/orders (in.demo.orders)\n"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains(row), "{}", said.stdout);
    let error = "record 3: column \"user\": path \"user.id\" not found in the body";
    assert!(said.stdout.contains(error), "{}", said.stdout);
    assert!(
        said.stderr.contains("1 of 2 tests failed"),
        "{}",
        said.stderr
    );
    assert_eq!(said, test(dir.path(), "s.ndjson", &[]));

    let set = [
        "--received-at",
        "2026-02-03T04:05:06.007Z",
        "--limit",
        "1",
        "--json",
    ];
    let said = test(dir.path(), "s.ndjson", &set);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.stderr.contains("only the first 1 sample tested"),
        "{}",
        said.stderr
    );
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let row = &report["records"][0]["row"];
    assert_eq!(row["at"], "2026-02-03T04:05:06.007Z");
    assert_eq!((&row["user"], &row["total"]), (&json!("ada"), &json!("6")));
    assert_eq!(report["failed"], 0);
}

#[test]
fn cases_are_unit_tests() {
    let cases = "\
cases:
  - name: an order
    body: { user: { id: ada }, price: 2, count: 3 }
    receivedAt: 2026-02-03T04:05:06.007Z
    expect: { user: ada, total: 6, at: 2026-02-03T04:05:06.007Z }
  - body: { price: 1 }
    expectError: 'path \"user.id\" not found'
";
    let dir = dir_with("cases.yaml", cases);
    let said = test(dir.path(), "cases.yaml", &[]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");

    let wrong = cases
        .replace("total: 6", "total: 7, sum: 1")
        .replace("not found'", "was found'");
    std::fs::write(dir.path().join("cases.yaml"), wrong).unwrap();
    let said = test(dir.path(), "cases.yaml", &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for expected in [
        "record 1 \"an order\" in orders/orders\n  total\n    expected  7\n    actual    6\n",
        "  sum\n    expected  1\n    actual    no such column; columns are id, at, user, total\n",
        "record 2 in orders/orders\n  error\n    expected  path \"user.id\" was found\n    actual    column \"user\": path",
    ] {
        assert!(said.stdout.contains(expected), "{}", said.stdout);
    }
    assert!(
        said.stderr.contains("2 of 2 tests failed"),
        "{}",
        said.stderr
    );
    let said = test(dir.path(), "cases.yaml", &["--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let difference = json!({ "column": "total", "expected": "7", "actual": "6" });
    assert_eq!(report["records"][0]["differences"][0], difference);

    // A record that should fail and does not.
    let cases =
        "{\"body\":{\"user\":{\"id\":\"a\"},\"price\":1,\"count\":1},\"expectError\":\"x\"}";
    std::fs::write(dir.path().join("cases.ndjson"), cases).unwrap();
    let said = test(dir.path(), "cases.ndjson", &["--cases"]);
    assert!(
        said.stdout
            .contains("actual    no error: the record has a row"),
        "{said:?}"
    );
    assert_eq!(said.code, Some(1));
}

#[test]
fn invalid_definitions_and_samples_are_usage_errors() {
    let dir = dir_with("s.ndjson", "{}");
    let tries: [(&str, &str, &[&str], &[&str]); 5] = [
        (
            "user.id }",
            "'user[' }",
            &[],
            &[
                "sink orders/orders: column \"user\" is invalid",
                " --> events.yaml:8:45\n",
            ],
        ),
        (
            "Body(\"price\")",
            "Bdy(\"price\")",
            &[],
            &[
                "sink orders/orders: column \"total\" is invalid",
                " --> events.yaml:9:54\n",
            ],
        ),
        (
            "type: uuid,",
            "type: uid,",
            &[],
            &[
                "type is \"uid\", allowed is uuid, datetime",
                " --> events.yaml:6:31\n",
            ],
        ),
        (
            "",
            "",
            &["--sink", "nope"],
            &["record 1: sink \"nope\" is not in the file; sinks are orders/orders"],
        ),
        (
            "",
            "",
            &["--header", "nope"],
            &["--header is \"nope\", allowed is NAME: VALUE"],
        ),
    ];
    for (from, to, args, expected) in tries {
        let text = DEFINITIONS.replace(from, to);
        let text = if from.is_empty() {
            DEFINITIONS.to_owned()
        } else {
            text
        };
        std::fs::write(dir.path().join("events.yaml"), text).unwrap();
        let said = test(dir.path(), "s.ndjson", args);
        assert_eq!(said.code, Some(2), "{said:?}");
        for expected in expected {
            assert!(said.stderr.contains(expected), "{}", said.stderr);
        }
        assert!(!said.stderr.contains("nothing was changed"), "{said:?}");
    }
}

#[test]
fn rows_are_compared_with_the_mapping_in_force() {
    let samples =
        "{\"user\":{\"id\":\"ada\"},\"price\":2,\"count\":3}\n{\"price\":1,\"count\":1}\n";
    let dir = dir_with("s.ndjson", samples);
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let file = dir.path().join("events.yaml");
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    let against = ["--against", "orders", "--data-dir", data.to_str().unwrap()];
    // The second record is rejected by both.
    let said = test(dir.path(), "s.ndjson", &against);
    assert_eq!(said.code, Some(0), "{said:?}");
    let changed = DEFINITIONS
        .replace("Body(\"price\") *", "10 * Body(\"price\") *")
        .replace("path: user.id }", "path: user.id, defaultValue: none }");
    std::fs::write(&file, changed).unwrap();
    let said = test(dir.path(), "s.ndjson", &against);
    assert_eq!(said.code, Some(1), "{said:?}");
    for expected in [
        "record 1 in orders/orders\n  total\n    in force  6\n    file      60\n",
        "record 2 in orders/orders\n  error\n    in force  column \"user\": path",
        "    file      a row\n",
    ] {
        assert!(said.stdout.contains(expected), "{}", said.stdout);
    }
    let said = test(
        dir.path(),
        "s.ndjson",
        &["--against", "nope", "--data-dir", against[3]],
    );
    assert!(
        said.code == Some(1) && said.stderr.contains("\"nope\" not found"),
        "{said:?}"
    );
}
