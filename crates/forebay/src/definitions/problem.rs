//! A problem of a definition file, with the line that has it.

use std::fmt;

use forebay_schema::yaml::YamlSpan;
use serde::Serialize;

/// Characters of a quoted line; a longer one is cut around the problem.
const QUOTED_MAX: usize = 160;
/// Characters before the problem in a line that is cut.
const BEFORE_MAX: usize = 60;

/// A problem of a definition file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DefinitionProblem {
    pub(crate) file: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u64>,
    /// Path in the file, like `sources[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) path: String,
    pub(crate) message: String,
    #[serde(skip)]
    pub(super) quote: Option<LineQuote>,
}

/// A line with a mark below a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineQuote {
    text: String,
    /// Characters before the mark.
    indent: usize,
    /// Characters of the mark, at least 1.
    length: usize,
}

impl LineQuote {
    /// Quotes the line of `span`. Text from the first of the `hidden` columns (from 1) is not shown.
    pub(super) fn new(
        text: &str,
        span: YamlSpan,
        hidden: impl Iterator<Item = u64>,
    ) -> Option<Self> {
        let index = usize::try_from(span.line).ok()?.checked_sub(1)?;
        let line = text.lines().nth(index)?;
        let column = |column: u64| usize::try_from(column).unwrap_or(1).saturating_sub(1);
        // One cell per character, so that the mark is below its text.
        let mut chars: Vec<char> = line
            .chars()
            .map(|c| if c == '\t' { ' ' } else { c })
            .collect();
        if let Some(from) = hidden.map(column).min().filter(|from| *from < chars.len()) {
            chars.truncate(from);
            chars.extend("***".chars());
        }
        let mut indent = column(span.column).min(chars.len());
        if chars.len() > QUOTED_MAX && indent > BEFORE_MAX {
            let cut = indent - BEFORE_MAX;
            chars.drain(..cut);
            chars.insert(0, '…');
            indent = indent - cut + 1;
        }
        if chars.len() > QUOTED_MAX {
            chars.truncate(QUOTED_MAX);
            chars.push('…');
        }
        let length = span.length.min(chars.len().saturating_sub(indent)).max(1);
        let text: String = chars.into_iter().collect();
        Some(Self {
            text: text.trim_end().to_owned(),
            indent,
            length,
        })
    }
}

impl fmt::Display for DefinitionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, message, .. } = self;
        let (Some(line), Some(column)) = (self.line, self.column) else {
            return write!(f, "{message}\n --> {file}");
        };
        write!(f, "{message}\n --> {file}:{line}:{column}")?;
        let Some(LineQuote {
            text,
            indent,
            length,
        }) = &self.quote
        else {
            return Ok(());
        };
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let mark = "^".repeat(*length);
        let before = " ".repeat(*indent);
        write!(
            f,
            "\n{margin} |\n{number} | {text}\n{margin} | {before}{mark}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(text: &str, column: u64, length: usize, hidden: &[u64]) -> LineQuote {
        let span = YamlSpan {
            line: 1,
            column,
            length,
        };
        LineQuote::new(text, span, hidden.iter().copied()).unwrap()
    }

    #[test]
    fn lines_are_cut_and_secrets_are_hidden() {
        let found = quote("key: hunter2", 1, 3, &[6]);
        assert_eq!(
            (found.text.as_str(), found.indent, found.length),
            ("key: ***", 0, 3)
        );
        let found = quote("key: hunter2", 9, 3, &[6]);
        assert_eq!((found.text.as_str(), found.indent), ("key: ***", 8));
        let long = "x".repeat(1000);
        let found = quote(&long, 500, 900, &[]);
        assert_eq!(found.text.chars().count(), QUOTED_MAX + 1);
        assert_eq!(found.indent, BEFORE_MAX + 1);
        assert!(found.indent + found.length <= QUOTED_MAX + 1);
        let found = quote("\tä: 1", 5, 1, &[]);
        assert_eq!((found.text.as_str(), found.indent), (" ä: 1", 4));
    }
}
