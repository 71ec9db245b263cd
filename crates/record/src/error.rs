//! Why a record has no row.

use crate::body::BodyParseError;

/// Kinds of refusal; each has its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordErrorKind {
    /// A path or template column, and a content type that is not parsed.
    UnsupportedMediaType,
    /// The row is over its limit.
    TooLarge,
    /// The body is not what its content type says.
    Body,
    /// The body has nothing at the path, and the column no default value.
    PathNotFound,
    /// A path that can select many values takes too long on the body.
    PathLimit,
    /// The template ended with an error.
    Template,
    /// The template took too much time or memory.
    TemplateLimit,
    /// Templates can't be evaluated right now: the sender may try again.
    Unavailable,
}

impl RecordErrorKind {
    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::UnsupportedMediaType => 415,
            Self::TooLarge => 413,
            Self::Body => 400,
            Self::PathNotFound | Self::PathLimit | Self::Template | Self::TemplateLimit => 422,
            Self::Unavailable => 503,
        }
    }

    /// Name in the data endpoint's answers, behind `stream.in.`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsupportedMediaType => "unsupportedMediaType",
            Self::TooLarge => "payloadTooLarge",
            Self::Body => "badRequest",
            Self::PathNotFound => "pathNotFound",
            Self::PathLimit => "pathLimit",
            Self::Template => "templateFailed",
            Self::TemplateLimit => "templateLimit",
            Self::Unavailable => "templateUnavailable",
        }
    }
}

/// A record that a mapping can't take. The text names column and cause, as in
/// `Column "x": path "zz" not found in the body.`
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Column \"{column}\": {message}.")]
pub struct RecordError {
    /// The column's name.
    pub column: String,
    /// What kind of refusal it is.
    pub kind: RecordErrorKind,
    /// The cause, without a final dot.
    pub message: String,
}

impl BodyParseError {
    /// Which refusal it leads to.
    pub fn kind(&self) -> RecordErrorKind {
        match self {
            Self::Unsupported { .. } => RecordErrorKind::UnsupportedMediaType,
            _ => RecordErrorKind::Body,
        }
    }
}

/// Why a template gave no cell. The worker makes it, the row's error is made from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// One of the kinds that a template can lead to.
    pub kind: RecordErrorKind,
    /// The cause, without a final dot; with the position in the template where there is one.
    pub message: String,
}

impl TemplateError {
    /// An error of the template itself.
    pub fn program(message: impl Into<String>) -> Self {
        Self {
            kind: RecordErrorKind::Template,
            message: message.into(),
        }
    }

    /// Too much time, memory or output.
    pub fn limit(message: impl Into<String>) -> Self {
        Self {
            kind: RecordErrorKind::TemplateLimit,
            message: message.into(),
        }
    }

    /// Nothing to do with the template: try again.
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
    /// The column's name.
    pub column: String,
    /// Type of the column: `path` or `template`.
    pub kind: &'static str,
    /// Position and cause, like `1:1-8 Unknown variable: Invalid` in a template, `character 3: …` in a
    /// path.
    pub message: String,
}
