//! Errors of JSON texts.

use std::fmt;

/// A syntax error and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    pub kind: JsonErrorKind,
    /// Byte of the text, from 0.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonErrorKind {
    Empty,
    End,
    Value,
    Key,
    Colon,
    CommaOrBracket,
    CommaOrBrace,
    Number,
    Escape,
    Control,
    Depth,
    Trailing,
    Utf8,
    TooLarge,
    NotAnArray,
}

impl JsonErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Empty => "the body is empty",
            Self::End => "unexpected end of the body",
            Self::Value => "expected a value",
            Self::Key => "expected a key in double quotes",
            Self::Colon => "expected ':' after the key",
            Self::CommaOrBracket => "expected ',' or ']'",
            Self::CommaOrBrace => "expected ',' or '}'",
            Self::Number => "not a number",
            Self::Escape => "unknown escape in a string",
            Self::Control => "control character in a string, it must be escaped",
            Self::Depth => "nested deeper than 300 levels",
            Self::Trailing => "unexpected text after the end of the value",
            Self::Utf8 => "not valid UTF-8",
            Self::TooLarge => "larger than 4 GiB",
            Self::NotAnArray => "a batch must be an array of records",
        }
    }
}

impl JsonError {
    /// Offsets have 32 bits.
    pub(crate) fn too_large() -> Self {
        Self::at(JsonErrorKind::TooLarge, &[], 0)
    }

    /// The message without the position.
    pub fn kind_text(&self) -> &'static str {
        self.kind.text()
    }

    /// Finds line and column of `offset` in `text`.
    pub(crate) fn at(kind: JsonErrorKind, text: &[u8], offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
        // Continuation bytes of UTF-8 don't count.
        let column = before[start..]
            .iter()
            .filter(|b| **b & 0xC0 != 0x80)
            .count();
        Self {
            kind,
            offset,
            line,
            column: column + 1,
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        if self.kind == JsonErrorKind::Empty {
            return Ok(());
        }
        let Self {
            line,
            column,
            offset,
            ..
        } = self;
        write!(f, " at line {line}, column {column} (byte {offset})")
    }
}

impl std::error::Error for JsonError {}
