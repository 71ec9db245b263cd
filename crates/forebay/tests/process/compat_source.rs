//! Sources: the checklist of the compatible API, by HTTP with the binary.

use forebay_test_support::HttpClient;
use serde_json::{Value, json};

use crate::compat::{Api, NONE, S};
use crate::server::Server;

fn with_server(test: impl FnOnce(&Api<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    // With the default of the reference service.
    let server = Server::start_with(dir.path(), &["--set", "api.rawString=false"]);
    test(&Api::of(&server));
}

fn source(name: &str) -> Value {
    json!({ "type": "http", "name": name })
}

fn ids(list: &Value, of: &str, id: &str) -> Vec<String> {
    let items = list[of].as_array().unwrap().iter();
    items.map(|i| i[id].as_str().unwrap().to_owned()).collect()
}

const TOKEN: &str = "\"X-StorageApi-Token\" is missing from header.";
const GONE: (u16, &str, &str) = (
    404,
    "sourceNotFound",
    "Source \"gone\" not found in the branch.",
);

#[test]
fn known_endpoints_respond_and_unknown_ones_do_not() {
    with_server(|api| {
        let index = api.get("/v1");
        assert_eq!(index["api"], "stream");
        let page = index["documentation"].as_str().unwrap();
        assert!(page.ends_with("/v1/documentation"), "{page}");
        for (method, path, status) in [
            ("GET", "/", 301),
            ("GET", "/v1/", 301),
            ("GET", "/health-check", 200),
            ("POST", "/v1", 405),
            ("PUT", S, 405),
        ] {
            assert_eq!(api.call(method, path, &NONE).0, status, "{method} {path}");
        }
        let missing = "No endpoint found for path \"/foo/bar\".";
        api.fails("GET", "/foo/bar", &NONE, (404, "endpointNotFound", missing));
    });
}

#[test]
fn sources_are_created_or_rejected() {
    with_server(|api| {
        assert_eq!(api.get(S)["sources"], json!([]));
        for (body, id, description) in [
            (source("My Source"), "my-source", ""),
            (
                json!({ "type": "http", "name": "x", "sourceId": "given" }),
                "given",
                "",
            ),
            (
                json!({ "type": "http", "name": "y", "sourceId": "!!!!~~~~weird|||id##" }),
                "weird-id",
                "",
            ),
            (
                json!({ "type": "http", "name": "Told", "description": "All." }),
                "told",
                "All.",
            ),
        ] {
            let task = api.task("POST", S, &body);
            assert_eq!(task["result"], "Source has been created successfully.");
            assert_eq!(task["outputs"]["sourceId"], id);
            let made = api.get(&format!("{S}/{id}"));
            assert_eq!(
                (&made["description"], &made["type"]),
                (&json!(description), &json!("http"))
            );
            assert_eq!(made["version"]["description"], "New source.");
        }
        let long = |n: usize| "a".repeat(n);
        for (body, name, message) in [
            (json!({ "type": "foo", "name": "x" }), "invalidEnumValue", "Value of body.type must be one of \"http\" but got value \"foo\".".to_owned()),
            (json!({}), "missingField", "\"type\" is missing from body; \"name\" is missing from body.".to_owned()),
            (json!({ "type": "http", "name": "x", "sourceId": "" }), "invalidLength", "Length of body.sourceId must be greater or equal than 1 but got value \"\" (len=0)".to_owned()),
            (json!({ "type": "http", "name": "x", "sourceId": long(49) }), "invalidLength", format!("Length of body.sourceId must be lesser or equal than 48 but got value \"{}\" (len=49), by the setting limits.idLength.", long(49))),
            (source(""), "invalidLength", "Length of body.name must be greater or equal than 1 but got value \"\" (len=0)".to_owned()),
            (source(&long(41)), "invalidLength", format!("Length of body.name must be lesser or equal than 40 but got value \"{}\" (len=41), by the setting limits.nameLength.", long(41))),
        ] {
            api.fails("POST", S, &body, (400, name, &message));
        }
        let exists = "Source \"my-source\" already exists in the branch.";
        api.fails(
            "POST",
            S,
            &source("My Source"),
            (409, "sourceAlreadyExists", exists),
        );
        let nobody = Api::nobody(api.server);
        nobody.fails("POST", S, &source("x"), (400, "missingField", TOKEN));
    });
}

#[test]
fn sources_are_listed_updated_deleted_and_undeleted() {
    with_server(|api| {
        for name in ["a", "b", "c"] {
            api.task("POST", S, &source(name));
        }
        let page = api.get(&format!("{S}?limit=2"));
        assert_eq!(ids(&page, "sources", "sourceId"), ["a", "b"]);
        assert_eq!(
            page["page"],
            json!({ "limit": 2, "totalCount": 3, "afterId": "", "lastId": "b" })
        );
        let page = api.get(&format!("{S}?afterId=b"));
        assert_eq!(ids(&page, "sources", "sourceId"), ["c"]);
        let one = format!("{S}/a");
        api.task(
            "PATCH",
            &one,
            &json!({ "name": "New", "changeDescription": "Named." }),
        );
        let updated = api.get(&one);
        assert_eq!(
            (&updated["name"], &updated["version"]["number"]),
            (&json!("New"), &json!(2))
        );
        assert_eq!(updated["version"]["description"], "Named.");
        api.task("DELETE", &one, &NONE);
        let deleted = api.get(&format!("{S}/deleted"));
        assert_eq!(ids(&deleted, "sources", "sourceId"), ["a"]);
        let missing = "Source \"a\" not found in the branch.";
        api.fails("GET", &one, &NONE, (404, "sourceNotFound", missing));
        api.task("PUT", &format!("{one}/undelete"), &NONE);
        assert_eq!(
            api.get(&one)["version"]["description"],
            "Undeleted to version \"2\"."
        );
        let missing = "Deleted source \"a\" not found in the branch.";
        api.fails(
            "PUT",
            &format!("{one}/undelete"),
            &NONE,
            (404, "deletedSourceNotFound", missing),
        );
        for (method, path) in [
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("PUT", "/disable"),
            ("PUT", "/enable"),
        ] {
            let body = if method == "PATCH" { json!({}) } else { NONE };
            api.fails(method, &format!("{S}/gone{path}"), &body, GONE);
        }
    });
}

#[test]
fn versions_are_listed_shown_and_rolled_back() {
    with_server(|api| {
        api.task("POST", S, &source("a"));
        let one = format!("{S}/a");
        api.task("PATCH", &one, &json!({ "name": "b" }));
        api.task("PUT", &format!("{one}/disable"), &NONE);
        let versions = api.get(&format!("{one}/versions"));
        let descriptions: Vec<&str> = versions["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["description"].as_str().unwrap())
            .collect();
        assert_eq!(descriptions, ["New source.", "Updated.", "Disabled."]);
        assert_eq!(versions["page"]["lastId"], "0000000003");
        assert_eq!(api.get(&format!("{one}/versions/2"))["number"], 2);
        api.task("PUT", &format!("{one}/versions/1/rollback"), &NONE);
        let back = api.get(&one);
        assert_eq!(
            (&back["name"], &back["disabled"]["reason"]),
            (&json!("a"), &json!("API"))
        );
        assert_eq!(back["version"]["description"], "Rollback to version \"1\".");
        for (method, end) in [("GET", ""), ("PUT", "/rollback")] {
            let version = |v: &str| format!("{one}/versions/{v}{end}");
            let text = "Invalid value \"x\" for \"versionNumber\", must be a integer; versionNumber must be greater or equal than 1 but got value 0.";
            api.fails(
                method,
                &version("x"),
                &NONE,
                (400, "invalidFieldType", text),
            );
            let text = "VersionNumber must be greater or equal than 1 but got value 0.";
            api.fails(method, &version("0"), &NONE, (400, "invalidRange", text));
            let text = "Source version \"a/0000012345\" not found in the branch.";
            api.fails(
                method,
                &version("12345"),
                &NONE,
                (404, "sourceVersionNotFound", text),
            );
        }
    });
}

#[test]
fn settings_are_shown_changed_and_rejected() {
    with_server(|api| {
        api.task("POST", S, &source("a"));
        let path = format!("{S}/a/settings");
        let key = "storage.level.staging.upload.trigger";
        let value = || {
            let all = api.get(&path);
            let all = all["settings"].as_array().unwrap().clone();
            let found = all.into_iter().find(|s| s["key"] == format!("{key}.count"));
            let found = found.unwrap();
            (found["value"].clone(), found["overwritten"].clone())
        };
        assert_eq!(value().1, false);
        api.task("PATCH", &path, &json!({}));
        assert_eq!(
            api.get(&format!("{S}/a"))["version"]["description"],
            "Updated settings."
        );
        let change =
            |key: String, value: Value| json!({ "settings": [{ "key": key, "value": value }] });
        api.task("PATCH", &path, &change(format!("{key}.count"), json!(7)));
        assert_eq!(value(), (json!(7), json!(true)));
        let two = json!({ "settings": [
            { "key": format!("{key}.interval"), "value": "foo" },
            { "key": format!("{key}.size"), "value": "bar" },
        ] });
        let (status, error) = api.call("PATCH", &path, &two);
        let text = error["message"].as_str().unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        assert_eq!(
            (status, &error["error"]),
            (400, &json!("stream.api.badRequest"))
        );
        assert!(
            first.starts_with(&format!("- Invalid \"{key}.size\" value \"bar\"")),
            "{text}"
        );
        assert!(
            second.starts_with(&format!("- Invalid \"{key}.interval\"")),
            "{text}"
        );
        let protected = "storage.level.local.encoding.sync.mode";
        let text = format!("Cannot modify protected keys: \"{protected}\".");
        api.fails(
            "PATCH",
            &path,
            &change(protected.to_owned(), json!("disk")),
            (403, "forbidden", &text),
        );
        assert_eq!(value(), (json!(7), json!(true)), "unchanged");
        api.fails("GET", &format!("{S}/gone/settings"), &NONE, GONE);
    });
}

#[test]
fn secrets_are_rotated_and_mappings_tested() {
    with_server(|api| {
        api.task("POST", S, &source("a"));
        let columns =
            json!([{ "type": "path", "name": "p", "path": "key" }, { "type": "ip", "name": "ip" }]);
        let table =
            json!({ "type": "keboola", "tableId": "in.c-b.t", "mapping": { "columns": columns } });
        let sink = json!({ "type": "table", "name": "s", "table": table });
        api.task("POST", &format!("{S}/a/sinks"), &sink);
        let (status, rotated) = api.call("POST", &format!("{S}/a/rotate-secret"), &NONE);
        assert_eq!((status, &rotated["version"]["number"]), (200, &json!(2)));
        api.fails("POST", &format!("{S}/gone/rotate-secret"), &NONE, GONE);
        let nobody = Api::nobody(api.server);
        nobody.fails(
            "POST",
            &format!("{S}/gone/rotate-secret"),
            &NONE,
            (400, "missingField", TOKEN),
        );
        let (status, tried) = api.call("POST", &format!("{S}/a/test"), &json!({ "key": "value" }));
        let cells = &tried["tables"][0]["rows"][0]["columns"];
        assert_eq!(
            (status, &cells[0]),
            (200, &json!({ "name": "p", "value": "\"value\"" }))
        );
        assert_eq!(cells[1]["value"], "127.0.0.1");
        let text = "Invalid value for column \"path\": path \"key\" not found in the body.";
        let text = text.replace("\"path\":", "\"p\":");
        api.fails(
            "POST",
            &format!("{S}/a/test"),
            &json!({}),
            (422, "unprocessableContent", &text),
        );
        api.fails("POST", &format!("{S}/gone/test"), &json!({}), GONE);
    });
}

#[test]
fn five_sources_are_aggregated_over_four_pages() {
    with_server(|api| {
        for source_ in ["a", "b", "c", "d", "e"] {
            api.task("POST", S, &source(source_));
        }
        for sink in ["y", "x"] {
            let columns = json!([{ "type": "uuid", "name": "id" }]);
            let table = json!({ "type": "keboola", "tableId": "in.c-b.t", "mapping": { "columns": columns } });
            let sink = json!({ "type": "table", "name": sink, "table": table });
            api.task("POST", &format!("{S}/b/sinks"), &sink);
        }
        let (mut after, mut pages) = (String::new(), Vec::new());
        for _ in 0..4 {
            let path = format!("/v1/branches/default/aggregation/sources?limit=2&afterId={after}");
            let page = api.get(&path);
            assert_eq!(page["page"]["totalCount"], 5);
            after = page["page"]["lastId"].as_str().unwrap().to_owned();
            pages.push(ids(&page, "sources", "sourceId"));
            for source in page["sources"].as_array().unwrap() {
                let sinks = ids(source, "sinks", "sinkId");
                let of_b = source["sourceId"] == "b";
                assert_eq!(sinks.len(), if of_b { 2 } else { 0 }, "{source}");
            }
        }
        assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"], vec![]]);
    });
}

#[test]
fn huge_and_malformed_requests_are_rejected() {
    with_server(|api| {
        let token = [("X-StorageApi-Token", api.token.as_str())];
        let send = |body: &[u8]| {
            let answer = HttpClient::new(api.server.api)
                .send("POST", S, &token, body)
                .unwrap();
            (
                answer.status,
                answer.json()["error"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        let error = |name: &str| format!("stream.api.{name}");
        let deep = "[".repeat(1_000_000);
        assert_eq!(send(deep.as_bytes()), (400, error("decodePayload")));
        assert_eq!(send(b"{\"name\":\"\xff\"}"), (400, error("decodePayload")));
        assert_eq!(send(b""), (400, error("missingPayload")));
        for id in ["a%2Fb", "%00", "%", "%F0%9F%A6%80", "..", "%ff"] {
            let (status, body) = api.call("GET", &format!("{S}/{id}"), &NONE);
            assert!([400, 404].contains(&status), "{id}: {body}");
            assert!(body["error"].is_string(), "{id}: {body}");
        }
        api.task("POST", S, &source("still here"));
    });
}
