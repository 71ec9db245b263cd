//! Errors of parsing a template, with their place in its text.

use std::fmt;

/// Error of parsing a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateDiagnostic {
    /// `None` for the whole text.
    pub span: Option<SourceSpan>,
    /// Without a final dot.
    pub message: String,
}

impl fmt::Display for TemplateDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(span) = &self.span {
            write!(f, "{span} ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateDiagnostic {}

/// A range of a template. Lines and characters count from 1; the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSpan {
    pub line: usize,
    pub column: usize,
    pub end_line: usize,
    pub end_column: usize,
}

impl SourceSpan {
    /// The span of bytes `start..end` of `source`.
    pub(super) fn from_byte_range(source: &str, start: usize, end: usize) -> Self {
        let position = |at: usize| {
            let before = &source.as_bytes()[..at.min(source.len())];
            let line_start = memchr::memrchr(b'\n', before).map_or(0, |i| i + 1);
            let line = memchr::memchr_iter(b'\n', before).count() + 1;
            let column = before[line_start..]
                .iter()
                .filter(|b| **b & 0xC0 != 0x80)
                .count();
            (line, column + 1)
        };
        let ((line, column), (end_line, end_column)) = (position(start), position(end));
        Self {
            line,
            column,
            end_line,
            end_column,
        }
    }
}

impl fmt::Display for SourceSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            end_line,
            end_column,
        } = self;
        if line != end_line {
            write!(f, "({line}:{column})-({end_line}:{end_column})")
        } else if end_column > column {
            write!(f, "{line}:{column}-{end_column}")
        } else {
            write!(f, "{line}:{column}")
        }
    }
}
