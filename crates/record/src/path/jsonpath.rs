//! Parser of JSONPath (RFC 9535, section 2), with its checks of types (2.4.3) and ranges (2.1).

mod filter;

use forebay_model::limits::PATH_NESTING_MAX;

use super::error::{PathError, shown};
use super::literal;
use super::plain::quoted;
use super::query::{PathQuery, QuerySegment, QuerySelector};

/// Largest index in both directions: exact in every JSON library.
const INDEX_MAX: i64 = (1 << 53) - 1;

pub(super) fn parse(text: &str) -> Result<PathQuery, PathError> {
    let mut parser = PathParser {
        text,
        at: 0,
        depth: 0,
    };
    parser.eat('$');
    let query = parser.query(true)?;
    match parser.peek() {
        None => Ok(query),
        Some(_) if parser.at == 1 => {
            let key = text.split(['.', '[']).next().unwrap_or_default();
            let key = quoted(key);
            Err(parser.expected(&format!(
                ". or [ or the end behind $ (a key that begins with $ is written {key})"
            )))
        }
        Some(_) => Err(parser.expected(". or [ or the end")),
    }
}

struct PathParser<'a> {
    text: &'a str,
    /// Bytes read so far.
    at: usize,
    /// Open filters, parentheses and functions.
    depth: usize,
}

impl PathParser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, c: char) -> bool {
        let is_next = self.peek() == Some(c);
        if is_next {
            self.at += c.len_utf8();
        }
        is_next
    }

    fn eat_text(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(literal::is_blank).len();
    }

    fn error(&self, message: impl Into<String>) -> PathError {
        PathError::new(self.text, self.at, message)
    }

    fn expected(&self, what: &str) -> PathError {
        let found = shown(self.peek());
        self.error(format!("expected {what}, found {found}"))
    }

    /// Reads one level deeper.
    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, PathError>,
    ) -> Result<T, PathError> {
        if self.depth == PATH_NESTING_MAX {
            return Err(self.error(format!(
                "filters, parentheses and functions nest at most {PATH_NESTING_MAX} deep"
            )));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// The segments after `$` or `@`. Trailing blanks are not consumed.
    fn query(&mut self, from_root: bool) -> Result<PathQuery, PathError> {
        let mut segments = Vec::new();
        loop {
            let before = self.at;
            self.blanks();
            match self.peek() {
                Some('.' | '[') => segments.push(self.segment()?),
                _ => {
                    self.at = before;
                    return Ok(PathQuery::new(from_root, segments));
                }
            }
        }
    }

    fn segment(&mut self) -> Result<QuerySegment, PathError> {
        let is_descendant = self.eat_text("..");
        if !is_descendant && self.eat('.') {
            return self.shorthand(false);
        }
        if self.peek() == Some('[') {
            return Ok(QuerySegment {
                is_descendant,
                selectors: self.bracketed()?,
            });
        }
        self.shorthand(is_descendant)
    }

    /// `*` or a name after dots.
    fn shorthand(&mut self, is_descendant: bool) -> Result<QuerySegment, PathError> {
        let selector = if self.eat('*') {
            QuerySelector::Wildcard
        } else {
            QuerySelector::Name(self.short_name(is_descendant)?)
        };
        Ok(QuerySegment {
            is_descendant,
            selectors: vec![selector],
        })
    }

    fn short_name(&mut self, is_descendant: bool) -> Result<Box<[u8]>, PathError> {
        let rest = self.rest();
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let is_name = |c: char| is_first(c) || c.is_ascii_digit();
        if !rest.starts_with(is_first) {
            let dots = if is_descendant { ".." } else { "." };
            let bracket = if is_descendant { ", [" } else { "" };
            return Err(self.expected(&format!(
                "a name of letters, digits and _ (not a digit first){bracket} or * behind {dots} (other keys are written in brackets and quotes, like ['a-b'], indices like [0])"
            )));
        }
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name: Box<[u8]> = rest.get(..length).unwrap_or_default().as_bytes().into();
        // These characters are more likely part of the name than its end.
        let next = rest.get(length..).and_then(|r| r.chars().next());
        self.at += length;
        if let Some('-' | '@' | '$' | '/' | ':' | '\\' | '#' | '"' | '\'') = next {
            return Err(self.expected(
                ". or [ or the end behind a name (a key with other characters than letters, digits and _ is written in brackets and quotes, like ['a-b'])",
            ));
        }
        Ok(name)
    }

    fn bracketed(&mut self) -> Result<Vec<QuerySelector>, PathError> {
        self.eat('[');
        let mut selectors = Vec::new();
        loop {
            self.blanks();
            selectors.push(self.selector()?);
            self.blanks();
            if self.eat(']') {
                return Ok(selectors);
            }
            if !self.eat(',') {
                return Err(self.expected(", or ] behind a selector"));
            }
        }
    }

    fn selector(&mut self) -> Result<QuerySelector, PathError> {
        match self.peek() {
            Some('"' | '\'') => Ok(QuerySelector::Name(self.string()?.into())),
            Some('*') => {
                self.eat('*');
                Ok(QuerySelector::Wildcard)
            }
            Some('?') => {
                self.eat('?');
                self.blanks();
                Ok(QuerySelector::Filter(self.nested(Self::logical)?))
            }
            Some('-' | ':' | '0'..='9') => self.index_or_slice(),
            _ => Err(self.expected(
                "a selector: a key in quotes, an index, a slice like 0:10, * or a filter like ?@.a > 1",
            )),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, PathError> {
        let (text, end) = literal::string(self.text, self.at)?;
        self.at = end;
        Ok(text.into_bytes())
    }

    fn index_or_slice(&mut self) -> Result<QuerySelector, PathError> {
        let start = self.optional_index()?;
        let behind = self.at;
        self.blanks();
        if !self.eat(':') {
            self.at = behind;
            return match start {
                Some(index) => Ok(QuerySelector::Index(index)),
                None => Err(self.expected("an index")),
            };
        }
        self.blanks();
        let end = self.optional_index()?;
        let behind = self.at;
        self.blanks();
        let mut step = None;
        if self.eat(':') {
            self.blanks();
            step = self.optional_index()?;
        } else {
            self.at = behind;
        }
        Ok(QuerySelector::Slice {
            start,
            end,
            step: step.unwrap_or(1),
        })
    }

    fn optional_index(&mut self) -> Result<Option<i64>, PathError> {
        let begin = self.at;
        let is_negative = self.eat('-');
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if length == 0 {
            return match is_negative {
                true => Err(self.expected("a digit behind -")),
                false => Ok(None),
            };
        }
        let digits = rest.get(..length).unwrap_or_default();
        let wrong = |message: &str| Err(PathError::new(self.text, begin, message));
        if digits == "0" && is_negative {
            return wrong("-0 is no index");
        }
        if length > 1 && digits.starts_with('0') {
            return wrong("an index has no leading zeros");
        }
        let index = digits.parse::<i64>().ok().filter(|i| *i <= INDEX_MAX);
        let Some(index) = index else {
            return wrong("an index is from -9007199254740991 to 9007199254740991");
        };
        self.at += length;
        Ok(Some(if is_negative { -index } else { index }))
    }
}
