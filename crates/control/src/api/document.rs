//! The OpenAPI documents and the page for people, all made from the types and routes of this crate.

mod errors;
mod limits;
mod page;
mod swagger;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use forebay_model::DefinitionLimits;
use http::header;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::error::ErrorName;
use super::operation::{ADMIN, DURATION, MAXIMUM, READER, ROLE};
use super::tasks::{WAIT, WAIT_MAX};
use super::{SharedApi, error};

/// Address of the documentation, below the API's.
pub(super) const DOCUMENTATION: &str = "/v1/documentation";

/// The page for people: links in it are relative, so it ends with a slash.
pub(super) const PAGE: &str = "/v1/documentation/";

/// The frame of the document; routes and schemas come from the handlers.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Forebay Stream API",
        version = "1.0.0",
        description = "Sources take records, sinks bring them into tables. Whatever changes something is a task: the answer is 202, and the task's address tells how it went.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(error::ApiErrorBody)),
    tags(
        (name = "documentation", description = "What the API is."),
        (name = "source", description = "Where records come in."),
        (name = "sink", description = "Where they go."),
        (name = "task", description = "Long work."),
        (name = "admin", description = "Tokens, and who changed what."),
    )
)]
pub(super) struct ApiDoc;

/// The document in all its forms.
#[derive(Clone, Debug)]
pub(super) struct ApiDocuments {
    pub(super) json: SharedText,
    yaml: SharedText,
    json2: SharedText,
    yaml2: SharedText,
    page: SharedText,
}

/// A text that all responses share, however many clients are slow to read it.
#[derive(Clone, Debug)]
pub(super) struct SharedText(Bytes);

impl SharedText {
    pub(super) fn as_str(&self) -> &str {
        // It was a text when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for SharedText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// The document as it is served: that of the handlers, with what holds for all of them and the limits
/// of definitions; with `names_limits` their settings are named too.
pub(super) fn finish(
    document: &utoipa::openapi::OpenApi,
    public_url: &str,
    limits: &DefinitionLimits,
    names_limits: bool,
) -> Value {
    // It is made of texts and lists only.
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
            "description": "The same token, for clients that send it this way."
        }
    });
    let names: Vec<String> = ErrorName::ALL.iter().map(|n| n.full_name()).collect();
    document["components"]["schemas"]["Error"]["properties"]["error"]["enum"] = json!(names);
    document["components"]["responses"] = errors::shared();
    let paths = document["paths"].take();
    let schemas = &document["components"]["schemas"];
    let mut finished = serde_json::Map::new();
    for (path, mut item) in paths.as_object().cloned().unwrap_or_default() {
        // A rest of the path is a star in the router and nothing in the document.
        let path = path.replace("{*", "{");
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if operation["tags"] == json!(["documentation"]) {
                operation["description"] = json!("Needs no token.");
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

/// Whether only tokens of admins may: everything but looking at streams and trying a mapping.
fn is_admin(method: &str, operation: &Value) -> bool {
    let administers = operation["tags"] == json!([ADMIN]);
    administers || (method != "get" && operation["operationId"] != "TestSource")
}

/// Lets a client wait for the end of the task that an operation answers with.
fn describe_wait(operation: &mut Value) {
    let answers = operation["responses"].as_object();
    let schema = "/content/application~1json/schema/$ref";
    let of_task =
        |answer: &Value| answer.pointer(schema) == Some(&json!("#/components/schemas/Task"));
    if !answers.is_some_and(|answers| answers.values().any(of_task)) {
        return;
    }
    let parameter = json!({
        "name": WAIT, "in": "query", "required": false, "example": "5s",
        "description": "So long the answer may wait for the end of the task: it is the finished task as soon as it is that, or the running one when the time is over. At most nine tenths of api.requestTimeout. Without it the answer waits for nothing. An extension of Forebay.",
        "schema": { "type": "string", "format": DURATION, MAXIMUM: WAIT_MAX.to_string() },
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

/// Says who may.
fn describe_security(operation: &mut Value, is_admin: bool) {
    operation["security"] = json!([{ "token": [] }, { "bearer": [] }]);
    let (role, text) = if is_admin {
        (ADMIN, "Needs a token of an admin.")
    } else {
        (READER, "Any token of the project will do.")
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
        let swagger = swagger::from_openapi(document);
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
pub(super) async fn json3(State(api): State<SharedApi>) -> Response {
    with_content_type("application/json", &api.documents.json)
}

/// OpenAPI 3 document in YAML.
#[utoipa::path(
    get, path = "/v1/documentation/openapi3.yaml", tag = "documentation", operation_id = "OpenApi3Yaml",
    responses((status = 200, description = "This document.", content_type = "application/x-yaml", body = String))
)]
pub(super) async fn yaml3(State(api): State<SharedApi>) -> Response {
    with_content_type("application/x-yaml", &api.documents.yaml)
}

/// OpenAPI 2 document.
#[utoipa::path(
    get, path = "/v1/documentation/openapi.json", tag = "documentation", operation_id = "OpenApiJson",
    responses((status = 200, description = "This document in the older form.", body = Object))
)]
pub(super) async fn json2(State(api): State<SharedApi>) -> Response {
    with_content_type("application/json", &api.documents.json2)
}

/// OpenAPI 2 document in YAML.
#[utoipa::path(
    get, path = "/v1/documentation/openapi.yaml", tag = "documentation", operation_id = "OpenApiYaml",
    responses((status = 200, description = "This document in the older form.", content_type = "application/x-yaml", body = String))
)]
pub(super) async fn yaml2(State(api): State<SharedApi>) -> Response {
    with_content_type("application/x-yaml", &api.documents.yaml2)
}

/// To the documentation for people.
#[utoipa::path(
    get, path = "/v1/documentation", tag = "documentation", operation_id = "Documentation",
    responses((status = 301, description = "To the page, whose address ends with a slash."))
)]
pub(super) async fn moved() -> Response {
    super::request_scope::moved(PAGE)
}

/// The documentation for people. Not in the document: it is the one address that ends with a slash.
pub(super) async fn page(State(api): State<SharedApi>) -> Response {
    with_content_type("text/html; charset=utf-8", &api.documents.page)
}

fn with_content_type(kind: &'static str, text: &SharedText) -> Response {
    ([(header::CONTENT_TYPE, kind)], text.0.clone()).into_response()
}
