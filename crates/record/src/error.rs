//! Errors of records and columns.

use crate::body::BodyParseError;

/// Kinds of rejection; each has an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordErrorKind {
    /// A path or template column needs a body whose content type is not supported.
    UnsupportedMediaType,
    /// The row exceeds its size limit.
    TooLarge,
    /// The body is invalid for its content type.
    Body,
    /// The body has no value at the path and the column has no default.
    PathNotFound,
    /// A value is not of its column's type.
    InvalidType,
    /// A query exceeds its steps ([`crate::path::steps_max`]).
    PathLimit,
    /// The template failed.
    Template,
    /// The template exceeded its time, memory or output.
    TemplateLimit,
    /// Templates can't be evaluated now; the sender may retry.
    Unavailable,
}

impl RecordErrorKind {
    /// HTTP status of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::UnsupportedMediaType => 415,
            Self::TooLarge => 413,
            Self::Body => 400,
            Self::PathNotFound
            | Self::InvalidType
            | Self::PathLimit
            | Self::Template
            | Self::TemplateLimit => 422,
            Self::Unavailable => 503,
        }
    }

    /// Name in the responses of the data endpoint, after `stream.in.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsupportedMediaType => "unsupportedMediaType",
            Self::TooLarge => "payloadTooLarge",
            Self::Body => "badRequest",
            Self::PathNotFound => "pathNotFound",
            Self::InvalidType => "invalidType",
            Self::PathLimit => "pathLimit",
            Self::Template => "templateFailed",
            Self::TemplateLimit => "templateLimit",
            Self::Unavailable => "templateUnavailable",
        }
    }
}

/// Error of mapping a record. The text names column and cause, as in
/// `Column "x": path "zz" not found in the body.`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Column \"{column}\": {message}.")]
pub struct RecordError {
    pub column: String,
    pub kind: RecordErrorKind,
    /// The cause, without a final dot.
    pub message: String,
}

impl BodyParseError {
    pub fn kind(&self) -> RecordErrorKind {
        match self {
            Self::Unsupported { .. } => RecordErrorKind::UnsupportedMediaType,
            _ => RecordErrorKind::Body,
        }
    }
}

/// Error of evaluating a template. The worker reports it; it becomes the [`RecordError`] of the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub kind: RecordErrorKind,
    /// The cause, without a final dot; with the position in the template where there is one.
    pub message: String,
}

impl TemplateError {
    pub fn program(message: impl Into<String>) -> Self {
        Self {
            kind: RecordErrorKind::Template,
            message: message.into(),
        }
    }

    pub fn limit(message: impl Into<String>) -> Self {
        Self {
            kind: RecordErrorKind::TemplateLimit,
            message: message.into(),
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: RecordErrorKind::Unavailable,
            message: message.into(),
        }
    }
}

/// A column that can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Column \"{column}\" {kind} is invalid: {message}.")]
pub struct ColumnError {
    pub column: String,
    /// Type of the column: `path` or `template`.
    pub kind: &'static str,
    /// Position and cause: `1:1-8 Unknown variable: Invalid` in a template, `character 3: …` in a
    /// path.
    pub message: String,
}
