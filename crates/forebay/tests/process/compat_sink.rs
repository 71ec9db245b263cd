//! Sinks: the checklist of the compatible API, by HTTP with the binary.

use serde_json::{Value, json};

use crate::compat::{Api, NONE, S};
use crate::server::{Server, wait_for};

const SINKS: &str = "/v1/branches/default/sources/a/sinks";

/// A server with the source `a`.
fn with_source(test: impl FnOnce(&Api<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let api = Api::of(&server);
    api.task("POST", S, &json!({ "type": "http", "name": "a" }));
    test(&api);
}

fn sink(name: &str, columns: Value) -> Value {
    let table =
        json!({ "type": "keboola", "tableId": "in.c-b.t", "mapping": { "columns": columns } });
    json!({ "type": "table", "name": name, "table": table })
}

fn plain(name: &str) -> Value {
    sink(name, json!([{ "type": "uuid", "name": "id" }]))
}

#[test]
fn sinks_are_created_shown_and_rejected() {
    with_source(|api| {
        let columns = json!([
            { "type": "uuid", "name": "id" },
            { "type": "path", "name": "p", "path": "key", "defaultValue": "unknown", "rawString": true },
            { "type": "template", "name": "j", "rawString": true,
              "template": { "language": "jsonnet", "content": "Body(\"key\")" } },
        ]);
        let task = api.task("POST", SINKS, &sink("My Sink", columns.clone()));
        assert_eq!(task["result"], "Sink has been created successfully.");
        let one = format!("{SINKS}/my-sink");
        let made = api.get(&one);
        assert_eq!(
            made["table"]["mapping"]["columns"], columns,
            "there and back"
        );
        assert_eq!(made["version"]["description"], "New sink.");
        let exists = "Sink \"my-sink\" already exists in the source.";
        api.fails(
            "POST",
            SINKS,
            &plain("My Sink"),
            (409, "sinkAlreadyExists", exists),
        );
        let bad = json!([{ "type": "template", "name": "jsonnet",
            "template": { "language": "jsonnet", "content": "Invalid" } }]);
        let text = "Column \"jsonnet\" template is invalid: 1:1-8 Unknown variable: Invalid.";
        api.fails(
            "POST",
            SINKS,
            &sink("x", bad.clone()),
            (400, "badRequest", text),
        );
        let change = json!({ "table": { "mapping": { "columns": bad } } });
        api.fails("PATCH", &one, &change, (400, "badRequest", text));
        let text = "\"table\" must be configured for the \"table\" sink type.";
        api.fails(
            "POST",
            SINKS,
            &json!({ "type": "table", "name": "x" }),
            (400, "badRequest", text),
        );
        let text = "Source \"gone\" not found in the branch.";
        api.fails(
            "GET",
            &format!("{S}/gone/sinks/x"),
            &NONE,
            (404, "sourceNotFound", text),
        );
        let text = "Sink \"gone\" not found in the source.";
        for (method, end) in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/settings"),
            ("GET", "/versions"),
            ("GET", "/statistics/total"),
            ("GET", "/statistics/files"),
            ("PUT", "/disable"),
            ("PUT", "/enable"),
        ] {
            api.fails(
                method,
                &format!("{SINKS}/gone{end}"),
                &NONE,
                (404, "sinkNotFound", text),
            );
        }
    });
}

#[test]
fn sinks_are_updated_disabled_and_rolled_back() {
    with_source(|api| {
        api.task("POST", SINKS, &plain("s"));
        let one = format!("{SINKS}/s");
        api.task(
            "PATCH",
            &one,
            &json!({ "name": "t", "changeDescription": "Named." }),
        );
        assert_eq!(api.get(&one)["version"]["description"], "Named.");
        api.task("PUT", &format!("{one}/disable"), &NONE);
        assert_eq!(api.get(&one)["disabled"]["reason"], "API");
        api.task("PUT", &format!("{one}/versions/1/rollback"), &NONE);
        assert_eq!(
            (&api.get(&one)["name"], &api.get(&one)["disabled"]["reason"]),
            (&json!("s"), &json!("API"))
        );
        api.task("PUT", &format!("{one}/enable"), &NONE);
        assert!(api.get(&one)["disabled"].is_null());
        let settings = format!("{one}/settings");
        let key = "storage.level.target.import.trigger.count";
        api.task(
            "PATCH",
            &settings,
            &json!({ "settings": [{ "key": key, "value": 3 }] }),
        );
        let all = api.get(&settings)["settings"].as_array().unwrap().clone();
        let changed = all.iter().find(|s| s["key"] == key).unwrap();
        assert_eq!(
            (&changed["value"], &changed["overwritten"]),
            (&json!(3), &json!(true))
        );
        let text = "Sink version \"s/0000012345\" not found in the source.";
        api.fails(
            "GET",
            &format!("{one}/versions/12345"),
            &NONE,
            (404, "sinkVersionNotFound", text),
        );
        let zeros = json!({ "recordsCount": 0, "compressedSize": 0, "uncompressedSize": 0 });
        assert_eq!(
            api.get(&format!("{one}/statistics/total")),
            json!({ "total": zeros, "levels": {} })
        );
        assert!(
            !api.get(&format!("{one}/statistics/files"))["files"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn sinks_are_deleted_and_undeleted() {
    with_source(|api| {
        api.task("POST", SINKS, &plain("s"));
        let one = format!("{SINKS}/s");
        api.task("DELETE", &one, &NONE);
        assert_eq!(
            api.get(&format!("{SINKS}/deleted"))["sinks"][0]["sinkId"],
            "s"
        );
        api.task("PUT", &format!("{one}/undelete"), &NONE);
        let text = "Deleted sink \"s\" not found in the source.";
        api.fails(
            "PUT",
            &format!("{one}/undelete"),
            &NONE,
            (404, "deletedSinkNotFound", text),
        );
        api.task("DELETE", &one, &NONE);
        api.task("DELETE", &format!("{S}/a"), &NONE);
        let text = "Source \"a\" not found in the branch.";
        api.fails(
            "PUT",
            &format!("{one}/undelete"),
            &NONE,
            (404, "sourceNotFound", text),
        );
    });
}

#[test]
fn concurrent_creates_succeed_and_duplicates_conflict() {
    with_source(|api| {
        std::thread::scope(|scope| {
            for name in ["x", "y", "z"] {
                scope.spawn(move || api.task("POST", SINKS, &plain(name)));
            }
        });
        assert_eq!(api.get(SINKS)["page"]["totalCount"], 3);
        let made: Vec<(u16, Value)> = std::thread::scope(|scope| {
            let twins = [(); 4].map(|()| scope.spawn(|| api.call("POST", SINKS, &plain("twin"))));
            twins.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|(status, _)| *status == 202).count(), 1);
        for (_, error) in made.iter().filter(|(status, _)| *status != 202) {
            assert_eq!(error["error"], "stream.api.sinkAlreadyExists", "{error}");
        }
    });
}

/// Each change is atomic and serialized, or rejected with an error that allows a retry.
#[test]
fn two_clients_change_the_same_sink_at_once() {
    with_source(|api| {
        api.task("POST", SINKS, &plain("s"));
        let one = format!("{SINKS}/s");
        let change = |client: usize, n: usize| {
            let name = format!("{client} {n}");
            let columns = json!([{ "type": "static", "name": "c", "value": name }]);
            let body = json!({ "name": name, "table": { "mapping": { "columns": columns } } });
            wait_for("the other's change", || {
                let (status, answer) = api.call("PATCH", &one, &body);
                if status == 409 {
                    assert_eq!(answer["error"], "stream.api.taskAlreadyRunning");
                    return None;
                }
                assert_eq!(status, 202, "{answer}");
                Some(())
            });
        };
        std::thread::scope(|scope| {
            for client in 0..2 {
                scope.spawn(move || (0..5).for_each(|n| change(client, n)));
            }
        });
        let sink = wait_for("ten changes", || {
            let sink = api.get(&one);
            (sink["version"]["number"] == 11).then_some(sink)
        });
        let value = &sink["table"]["mapping"]["columns"][0]["value"];
        assert_eq!(&sink["name"], value, "one change, not parts of two");
        assert_eq!(
            api.get(&format!("{one}/versions"))["page"]["totalCount"],
            11
        );
    });
}
