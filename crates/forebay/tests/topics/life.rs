//! Life cycle of a topic's definition: changed, deleted, recreated.

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::server::{Server, wait_for};
use crate::{apply, configure, drained, post, start};

const SINKS: &str = "/v1/branches/default/sources/events/sinks";

/// One sink to an endpoint; `METHOD` is replaced by another line of it.
pub(crate) const HOOKS: &str = "
sources:
  - name: events
    sinks:
      - name: hooks
        http:
          provider: hook
          METHOD
          message:
            headers: [{ name: X-N, type: path, path: n }]
";

#[test]
fn messages_are_sent_with_the_method_of_their_sink() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    configure(dir.path(), "127.0.0.1:1", &endpoint);
    let server = start(dir.path());
    let steps = [
        ("", "POST"),
        ("method: PUT", "PUT"),
        ("method: PATCH", "PATCH"),
        ("", "POST"),
    ];
    for (n, (line, method)) in (0..).zip(steps) {
        let definitions = HOOKS.replace("METHOD", line);
        let first = apply(&server, dir.path(), &definitions);
        let again = apply(&server, dir.path(), &definitions);
        assert!(
            again.contains("0 created, 0 changed, 0 deleted"),
            "{line}: {first} then {again}"
        );
        assert!(post(&server, &server.path("events"), n));
        drained(&server, "hooks");
        assert_eq!(endpoint.methods().last().unwrap(), method, "{first}");
    }
    let file = dir.path().join("definitions.yaml");
    std::fs::write(&file, HOOKS.replace("METHOD", "method: GET")).unwrap();
    let rejected =
        crate::server::run(&mut server.command(&["apply", "--file", file.to_str().unwrap()]));
    let wanted = "method is \"GET\", allowed is POST, PUT, PATCH";
    assert!(rejected.stderr.contains(wanted), "{rejected:?}");
}

/// Sends a request with a body to the management API.
fn ask(server: &Server, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let token = server.token();
    let headers = [
        ("X-StorageApi-Token", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = serde_json::to_vec(body).unwrap();
    let answer = HttpClient::new(server.api)
        .send(method, path, &headers, &body)
        .unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Waits until a task has succeeded.
fn done(server: &Server, task: &(u16, Value)) {
    assert_eq!(task.0, 202, "{task:?}");
    let url = task.1["url"].as_str().unwrap();
    let (_, task) = url.split_once("/v1/").unwrap();
    let path = format!("/v1/{task}");
    let task = wait_for("the task", || {
        let task = server.api_get(&path);
        (task["isFinished"] == true).then_some(task)
    });
    assert_eq!(task["status"], "success", "{task}");
}

#[test]
fn undelivered_messages_of_a_deleted_topic_block_reuse_of_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    configure(dir.path(), "127.0.0.1:1", &endpoint);
    let server = start(dir.path());
    apply(&server, dir.path(), &HOOKS.replace("METHOD", ""));
    let path = server.path("events");
    endpoint.refuse(0);
    assert!(post(&server, &path, 0));
    assert_eq!(drained(&server, "hooks")["dead"], 1);
    endpoint.set_down(true);
    assert!((1..6).all(|n| post(&server, &path, n)));
    let hooks = format!("{SINKS}/hooks");
    done(&server, &ask(&server, "DELETE", &hooks, &json!({})));
    let table = json!({ "type": "table", "sinkId": "hooks", "name": "hooks", "table": {
        "type": "keboola", "tableId": "in.test.hooks",
        "mapping": { "columns": [{ "type": "body", "name": "b" }] },
    }});
    let rejected = |server: &Server, left: &str| {
        let (status, said) = ask(server, "POST", SINKS, &table);
        assert_eq!(
            (status, &said["error"]),
            (409, &"stream.api.sinkIdInUse".into())
        );
        assert!(said["message"].as_str().unwrap().contains(left), "{said}");
    };
    rejected(&server, "with 5 records in flight and 1 dead letters");
    server.kill();
    let server = start(dir.path());
    rejected(&server, "with 5 records in flight and 1 dead letters");
    endpoint.set_down(false);
    wait_for("the delivery of queued messages", || {
        (endpoint.seen().0 == [1, 2, 3, 4, 5]).then_some(())
    });
    // The dead letter is resolved after the sink is undeleted.
    wait_for("the report of the dead letter", || {
        let said = ask(&server, "POST", SINKS, &table).1;
        said["message"]
            .as_str()?
            .contains("with 0 records")
            .then_some(())
    });
    rejected(&server, "and 1 dead letters");
    done(
        &server,
        &ask(&server, "PUT", &format!("{hooks}/undelete"), &json!({})),
    );
    server.ok(&["dead", "drop", "events", "hooks", "--all"]);
    done(&server, &ask(&server, "DELETE", &hooks, &json!({})));
    server.kill();
    let server = start(dir.path());
    done(&server, &ask(&server, "POST", SINKS, &table));
    assert!(post(&server, &path, 6));
    server.settled("events", "hooks", 1);
    assert_eq!(endpoint.seen().0, [1, 2, 3, 4, 5]);
}
