//! Errors of the API: status, name and message.
//!
//! A handler returns an [`ApiError`]; its response is empty and carries the error. `request_scope`
//! writes the body, because only there the request id is known.

use std::fmt::Display;

use crate::compat::versions::version_id;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use forebay_api::error::ApiErrorBody;
use forebay_meta::catalog::definitions::LimitedResource;
use forebay_meta::catalog::tables::TableRejection;
use forebay_meta::{DefinitionError, FileError, StoreError};
use forebay_model::CountLimit;
use http::{HeaderValue, StatusCode, header};

pub(crate) use forebay_api::error::ErrorName;

/// Error of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub(crate) struct ApiError {
    /// Error name; determines the status.
    pub(crate) name: ErrorName,
    /// For users. With the status 500 only for the log.
    pub(crate) message: String,
    /// Seconds to wait before a retry.
    pub(crate) retry_after: Option<u32>,
    /// The violations in the message one by one; empty if the message is a single one without a field.
    pub(crate) findings: Vec<FieldFinding>,
}

/// A violation of a request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldFinding {
    /// Path in the body, like `table.tableId`.
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self {
            name,
            message: message.into(),
            retry_after: None,
            findings: Vec::new(),
        }
    }

    /// Sets the field of the body that the error is about.
    pub(crate) fn at(mut self, field: impl Into<String>) -> Self {
        self.findings = vec![FieldFinding {
            field: Some(field.into()),
            message: self.message.clone(),
        }];
        self
    }

    /// An error with all findings; its message lists them.
    pub(crate) fn from_findings(findings: Vec<FieldFinding>) -> Self {
        let texts: Vec<String> = findings.iter().map(|f| f.message.clone()).collect();
        Self {
            findings,
            ..Self::bad_request(bullets(&texts))
        }
    }

    /// The violations one by one.
    pub(crate) fn into_findings(self) -> Vec<FieldFinding> {
        if self.findings.is_empty() {
            return vec![FieldFinding {
                field: None,
                message: self.message,
            }];
        }
        self.findings
    }

    /// Fills the template of the name with `values`.
    pub(crate) fn from_template(name: ErrorName, values: &[&dyn Display]) -> Self {
        Self::new(name, name.message(values))
    }

    pub(crate) fn status(&self) -> StatusCode {
        // A test checks all names.
        StatusCode::from_u16(self.name.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorName::BadRequest, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorName::Forbidden, message)
    }

    pub(crate) fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(ErrorName::TooManyRequests, message)
    }

    pub(crate) fn internal(cause: impl ToString) -> Self {
        Self::new(ErrorName::InternalError, cause.to_string())
    }

    /// A retry may succeed.
    pub(crate) fn unavailable(cause: impl ToString) -> Self {
        Self::new(ErrorName::ServiceUnavailable, cause.to_string()).retry_after(1)
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Combines the findings of a validation; the error has the name of the first.
    pub(crate) fn combine(findings: Vec<Self>) -> Option<Self> {
        let texts: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        let message = texts.join("; ");
        let name = findings.first()?.name;
        let findings = findings.into_iter().flat_map(Self::into_findings);
        Some(Self {
            findings: findings.collect(),
            ..Self::new(name, message)
        })
    }

    /// Message for users; `contact` is shown with internal errors.
    pub(crate) fn user_message(&self, exception_id: &str, contact: &str) -> String {
        // A bug may have any text; a failure that passes says what it is waiting for.
        if self.status() != StatusCode::INTERNAL_SERVER_ERROR {
            return sentence(&self.message);
        }
        let space = if contact.is_empty() { "" } else { " " };
        format!(
            "Application error. Please contact our support{space}{contact} with exception id ({exception_id}) attached."
        )
    }

    /// Response body and headers.
    pub(super) fn response(&self, request_id: &str, contact: &str) -> Response {
        let exception_id = format!("keboola-stream-api-{request_id}");
        let status = self.status();
        let body = ApiErrorBody {
            status_code: status.as_u16(),
            error: self.name.full_name(),
            message: self.user_message(&exception_id, contact),
            exception_id: status.is_server_error().then_some(exception_id),
        };
        let text = escape_html(&super::json_response::pretty(&body));
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = self.retry_after {
            let value = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Limit(_) => Self::bad_request(error.to_string()),
            e if e.is_retryable() => Self::unavailable(error),
            _ => Self::internal(error),
        }
    }
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Store(e) => e.into(),
            e if e.is_retryable() => Self::unavailable(e),
            e => Self::internal(e),
        }
    }
}

impl From<DefinitionError> for ApiError {
    fn from(error: DefinitionError) -> Self {
        use DefinitionError as E;
        match error {
            E::BranchNotFound(key) => {
                Self::from_template(ErrorName::BranchNotFound, &[&key.branch])
            }
            E::SourceNotFound(key) => source_not_found(key.source.as_str()),
            E::SinkNotFound(key) => sink_not_found(key.sink.as_str()),
            E::VersionNotFound(number) => {
                Self::from_template(ErrorName::VersionNotFound, &[&version_id(number)])
            }
            E::SourceExists(key) => source_exists(key.source.as_str()),
            E::SinkExists(key) => sink_exists(key.sink.as_str()),
            E::NotATopic(_) => Self::bad_request(error.to_string()),
            E::LimitReached { what, bound } => limit_reached(what, bound),
            E::Table(rejection) => table_rejected(rejection),
            E::Rejected(rejection) => match rejection.downcast::<Self>() {
                Ok(error) => *error,
                Err(other) => Self::bad_request(other.to_string()),
            },
            E::File(_) | E::Conflict if error.is_retryable() => Self::unavailable(&error),
            E::File(e) => Self::internal(e),
            E::Conflict | E::InFlight { .. } => Self::unavailable(error),
            E::Store(e) => e.into(),
        }
    }
}

pub(super) fn limit_reached(
    what: LimitedResource,
    CountLimit { max, setting }: CountLimit,
) -> ApiError {
    let (name, of): (_, Option<&str>) = match what {
        LimitedResource::Sources => (ErrorName::SourceCountLimitReached, None),
        LimitedResource::Sinks => (ErrorName::SinkCountLimitReached, None),
        LimitedResource::SourceVersions => (ErrorName::VersionCountLimitReached, Some("source")),
        LimitedResource::SinkVersions => (ErrorName::VersionCountLimitReached, Some("sink")),
    };
    match of {
        Some(of) => ApiError::from_template(name, &[&of, &max, &setting]),
        None => ApiError::from_template(name, &[&max, &setting]),
    }
}

/// Reason for denying a table to a project, without names and numbers of other projects.
pub(super) fn table_rejected(cause: TableRejection) -> ApiError {
    match cause {
        TableRejection::Foreign(table) => table_not_available(&format_args!(
            "\"tableId\" \"{table}\" can't be used: the table belongs to another project, use another name or ask an operator to share it (forebay table share)."
        )),
        TableRejection::Dropping(table) => table_not_available(&format_args!(
            "\"tableId\" \"{table}\" can't be used now: the table is being deleted with a source, try again when the deletion has finished, or repeat the deletion if it failed."
        ))
        .retry_after(1),
    }
}

pub(super) fn table_not_available(why: &dyn Display) -> ApiError {
    ApiError::from_template(ErrorName::TableNotAvailable, &[why])
}

pub(super) fn source_not_found(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::SourceNotFound, &[&id])
}

pub(super) fn deleted_source_not_found(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::DeletedSourceNotFound, &[&id])
}

pub(super) fn deleted_sink_not_found(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::DeletedSinkNotFound, &[&id])
}

pub(super) fn source_version_not_found(id: &str, number: u32) -> ApiError {
    let number = version_id(number);
    ApiError::from_template(ErrorName::SourceVersionNotFound, &[&id, &number])
}

pub(super) fn sink_version_not_found(id: &str, number: u32) -> ApiError {
    let number = version_id(number);
    ApiError::from_template(ErrorName::SinkVersionNotFound, &[&id, &number])
}

pub(super) fn token_not_found(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::TokenNotFound, &[&id])
}

pub(super) fn sink_not_found(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::SinkNotFound, &[&id])
}

pub(super) fn source_exists(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::SourceAlreadyExists, &[&id])
}

pub(super) fn sink_exists(id: &str) -> ApiError {
    ApiError::from_template(ErrorName::SinkAlreadyExists, &[&id])
}

/// Capitalizes the first letter, and adds a full stop after a letter, digit or quote.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(chars).collect();
    let ends_open = |c: char| c.is_alphanumeric() || c == '\'' || c == '"';
    if sentence.chars().next_back().is_some_and(ends_open) {
        sentence.push('.');
    }
    sentence
}

/// Joins several sentences as a list; one stays as it is.
pub(super) fn bullets(texts: &[String]) -> String {
    match texts {
        [one] => one.clone(),
        many => {
            let lines: Vec<String> = many.iter().map(|t| format!("- {}", sentence(t))).collect();
            lines.join("\n")
        }
    }
}

/// Prevents browsers from reading an error as HTML, whatever the request put into it.
fn escape_html(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sentences() {
        for (text, message) in [
            ("limit must be 1", "Limit must be 1."),
            ("length (len=0)", "Length (len=0)"),
            ("is \"x\"", "Is \"x\"."),
            ("it's 'x'", "It's 'x'."),
            ("done.", "Done."),
            ("", ""),
            ("élan", "Élan."),
        ] {
            assert_eq!(sentence(text), message);
        }
    }

    #[test]
    fn html_in_messages_is_escaped_without_loss() {
        let raw = serde_json::to_string(&"<a href='x'>&\u{2028}").unwrap();
        let escaped = escape_html(&raw);
        assert!(!escaped.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(
            serde_json::from_str::<String>(&escaped).unwrap(),
            "<a href='x'>&\u{2028}"
        );
    }
}
