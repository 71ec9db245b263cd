//! The OpenAPI documents. Versions of the format other than 3 have their place here.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::Shared;
use super::operation::ADMIN;

/// Address of the documentation, below the API's.
pub(super) const DOCUMENTATION: &str = "/v1/documentation";

/// The frame of the document; routes and schemas come from the handlers.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Forebay Stream API",
        version = "1.0.0",
        description = "Sources take records, sinks bring them into tables. Whatever changes something is a task: the answer is 202, and the task's address tells how it went.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(super::error::ErrorBody)),
    tags(
        (name = "documentation", description = "What the API is."),
        (name = "source", description = "Where records come in."),
        (name = "sink", description = "Where they go."),
        (name = "task", description = "Long work."),
    )
)]
pub(super) struct Frame;

/// The document in both forms.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    pub(super) json: String,
    pub(super) yaml: String,
}

/// The document as it is served: that of the handlers, with what holds for all of them.
pub(super) fn finish(document: &utoipa::openapi::OpenApi, public_url: &str) -> Value {
    // It is made of texts and lists only.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["servers"] = json!([{ "url": public_url }]);
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "apiKey", "in": "header", "name": "X-StorageApi-Token",
            "description": "A token of the project."
        },
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "The same token, for clients that send it this way."
        }
    });
    let paths = document["paths"].take();
    let mut finished = serde_json::Map::new();
    for (path, mut item) in paths.as_object().cloned().unwrap_or_default() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            complete(method, operation);
        }
        // A rest of the path is a star in the router and nothing in the document.
        finished.insert(path.replace("{*", "{"), item);
    }
    document["paths"] = Value::Object(finished);
    document
}

/// Who may, and how it fails.
fn complete(method: &str, operation: &mut Value) {
    if operation["tags"] == json!(["documentation"]) {
        return;
    }
    let only_looks = method == "get" || operation["operationId"] == "TestSource";
    let scopes = if only_looks {
        json!([])
    } else {
        json!([ADMIN])
    };
    operation["security"] = json!([{ "token": scopes }, { "bearer": scopes }]);
    operation["responses"]["default"] = json!({
        "description": "It was not done; the error says why.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } }
    });
}

impl Documents {
    pub(super) fn new(document: &Value) -> Self {
        Self {
            json: super::answer::pretty(document),
            yaml: serde_saphyr::to_string(document).unwrap_or_default(),
        }
    }
}

/// OpenAPI 3 document.
#[utoipa::path(
    get, path = "/v1/documentation/openapi3.json", tag = "documentation", operation_id = "OpenApi3Json",
    responses((status = 200, description = "This document.", body = Object))
)]
pub(super) async fn json3(State(api): State<Shared>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, api.documents.json.clone()).into_response()
}

/// OpenAPI 3 document in YAML.
#[utoipa::path(
    get, path = "/v1/documentation/openapi3.yaml", tag = "documentation", operation_id = "OpenApi3Yaml",
    responses((status = 200, description = "This document.", content_type = "application/x-yaml", body = String))
)]
pub(super) async fn yaml3(State(api): State<Shared>) -> Response {
    let yaml = [(header::CONTENT_TYPE, "application/x-yaml")];
    (yaml, api.documents.yaml.clone()).into_response()
}
