//! The OpenAPI documents and the documentation page, generated from the types and routes of this
//! crate.

mod errors;
mod limits;
mod page;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use forebay_model::DefinitionLimits;
use http::header;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::error::ErrorName;
use super::operation::{ADMIN, READER, ROLE, WAIT, WAIT_MAX};
use super::redirect::moved_permanently;
use super::validate::MAXIMUM;
use crate::compat::decoder::DURATION_FORMAT;
use crate::compat::openapi2;

/// Path of the documentation.
pub(super) const DOCUMENTATION: &str = "/v1/documentation";

/// The documentation page: its links are relative, so its path ends with a slash.
pub(super) const PAGE: &str = "/v1/documentation/";

/// General part of the document; routes and schemas come from the handlers.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Forebay Stream API",
        version = "1.0.0",
        description = "Sources accept records, sinks load them into tables. Every change is a task: the response is 202, and the task's URL returns its status.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(forebay_api::error::ApiErrorBody)),
    tags(
        (name = "documentation", description = "API documentation."),
        (name = "source", description = "Input endpoints."),
        (name = "sink", description = "Outputs of a source."),
        (name = "task", description = "Long operations."),
        (name = "admin", description = "Tokens, tables, quotas and the audit log."),
    )
)]
pub(super) struct ApiDoc;

/// The document in all formats.
#[derive(Clone, Debug)]
pub(super) struct ApiDocuments {
    pub(super) json: SharedText,
    yaml: SharedText,
    json2: SharedText,
    yaml2: SharedText,
    page: SharedText,
}

/// A text shared by all responses, however many clients read it slowly.
#[derive(Clone, Debug)]
pub(super) struct SharedText(Bytes);

impl SharedText {
    pub(super) fn as_str(&self) -> &str {
        // Built from a `String`.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// Completes the handlers' document with common parts and the limits of definitions; `names_limits`
/// adds the settings of the limits.
pub(super) fn finish(
    document: &utoipa::openapi::OpenApi,
    public_url: &str,
    limits: &DefinitionLimits,
    names_limits: bool,
) -> Value {
    // It contains only strings and lists.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    limits::write(&mut document, limits, names_limits);
    document["servers"] = json!([{ "url": public_url }]);
    document["components"]["securitySchemes"] = json!({
        "token": {
            "type": "apiKey", "in": "header", "name": "X-StorageApi-Token",
            "description": "A token of the project."
        },
        "bearer": {
            "type": "http", "scheme": "bearer",
            "description": "The same token, as an alternative."
        }
    });
    let names: Vec<String> = ErrorName::ALL.iter().map(|n| n.full_name()).collect();
    document["components"]["schemas"]["Error"]["properties"]["error"]["enum"] = json!(names);
    document["components"]["responses"] = errors::shared();
    let paths = document["paths"].take();
    let schemas = &document["components"]["schemas"];
    let mut finished = serde_json::Map::new();
    for (path, mut item) in paths.as_object().cloned().unwrap_or_default() {
        // A rest parameter has a star in the router, but not in the document.
        let path = path.replace("{*", "{");
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if operation["tags"] == json!(["documentation"]) {
                operation["description"] = json!("Requires no token.");
            } else {
                let is_admin = is_admin(method, operation);
                describe_security(operation, is_admin);
                describe_wait(operation);
                errors::describe(&path, operation, is_admin, schemas);
            }
        }
        finished.insert(path, item);
    }
    document["paths"] = Value::Object(finished);
    document
}

/// Whether an operation needs an admin: all except reads and tests of a mapping.
fn is_admin(method: &str, operation: &Value) -> bool {
    let administers = operation["tags"] == json!([ADMIN]);
    administers || (method != "get" && operation["operationId"] != "TestSource")
}

/// Adds the parameter that waits for the end of the task.
fn describe_wait(operation: &mut Value) {
    let responses = operation["responses"].as_object();
    let schema = "/content/application~1json/schema/$ref";
    let of_task =
        |response: &Value| response.pointer(schema) == Some(&json!("#/components/schemas/Task"));
    if !responses.is_some_and(|r| r.values().any(of_task)) {
        return;
    }
    let parameter = json!({
        "name": WAIT, "in": "query", "required": false, "example": "5s",
        "description": "Maximum time to wait for the end of the task. The response is the task when it has finished, or the running task after that time. At most nine tenths of api.requestTimeout. By default the response does not wait. An extension of Forebay.",
        "schema": { "type": "string", "format": DURATION_FORMAT, MAXIMUM: WAIT_MAX.to_string() },
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Documents the required role.
fn describe_security(operation: &mut Value, is_admin: bool) {
    operation["security"] = json!([{ "token": [] }, { "bearer": [] }]);
    let (role, text) = if is_admin {
        (ADMIN, "Requires an admin token.")
    } else {
        (READER, "Requires any token of the project.")
    };
    operation[ROLE] = json!(role);
    let more = operation["description"].as_str();
    operation["description"] = match more {
        Some(more) if !more.is_empty() => json!(format!("{more}\n\n{text}")),
        _ => json!(text),
    };
}

impl ApiDocuments {
    pub(super) fn new(document: &Value) -> Self {
        let swagger = openapi2::from_openapi(document);
        Self {
            json: super::json_response::pretty(document).into(),
            yaml: serde_saphyr::to_string(document).unwrap_or_default().into(),
            json2: super::json_response::pretty(&swagger).into(),
            yaml2: serde_saphyr::to_string(&swagger).unwrap_or_default().into(),
            page: page::render(document).into(),
        }
    }
}

/// OpenAPI 3 document.
#[utoipa::path(
    get, path = "/v1/documentation/openapi3.json", tag = "documentation", operation_id = "OpenApi3Json",
    responses((status = 200, description = "This document.", body = Object))
)]
pub(super) async fn json3(State(documents): State<ApiDocuments>) -> Response {
    with_content_type("application/json", &documents.json)
}

/// OpenAPI 3 document in YAML.
#[utoipa::path(
    get, path = "/v1/documentation/openapi3.yaml", tag = "documentation", operation_id = "OpenApi3Yaml",
    responses((status = 200, description = "This document.", content_type = "application/x-yaml", body = String))
)]
pub(super) async fn yaml3(State(documents): State<ApiDocuments>) -> Response {
    with_content_type("application/x-yaml", &documents.yaml)
}

/// OpenAPI 2 document.
#[utoipa::path(
    get, path = "/v1/documentation/openapi.json", tag = "documentation", operation_id = "OpenApiJson",
    responses((status = 200, description = "This document as OpenAPI 2.", body = Object))
)]
pub(super) async fn json2(State(documents): State<ApiDocuments>) -> Response {
    with_content_type("application/json", &documents.json2)
}

/// OpenAPI 2 document in YAML.
#[utoipa::path(
    get, path = "/v1/documentation/openapi.yaml", tag = "documentation", operation_id = "OpenApiYaml",
    responses((status = 200, description = "This document as OpenAPI 2.", content_type = "application/x-yaml", body = String))
)]
pub(super) async fn yaml2(State(documents): State<ApiDocuments>) -> Response {
    with_content_type("application/x-yaml", &documents.yaml2)
}

/// Redirects to the documentation page.
#[utoipa::path(
    get, path = "/v1/documentation", tag = "documentation", operation_id = "Documentation",
    responses((status = 301, description = "Redirect to the page, whose path ends with a slash."))
)]
pub(super) async fn moved() -> Response {
    moved_permanently(PAGE)
}

/// The documentation page. Not in the document: it is the only path that ends with a slash.
pub(super) async fn page(State(documents): State<ApiDocuments>) -> Response {
    with_content_type("text/html; charset=utf-8", &documents.page)
}

fn with_content_type(kind: &'static str, text: &SharedText) -> Response {
    ([(header::CONTENT_TYPE, kind)], text.0.clone()).into_response()
}
