//! Errors of an operation. Most follow from its path, parameters, body and role; further ones are
//! listed in its extension `x-errors`.
//!
//! Tests of this crate check every error response against this list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::error::sentence;
use crate::api::validate::MAXIMUM;
use crate::compat::decoder::DURATION_FORMAT;
use forebay_api::error::{ApiErrorBody, ErrorName};

/// Extension with the names of further errors.
const EXTRA_ERRORS: &str = "x-errors";

/// Statuses with the same errors in every operation.
const SHARED: [u16; 7] = [401, 403, 408, 413, 429, 500, 503];

/// Adds a response for each error status. `schemas` are those of the document.
pub(super) fn describe(path: &str, operation: &mut Value, is_admin: bool, schemas: &Value) {
    let mut by_status: BTreeMap<u16, Vec<ErrorName>> = BTreeMap::new();
    for error in possible_errors(path, operation, is_admin, schemas) {
        let status = error.status();
        by_status.entry(status).or_default().push(error);
    }
    if let Some(operation) = operation.as_object_mut() {
        operation.remove(EXTRA_ERRORS);
    }
    for (status, errors) in by_status {
        operation["responses"][status.to_string()] = if SHARED.contains(&status) {
            json!({ "$ref": format!("#/components/responses/Error{status}") })
        } else {
            response(&errors)
        };
    }
}

/// The responses that operations share, by their names in the document.
pub(super) fn shared() -> Value {
    let response = |status: &u16| {
        let errors = ErrorName::ALL.iter().copied();
        let errors: Vec<ErrorName> = errors.filter(|e| e.status() == *status).collect();
        (format!("Error{status}"), response(&errors))
    };
    Value::Object(SHARED.iter().map(response).collect())
}

fn response(errors: &[ErrorName]) -> Value {
    let line = |error: &ErrorName| format!("- `{error}`: {}", sentence(error.template()));
    let lines: Vec<String> = errors.iter().map(line).collect();
    let example = |error: &ErrorName| {
        let example = json!({ "value": example_body(*error) });
        (error.name().to_owned(), example)
    };
    let examples: Map<String, Value> = errors.iter().map(example).collect();
    json!({
        "description": lines.join("\n"),
        "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/Error" },
            "examples": examples,
        } }
    })
}

fn example_body(name: ErrorName) -> ApiErrorBody {
    ApiErrorBody {
        status_code: name.status(),
        error: name.full_name(),
        message: sentence(name.template()),
        exception_id: None,
    }
}

fn possible_errors(
    path: &str,
    operation: &Value,
    is_admin: bool,
    schemas: &Value,
) -> BTreeSet<ErrorName> {
    use ErrorName as E;
    // Errors of every operation with a token.
    let mut errors = BTreeSet::from([
        E::MissingField,
        E::TokenInvalid,
        E::RequestTimeout,
        E::TooManyRequests,
        E::InternalError,
        E::PanicError,
        E::ServiceUnavailable,
    ]);
    errors.extend(is_admin.then_some(E::Forbidden));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        add_parameter_errors(parameter, &mut errors);
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        errors.extend([E::BodyTooLarge, E::BadRequest]);
        let schema = content.get("application/json").map(|c| &c["schema"]);
        if let Some(schema) = schema.filter(|s| s.get("$ref").is_some()) {
            errors.extend([E::DecodePayload, E::MissingPayload]);
            add_schema_errors(schema, schemas, &mut errors);
        }
    }
    add_path_errors(path, &mut errors);
    let own = operation[EXTRA_ERRORS].as_array().into_iter().flatten();
    let own = own.filter_map(Value::as_str);
    errors.extend(own.filter_map(ErrorName::named));
    // While another task creates it, it already exists.
    let creates = [E::SourceAlreadyExists, E::SinkAlreadyExists];
    if operation["responses"].get("202").is_some() && creates.iter().all(|e| !errors.contains(e)) {
        errors.insert(E::TaskAlreadyRunning);
    }
    errors
}

/// The resources in the path may not exist.
fn add_path_errors(path: &str, errors: &mut BTreeSet<ErrorName>) {
    use ErrorName as E;
    if path.contains('{') {
        errors.insert(E::BadRequest);
    }
    let of_sink = path.contains("{sinkId}");
    let undeletes = path.ends_with("/undelete");
    for (part, error) in [
        ("{sourceId}", E::SourceNotFound),
        ("{sinkId}", E::SinkNotFound),
        ("{deadLetterId}", E::DeadLetterNotFound),
        ("{projectId}", E::ProjectNotFound),
        ("{tokenId}", E::TokenNotFound),
        ("{taskId}", E::TaskNotFound),
    ] {
        errors.extend(path.contains(part).then_some(error));
    }
    if path.contains("{versionNumber}") {
        errors.insert(if of_sink {
            E::SinkVersionNotFound
        } else {
            E::SourceVersionNotFound
        });
    }
    if undeletes && of_sink {
        errors.remove(&E::SinkNotFound);
        errors.insert(E::DeletedSinkNotFound);
    } else if undeletes {
        errors.remove(&E::SourceNotFound);
        errors.insert(E::DeletedSourceNotFound);
    }
}

fn add_parameter_errors(parameter: &Value, errors: &mut BTreeSet<ErrorName>) {
    let schema = &parameter["schema"];
    if schema["type"] != "string" || schema["format"] == DURATION_FORMAT {
        errors.insert(ErrorName::InvalidFieldType);
    }
    add_keyword_errors(schema, errors);
}

/// Errors of a body schema, recursively.
fn add_schema_errors(schema: &Value, schemas: &Value, errors: &mut BTreeSet<ErrorName>) {
    let reference = schema["$ref"].as_str().unwrap_or_default();
    let name = reference.rsplit('/').next().unwrap_or_default();
    let schema = schemas.get(name).unwrap_or(schema);
    add_keyword_errors(schema, errors);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let below = properties.map(|(_, s)| s).chain(choices);
    for below in below.chain(schema.get("items")) {
        add_schema_errors(below, schemas, errors);
    }
}

/// Errors of the keywords of one schema.
fn add_keyword_errors(schema: &Value, errors: &mut BTreeSet<ErrorName>) {
    for (word, error) in [
        ("enum", ErrorName::InvalidEnumValue),
        ("minLength", ErrorName::InvalidLength),
        ("maxLength", ErrorName::InvalidLength),
        ("minItems", ErrorName::InvalidLength),
        ("maxItems", ErrorName::InvalidLength),
        ("minimum", ErrorName::InvalidRange),
        ("maximum", ErrorName::InvalidRange),
        (MAXIMUM, ErrorName::InvalidRange),
    ] {
        errors.extend(schema.get(word).is_some().then_some(error));
    }
}
