//! Errors of paths.

/// Error of parsing a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("character {at}: {message}")]
pub struct PathError {
    /// Character of the path, from 1; at an unexpected end one more than its length.
    pub at: usize,
    /// The error and what is allowed, without a final dot.
    pub message: String,
}

impl PathError {
    /// An error at a byte of the text.
    pub(super) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        Self {
            at: before.chars().count() + 1,
            message: message.into(),
        }
    }
}

pub(super) fn shown(found: Option<char>) -> String {
    found.map_or_else(|| "the end".to_owned(), |c| format!("{c:?}"))
}
