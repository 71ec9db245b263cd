//! The operations of the OpenAPI document as the server uses them: required parameters, body and
//! role.

use std::collections::HashMap;
use std::fmt::Display;

use forebay_model::HumanDuration;
use http::Method;
use serde_json::{Map, Value, json};

use super::error::{ApiError, ErrorName};
use super::validate::{MAXIMUM, NamedSchemas, check_parameter};
use crate::compat::decoder::{self, DURATION_FORMAT};

/// Extension of an operation: the required role.
pub(super) const ROLE: &str = "x-role";
/// Role for changes.
pub(super) const ADMIN: &str = "admin";
/// Role for everything else.
pub(super) const READER: &str = "reader";
/// Parameter of operations that return a task: maximum wait for its end.
pub(super) const WAIT: &str = "wait";
pub(super) const WAIT_MAX: HumanDuration = HumanDuration::secs(60);

#[derive(Clone, Debug)]
pub(super) struct ApiOperations {
    pub(super) schemas: NamedSchemas,
    by_route: HashMap<(Method, String), ApiOperation>,
}

#[derive(Clone, Debug)]
pub(super) struct ApiOperation {
    parameters: Vec<OperationParameter>,
    /// Schema name of its JSON body.
    pub(super) body: Option<String>,
    /// Requires a token.
    pub(super) protected: bool,
    /// Requires an admin token.
    pub(super) admin: bool,
    /// Administers the server, not streams.
    administers: bool,
}

#[derive(Clone, Debug)]
struct OperationParameter {
    name: String,
    in_path: bool,
    required: bool,
    schema: Value,
}

impl ApiOperations {
    pub(super) fn new(document: &Value) -> Self {
        let mut by_route = HashMap::new();
        let paths = document.get("paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if let Ok(method) = Method::from_bytes(method.to_ascii_uppercase().as_bytes()) {
                    by_route.insert((method, path.clone()), ApiOperation::new(operation));
                }
            }
        }
        let components = document.get("components").unwrap_or(&Value::Null);
        Self {
            schemas: NamedSchemas::new(components),
            by_route,
        }
    }

    /// The operation of a route as matched by the router.
    pub(super) fn get(&self, method: &Method, route: &str) -> Option<&ApiOperation> {
        // Axum serves HEAD by the GET handler, and marks a rest parameter by a star.
        let method = match *method {
            Method::HEAD => Method::GET,
            _ => method.clone(),
        };
        self.by_route.get(&(method, route.replace("{*", "{")))
    }
}

impl ApiOperation {
    fn new(operation: &Value) -> Self {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let mut parameters: Vec<OperationParameter> = parameters
            .into_iter()
            .flatten()
            .filter_map(OperationParameter::new)
            .collect();
        parameters.sort_by_key(|p| !p.in_path);
        let reference = "/requestBody/content/application~1json/schema/$ref";
        let body = operation.pointer(reference).and_then(Value::as_str);
        let body = body.and_then(|r| r.rsplit('/').next()).map(str::to_owned);
        Self {
            parameters,
            body,
            protected: operation.get(ROLE).is_some(),
            admin: operation[ROLE] == ADMIN,
            administers: operation["tags"] == json!([ADMIN]),
        }
    }

    /// Message for a token without the role.
    pub(super) fn rejection_message(&self) -> &'static str {
        if self.administers {
            "only admin token can administer a project"
        } else {
            "only admin token can do write operations on streams"
        }
    }

    /// Parses parameters into an object of typed values, and appends violations to the findings.
    pub(super) fn read_parameters(
        &self,
        path: &[(String, String)],
        query: &[(String, String)],
        findings: &mut Vec<ApiError>,
    ) -> Value {
        let mut values = Map::new();
        for parameter in &self.parameters {
            let given = if parameter.in_path { path } else { query };
            let given = given.iter().find(|(name, _)| *name == parameter.name);
            let value = match given {
                // An empty query parameter counts as absent, except for strings.
                Some((_, text)) if !text.is_empty() || parameter.kind() == "string" => {
                    Some(parameter.read(text, findings))
                }
                _ => parameter.schema.get("default").cloned(),
            };
            match value {
                Some(value) => {
                    values.insert(parameter.name.clone(), value);
                }
                None if parameter.required => findings.push(ApiError::from_template(
                    ErrorName::MissingField,
                    &[&parameter.name, &"query string"],
                )),
                None => {}
            }
        }
        Value::Object(values)
    }
}

impl OperationParameter {
    fn new(parameter: &Value) -> Option<Self> {
        let location = parameter.get("in")?.as_str()?;
        if !matches!(location, "path" | "query") {
            return None;
        }
        Some(Self {
            name: parameter.get("name")?.as_str()?.to_owned(),
            in_path: location == "path",
            required: parameter.get("required").and_then(Value::as_bool) == Some(true),
            schema: parameter.get("schema").cloned().unwrap_or_default(),
        })
    }

    fn longest(&self) -> Option<HumanDuration> {
        self.schema.get(MAXIMUM)?.as_str()?.parse().ok()
    }

    fn kind(&self) -> &str {
        let kind = self.schema.get("type").and_then(Value::as_str);
        kind.unwrap_or("string")
    }

    /// The typed value; an invalid one is reported and read as zero or false, whose other violations
    /// are reported too.
    fn read(&self, text: &str, findings: &mut Vec<ApiError>) -> Value {
        let mut wrong = |kind: &str| {
            let name = &self.name;
            let (text, name) = (format!("{text:?}"), format!("{name:?}"));
            let values: [&dyn Display; 3] = [&text, &name, &kind];
            findings.push(ApiError::from_template(
                ErrorName::InvalidFieldType,
                &values,
            ));
        };
        let value = match self.kind() {
            "integer" => {
                let parsed = text.parse::<i64>().ok();
                if parsed.is_none() {
                    wrong("integer");
                }
                Value::from(parsed.unwrap_or_default())
            }
            "boolean" => {
                let parsed = decoder::parse_bool(text);
                if parsed.is_none() {
                    wrong("boolean");
                }
                Value::from(parsed.unwrap_or_default())
            }
            _ if self
                .schema
                .get("format")
                .is_some_and(|f| f == DURATION_FORMAT) =>
            {
                match (text.parse::<HumanDuration>(), self.longest()) {
                    (Err(_), _) => wrong("duration like 5s"),
                    (Ok(given), Some(max)) if given > max => {
                        let values: [&dyn Display; 4] = [&self.name, &"lesser", &max, &text];
                        findings.push(ApiError::from_template(ErrorName::InvalidRange, &values));
                    }
                    _ => {}
                }
                Value::from(text)
            }
            _ => Value::from(text),
        };
        check_parameter(&self.schema, &value, &self.name, findings);
        value
    }
}
