//! The OpenAPI document matches what is served.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use forebay_model::DefinitionLimits;
use http::Method;
use serde_json::Value;

use super::world::{S, World, bare};
use crate::api::validate::{CHECKED, INFORMATIVE};

fn document(world: &World) -> Value {
    serde_json::from_str(world.api.document()).unwrap()
}

/// Regenerate with `UPDATE=1 cargo test -p forebay-control`.
#[tokio::test]
async fn the_document_matches_the_golden_file() {
    let world = World::with(|c| *c = crate::ApiConfig::default()).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi3.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, world.api.document()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(
        golden == world.api.document(),
        "the OpenAPI document has changed; if intended, run with UPDATE=1"
    );
}

#[tokio::test]
async fn json_and_yaml_are_the_same_document() {
    let world = World::new().await;
    let json = world
        .send(bare(Method::GET, "/v1/documentation/openapi3.json"))
        .await;
    assert_eq!(json.header("content-type"), "application/json");
    let yaml = world
        .send(bare(Method::GET, "/v1/documentation/openapi3.yaml"))
        .await;
    assert_eq!(yaml.header("content-type"), "application/x-yaml");
    let from_yaml: Value = serde_saphyr::from_str(&yaml.text).unwrap();
    assert_eq!(from_yaml, json.json());
    assert_eq!(json.json()["servers"][0]["url"], "https://stream.example");
}

#[tokio::test]
async fn openapi_2_matches_openapi_3() {
    let world = World::new().await;
    let json = world
        .send(bare(Method::GET, "/v1/documentation/openapi.json"))
        .await;
    assert_eq!(json.header("content-type"), "application/json");
    let yaml = world
        .send(bare(Method::GET, "/v1/documentation/openapi.yaml"))
        .await;
    assert_eq!(yaml.header("content-type"), "application/x-yaml");
    let swagger = json.json();
    let from_yaml: Value = serde_saphyr::from_str(&yaml.text).unwrap();
    assert_eq!(from_yaml, swagger);
    assert_eq!(swagger["swagger"], "2.0");
    let place = (
        &swagger["schemes"][0],
        &swagger["host"],
        &swagger["basePath"],
    );
    assert_eq!(
        place,
        (&"https".into(), &"stream.example".into(), &"/".into())
    );
    let newer = operations(&document(&world));
    let older = operations(&swagger);
    assert_eq!(newer.len(), older.len());
    for ((method, path, new), (m, p, old)) in newer.iter().zip(&older) {
        assert_eq!((method, path), (m, p));
        assert_eq!(new["operationId"], old["operationId"]);
        let body = usize::from(new.get("requestBody").is_some());
        let count = |v: &Value| v["parameters"].as_array().map_or(0, Vec::len);
        assert_eq!(count(new) + body, count(old), "{path}");
    }
    // No OpenAPI 3 keyword is left, and every reference resolves.
    assert!(!json.text.contains("#/components"));
    for word in ["oneOf", "requestBody", "nullable"] {
        assert!(!json.text.contains(&format!("\"{word}\"")), "{word}");
    }
    for part in json.text.split("\"$ref\": \"").skip(1) {
        let reference = part.split('"').next().unwrap();
        let target = swagger.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_documentation_page_is_served() {
    let world = World::new().await;
    let moved = world.send(bare(Method::GET, "/v1/documentation")).await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("location")),
        (301, "/v1/documentation/")
    );
    let page = world.send(bare(Method::GET, "/v1/documentation/")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    for (_, path, operation) in operations(&document(&world)) {
        assert!(page.text.contains(&path), "{path}");
        assert!(
            page.text.contains(operation["summary"].as_str().unwrap()),
            "{path}"
        );
    }
    let health = world.send(bare(Method::GET, "/health-check")).await;
    assert_eq!(
        (health.header("content-type"), health.text.as_str()),
        ("text/plain", "OK")
    );
}

fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            all.push((method, path.clone(), operation.clone()));
        }
    }
    all
}

#[tokio::test]
async fn every_documented_operation_is_served_and_no_other() {
    let world = World::new().await;
    let document = document(&world);
    let operations = operations(&document);
    assert_eq!(operations.len(), 76);
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    for (_, path, _) in &operations {
        let address = path.replace(['{', '}'], "");
        for method in &methods {
            let documented = operations.iter().any(|(m, p, _)| m == method && p == path);
            let reply = world
                .call_as("", method.clone(), &address, Body::empty())
                .await;
            assert_eq!(reply.status != 405, documented, "{method} {path}");
            let is_missing = reply.text.contains("No endpoint found");
            assert!(!is_missing, "{method} {path}");
            assert_ne!(reply.status, 500, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_operation_is_complete() {
    let world = World::new().await;
    let document = document(&world);
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} twice");
        assert!(operation["summary"].is_string(), "{id}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = match response["$ref"].as_str() {
                Some(to) => document.pointer(to.trim_start_matches('#')).unwrap(),
                None => response,
            };
            assert!(
                !response["description"].as_str().unwrap().is_empty(),
                "{id} {status}"
            );
        }
        let named: BTreeSet<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        let in_path = path.split('/').filter_map(|s| s.strip_prefix('{'));
        let in_path: BTreeSet<&str> = in_path.map(|s| s.trim_end_matches('}')).collect();
        assert_eq!(named, in_path, "{id}");
        let guarded = ["/v1/branches", "/v1/tasks", "/v1/admin"];
        if guarded.iter().any(|g| path.starts_with(g)) {
            let writes = method != Method::GET && id != "TestSource";
            let admin = writes || path.starts_with("/v1/admin");
            let role = if admin { "admin" } else { "reader" };
            assert_eq!(operation["x-role"], role, "{id}");
            assert!(operation["security"][0]["token"].is_array(), "{id}");
        } else {
            assert_eq!(operation.get("security"), None, "{id}");
        }
    }
}

/// All schemas that a request is validated against.
fn request_schemas<'d>(document: &'d Value, schema: &'d Value, found: &mut Vec<&'d Value>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        return request_schemas(document, target.expect(reference), found);
    }
    found.push(schema);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    for below in properties
        .map(|(_, s)| s)
        .chain(choices)
        .chain(schema.get("items"))
    {
        request_schemas(document, below, found);
    }
}

#[tokio::test]
async fn the_validator_supports_every_keyword_of_request_schemas() {
    let world = World::new().await;
    let document = document(&world);
    let mut schemas = Vec::new();
    let operations = operations(&document);
    for (_, _, operation) in &operations {
        if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
            request_schemas(&document, schema, &mut schemas);
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            request_schemas(&document, &parameter["schema"], &mut schemas);
        }
    }
    assert!(schemas.len() > 40);
    for schema in schemas {
        for word in schema.as_object().unwrap().keys() {
            let known = CHECKED.contains(&word.as_str()) || INFORMATIVE.contains(&word.as_str());
            assert!(known, "{word} in {schema}");
        }
    }
}

/// Position of each limit in the document.
const LIMITS: [(&str, &str); 10] = [
    (
        "limits.idLength",
        "/CreateSourceRequestBody/properties/sourceId/maxLength",
    ),
    (
        "limits.idLength",
        "/CreateSinkRequestBody/properties/sinkId/maxLength",
    ),
    (
        "limits.nameLength",
        "/CreateSourceRequestBody/properties/name/maxLength",
    ),
    (
        "limits.nameLength",
        "/UpdateSinkRequestBody/properties/name/maxLength",
    ),
    (
        "limits.descriptionLength",
        "/CreateSinkRequestBody/properties/description/maxLength",
    ),
    (
        "limits.descriptionLength",
        "/SettingsPatch/properties/changeDescription/maxLength",
    ),
    (
        "limits.columnsPerSink",
        "/TableMappingRequest/properties/columns/maxItems",
    ),
    (
        "limits.headersPerMessage",
        "/TopicMessageRequest/properties/headers/maxItems",
    ),
    (
        "limits.templateLength",
        "/TableColumnTemplate/properties/content/maxLength",
    ),
    (
        "limits.settingsPerPatch",
        "/SettingsPatch/properties/settings/maxItems",
    ),
];

#[tokio::test]
async fn the_limits_of_the_document_are_those_of_the_configuration() {
    let few = DefinitionLimits {
        columns_per_sink: 7,
        headers_per_message: 7,
        name_length: 7,
        id_length: 7,
        description_length: 7,
        template_length: 7,
        settings_per_patch: 7,
        ..DefinitionLimits::default()
    };
    for (limits, expected) in [(DefinitionLimits::default(), None), (few, Some(7))] {
        let world = World::limited(limits, |config| config.name_limits = true).await;
        let document = document(&world);
        let schemas = &document["components"]["schemas"];
        for (setting, pointer) in LIMITS {
            let limit = DefinitionLimits::ALL.iter().find(|l| l.setting == setting);
            let expected = expected.unwrap_or(u64::from(limit.unwrap().default));
            let found = schemas.pointer(pointer).and_then(Value::as_u64);
            assert_eq!(found, Some(expected), "{pointer}");
            let (property, _) = pointer.rsplit_once('/').unwrap();
            let named = &schemas.pointer(property).unwrap()["x-setting"];
            assert_eq!(named, setting, "{pointer}");
        }
    }
}

#[tokio::test]
async fn limit_errors_name_the_setting_unless_compatible_messages_are_configured() {
    let limits = DefinitionLimits {
        name_length: 3,
        ..DefinitionLimits::default()
    };
    let body = r#"{"type":"http","name":"abcd"}"#;
    let text = "Length of body.name must be lesser or equal than 3 but got value \"abcd\" (len=4)";
    for (names, more) in [(false, ""), (true, ", by the setting limits.nameLength.")] {
        let world = World::limited(limits, |config| config.name_limits = names).await;
        let rejected = world.call(Method::POST, S, body).await;
        rejected.is_error(400, "invalidLength", &format!("{text}{more}"));
    }
}
