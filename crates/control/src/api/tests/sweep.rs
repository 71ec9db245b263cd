//! Invalid input generated from the OpenAPI document: every field and parameter of every operation
//! gets values that its schema rejects. Each response is a documented error (checked by the world),
//! never a server error, and the store is unchanged.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::schema::{kind, places, resolved, sample, variants};
use super::world::{Reply, World};

struct Operation {
    method: Method,
    path: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    takes_bytes: bool,
}

/// Errors allowed for a violation of a schema.
const VIOLATIONS: [&str; 5] = [
    "decodePayload",
    "missingField",
    "invalidLength",
    "invalidEnumValue",
    "invalidRange",
];

/// Unknown ids, as written in paths.
pub(super) const STRANGE_IDS: [&str; 14] = [
    "nope",
    "a%2Fb",
    "my-source%2Fmy-sink",
    "%",
    "%zz",
    "%00",
    "my-source%00",
    "%ff",
    "..",
    "%2e%2e",
    "a%20b",
    "%F0%9F%A6%80",
    "%22%27--%3Bdrop",
    "deleted",
];

fn operations(world: &World) -> Vec<Operation> {
    let document: Value = serde_json::from_str(world.api.document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let content = &operation["requestBody"]["content"]["application/json"];
            let body = content["schema"].clone();
            let is_any = body == json!({});
            operations.push(Operation {
                method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                path: path.clone(),
                parameters: operation["parameters"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default(),
                body: (!body.is_null() && !is_any).then(|| resolved(&document, &body)),
                takes_bytes: is_any,
            });
        }
    }
    assert!(operations.len() > 40);
    operations
}

impl Operation {
    /// The path with names of the world, and `value` for the parameter `name`.
    fn address(&self, name: &str, value: &str) -> String {
        let mut path = self.path.clone();
        for (of, usual) in [
            ("projectId", "123"),
            ("branchId", "default"),
            ("sourceId", "my-source"),
            ("sinkId", "my-sink"),
            ("versionNumber", "1"),
            ("tokenId", "123-aaaaaaaaaaaa"),
            ("tableType", "sqlite"),
            ("tableId", "in.c-b.t"),
            ("taskId", "a/b"),
            ("deadLetterId", "vol1-7"),
            ("openedAt", "2026-01-02T03:04:05.678Z"),
        ] {
            let value = if of == name { value } else { usual };
            path = path.replace(&format!("{{{of}}}"), value);
        }
        assert!(
            !path.contains('{'),
            "{path}: a parameter that this test does not know"
        );
        path
    }

    async fn send(&self, world: &World, address: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder().method(self.method.clone()).uri(address);
        let request = request.header("X-StorageApi-Token", "admin");
        world.send(request.body(body.into()).unwrap()).await
    }

    /// A valid body.
    fn body(&self) -> String {
        let body = self.body.as_ref().map(|s| sample(s).to_string());
        body.unwrap_or_default()
    }
}

/// Current revision of the store.
async fn revision(world: &World) -> forebay_meta::Revision {
    world
        .repo
        .store()
        .range("", None, 1)
        .await
        .unwrap()
        .revision
}

#[track_caller]
fn assert_rejected(reply: &Reply, names: &[&str], what: &str) {
    let error = reply.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let name = error.trim_start_matches("stream.api.");
    assert!(names.contains(&name), "{what}: {reply:?}");
}

#[tokio::test]
async fn no_field_accepts_values_that_its_schema_rejects() {
    let world = World::with_sink().await;
    let before = revision(&world).await;
    let mut sent = 0;
    for operation in operations(&world) {
        let Some(schema) = &operation.body else {
            continue;
        };
        let address = operation.address("", "");
        let mut all = Vec::new();
        places(schema, "", true, &mut all);
        for (at, of, required) in all {
            let mut faults = variants(&of).0;
            faults
                .extend((required && !at.is_empty() && kind(&of) != "any").then_some(Value::Null));
            for fault in faults {
                let mut body = sample(schema);
                *body.pointer_mut(&at).unwrap() = fault;
                let reply = operation.send(&world, &address, body.to_string()).await;
                assert_rejected(&reply, &VIOLATIONS, &format!("{at} of {body}"));
                sent += 1;
            }
            if required && !at.is_empty() && !at.ends_with("/0") {
                let mut body = sample(schema);
                let (parent, name) = at.rsplit_once('/').unwrap();
                let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                parent.remove(name);
                let reply = operation.send(&world, &address, body.to_string()).await;
                assert_rejected(&reply, &["missingField"], &format!("{at} missing"));
                sent += 1;
            }
        }
    }
    assert!(sent > 200, "{sent}");
    assert_eq!(revision(&world).await, before, "nothing has changed");
}

#[tokio::test]
async fn values_at_the_limits_of_a_schema_are_accepted() {
    let world = World::with_sink().await;
    for operation in operations(&world) {
        let Some(schema) = &operation.body else {
            continue;
        };
        let address = operation.address("", "");
        let mut all = Vec::new();
        places(schema, "", true, &mut all);
        for (at, of, required) in all {
            let mut values = variants(&of).1;
            values.extend((!required).then_some(Value::Null));
            if kind(&of) == "object" {
                // Unknown fields are ignored, whatever they contain.
                let mut more = sample(&of);
                more["unknown"] = json!({ "a": [null, { "\u{0}": 1e300 }] });
                values.push(more);
            }
            for value in values {
                let mut body = sample(schema);
                *body.pointer_mut(&at).unwrap() = value;
                let reply = operation.send(&world, &address, body.to_string()).await;
                assert!(!reply.status.is_server_error(), "{at} of {body}: {reply:?}");
                let error = reply.text.contains("stream.api.invalid")
                    || reply.text.contains("stream.api.decodePayload");
                assert!(!error, "{at} of {body}: {reply:?}");
                if reply.status == 202 {
                    world.finish(&reply).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn bodies_that_are_too_deep_too_large_or_not_json_are_rejected() {
    let world = World::with(|config| config.body_limit = forebay_model::ByteSize::kb(64)).await;
    let before = revision(&world).await;
    let deep = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    for operation in operations(&world) {
        let address = operation.address("", "");
        if operation.body.is_some() {
            for (body, name) in [
                (deep(33), "decodePayload"),
                ("[".repeat(60_000), "decodePayload"),
                ("{\"a\":".repeat(10_000), "decodePayload"),
                ("\u{0}".to_owned(), "decodePayload"),
                ("nul".to_owned(), "decodePayload"),
                ("1e999".to_owned(), "decodePayload"),
                (String::new(), "missingPayload"),
                (large.clone(), "bodyTooLarge"),
            ] {
                let reply = operation.send(&world, &address, body).await;
                assert_rejected(&reply, &[name], &operation.path);
            }
        }
        if operation.takes_bytes {
            let reply = operation.send(&world, &address, large.clone()).await;
            assert_rejected(&reply, &["bodyTooLarge"], &operation.path);
        }
    }
    assert_eq!(revision(&world).await, before);
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let world = World::with_sink().await;
    let before = revision(&world).await;
    let long = "x".repeat(49);
    for operation in operations(&world) {
        let in_path = operation.parameters.iter().filter(|p| p["in"] == "path");
        for parameter in in_path {
            let name = parameter["name"].as_str().unwrap();
            for id in STRANGE_IDS.into_iter().chain([long.as_str()]) {
                // In two paths it has another meaning: the list of deleted definitions.
                let lists = operation.method == Method::GET && id == "deleted";
                if lists && matches!(name, "sourceId" | "sinkId") {
                    continue;
                }
                let address = operation.address(name, id);
                let reply = operation.send(&world, &address, operation.body()).await;
                let status = reply.status.as_u16();
                assert!([400, 404, 405].contains(&status), "{address}: {reply:?}");
            }
        }
    }
    assert_eq!(revision(&world).await, before);
}

#[tokio::test]
async fn unusual_parameters_are_rejected_or_match_nothing() {
    let world = World::with_sink().await;
    let before = revision(&world).await;
    for operation in operations(&world) {
        let in_query = operation.parameters.iter().filter(|p| p["in"] == "query");
        for parameter in in_query {
            let name = parameter["name"].as_str().unwrap();
            let schema = &parameter["schema"];
            let is_duration = schema["format"] == "go-duration";
            let wrong: Vec<String> = match kind(schema) {
                _ if is_duration => ["soon", "5", "-1s", "61s", "%00"].map(str::to_owned).into(),
                "string" => {
                    let max = schema["maxLength"].as_u64();
                    max.map(|n| "x".repeat(usize::try_from(n).unwrap() + 1))
                        .into_iter()
                        .collect()
                }
                "boolean" => ["maybe", "2", "%00"].map(str::to_owned).into(),
                _ => {
                    let edges = [("minimum", -1), ("maximum", 1)];
                    let edges = edges.into_iter().filter_map(|(word, beyond)| {
                        schema[word].as_i64().map(|n| (n + beyond).to_string())
                    });
                    let texts = ["x", "1.5", "%00", "1e3", "99999999999999999999"];
                    edges.chain(texts.map(str::to_owned)).collect()
                }
            };
            let address = operation.address("", "");
            for value in wrong {
                let address = format!("{address}?{name}={value}");
                let reply = operation.send(&world, &address, operation.body()).await;
                assert_eq!(reply.status, 400, "{address}: {reply:?}");
            }
            let is_text = kind(schema) == "string" && !is_duration;
            // A tap that is opened is audited: tests/tap.rs sends it these values.
            let is_tap = operation.path.ends_with("/tap");
            if operation.method == Method::GET && is_text && !is_tap {
                for id in STRANGE_IDS {
                    let address = format!("{address}?{name}={id}");
                    let reply = operation.send(&world, &address, Body::empty()).await;
                    let found = [200, 400].contains(&reply.status.as_u16());
                    assert!(found, "{address}: {reply:?}");
                }
            }
        }
    }
    assert_eq!(revision(&world).await, before);
}
