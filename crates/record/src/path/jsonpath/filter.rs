//! Parser of filters.

use super::super::iregexp::CompiledPattern;
use super::super::query::{
    ComparisonOperator, FilterOperand, LogicalExpression, PathQuery, PatternOperand,
};
use super::PathParser;

use crate::path::error::PathError;

/// A term of a filter, by its type.
enum FilterTerm {
    Literal(FilterOperand),
    Query(PathQuery),
    /// `length`, `count`, `value`.
    Value(FilterOperand),
    /// `match`, `search`.
    Logical(LogicalExpression),
}

const FUNCTIONS: &str = "length, count, value, match and search";

impl PathParser<'_> {
    /// `a || b`, the lowest level.
    pub(super) fn logical(&mut self) -> Result<LogicalExpression, PathError> {
        let mut all = vec![self.and()?];
        while self.operator("||") {
            all.push(self.and()?);
        }
        Ok(only(all, LogicalExpression::Or))
    }

    fn and(&mut self) -> Result<LogicalExpression, PathError> {
        let mut all = vec![self.basic()?];
        while self.operator("&&") {
            all.push(self.basic()?);
        }
        Ok(only(all, LogicalExpression::And))
    }

    /// Consumes an operator with the blanks around it, or nothing.
    fn operator(&mut self, operator: &str) -> bool {
        let before = self.at;
        self.blanks();
        if self.eat_text(operator) {
            self.blanks();
            return true;
        }
        self.at = before;
        false
    }

    fn basic(&mut self) -> Result<LogicalExpression, PathError> {
        let is_negated = self.eat('!');
        if is_negated {
            self.blanks();
        }
        if self.peek() == Some('(') {
            let inner = self.nested(|parser| {
                parser.eat('(');
                parser.blanks();
                let inner = parser.logical()?;
                parser.blanks();
                match parser.eat(')') {
                    true => Ok(inner),
                    false => Err(parser.expected(") or && or ||")),
                }
            })?;
            return Ok(negated(inner, is_negated));
        }
        let begin = self.at;
        let left = self.term()?;
        let behind = self.at;
        self.blanks();
        let Some(comparison) = self.comparison() else {
            self.at = behind;
            return Ok(negated(self.test(left, begin)?, is_negated));
        };
        if is_negated {
            let message = "! before a comparison needs parentheses, like !(@.a == 1)";
            return Err(PathError::new(self.text, begin, message));
        }
        let left = self.operand(left, begin)?;
        self.blanks();
        let begin = self.at;
        let right = self.term()?;
        let right = self.operand(right, begin)?;
        Ok(LogicalExpression::Compare(left, comparison, right))
    }

    fn comparison(&mut self) -> Option<ComparisonOperator> {
        let all = [
            ("==", ComparisonOperator::Equal),
            ("!=", ComparisonOperator::NotEqual),
            ("<=", ComparisonOperator::LessOrEqual),
            (">=", ComparisonOperator::GreaterOrEqual),
            ("<", ComparisonOperator::Less),
            (">", ComparisonOperator::Greater),
        ];
        let found = all.into_iter().find(|(text, _)| self.eat_text(text));
        found.map(|(_, comparison)| comparison)
    }

    /// A term as a test, without a comparison.
    fn test(&self, term: FilterTerm, begin: usize) -> Result<LogicalExpression, PathError> {
        match term {
            FilterTerm::Query(query) => Ok(LogicalExpression::Exists(query)),
            FilterTerm::Logical(logical) => Ok(logical),
            FilterTerm::Literal(_) | FilterTerm::Value(_) => Err(PathError::new(
                self.text,
                begin,
                "a value by itself is neither true nor false: compare it with == != < <= > or >=",
            )),
        }
    }

    /// A term as an operand.
    fn operand(&self, term: FilterTerm, begin: usize) -> Result<FilterOperand, PathError> {
        let wrong = |message: &str| Err(PathError::new(self.text, begin, message));
        match term {
            FilterTerm::Literal(operand) | FilterTerm::Value(operand) => Ok(operand),
            FilterTerm::Query(query) if query.singular.is_some() => Ok(FilterOperand::Node(query)),
            FilterTerm::Query(_) => wrong(
                "this query can select many values; one value needs a query with keys and indices only, or value(…)",
            ),
            FilterTerm::Logical(_) => {
                wrong("match and search are true or false, they have no value")
            }
        }
    }

    fn term(&mut self) -> Result<FilterTerm, PathError> {
        match self.peek() {
            Some(root @ ('$' | '@')) => {
                self.eat(root);
                Ok(FilterTerm::Query(self.query(root == '$')?))
            }
            Some('"' | '\'') => Ok(FilterTerm::Literal(FilterOperand::Text(self.string()?.into()))),
            Some('-' | '0'..='9') => Ok(FilterTerm::Literal(self.number()?)),
            Some('a'..='z') => self.word(),
            _ => Err(self.expected(
                "a value: a query like @.a or $.a, a text in quotes, a number, true, false, null or a function",
            )),
        }
    }

    /// `true`, `false`, `null` or a function.
    fn word(&mut self) -> Result<FilterTerm, PathError> {
        let begin = self.at;
        let rest = self.rest();
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default().to_owned();
        self.at += length;
        if self.peek() == Some('(') {
            return self.nested(|parser| parser.function(&word, begin));
        }
        match word.as_str() {
            "true" => Ok(FilterTerm::Literal(FilterOperand::Bool(true))),
            "false" => Ok(FilterTerm::Literal(FilterOperand::Bool(false))),
            "null" => Ok(FilterTerm::Literal(FilterOperand::Null)),
            _ => {
                self.at = begin;
                Err(self.error(format!(
                    "\"{word}\" is neither true, false, null nor a function; a text is written in quotes"
                )))
            }
        }
    }

    fn function(&mut self, name: &str, begin: usize) -> Result<FilterTerm, PathError> {
        let count = match name {
            "length" | "count" | "value" => 1,
            "match" | "search" => 2,
            _ => {
                let message = format!("there is no function {name}; functions are {FUNCTIONS}");
                return Err(PathError::new(self.text, begin, message));
            }
        };
        self.eat('(');
        let mut arguments = Vec::new();
        self.blanks();
        while self.peek() != Some(')') {
            let begin = self.at;
            arguments.push((self.term()?, begin));
            self.blanks();
            if self.peek() == Some(')') {
                break;
            }
            if !self.eat(',') {
                return Err(self.expected(", or )"));
            }
            self.blanks();
            if self.peek() == Some(')') {
                return Err(self.expected("a value"));
            }
        }
        if arguments.len() != count {
            let given = arguments.len();
            let message = format!("{name} takes {count} values, given are {given}");
            return Err(PathError::new(self.text, begin, message));
        }
        self.eat(')');
        self.call(name, arguments)
    }

    fn call(
        &self,
        name: &str,
        arguments: Vec<(FilterTerm, usize)>,
    ) -> Result<FilterTerm, PathError> {
        let mut arguments = arguments.into_iter();
        let mut next = || {
            let lacking = || PathError::new(self.text, self.at, "expected a value");
            arguments.next().ok_or_else(lacking)
        };
        let (first, begin) = next()?;
        let nodes = |term: FilterTerm| match term {
            FilterTerm::Query(query) => Ok(query),
            FilterTerm::Literal(_) | FilterTerm::Value(_) | FilterTerm::Logical(_) => {
                let message = format!("{name} takes a query, like {name}(@.a[*])");
                Err(PathError::new(self.text, begin, message))
            }
        };
        match name {
            "length" => {
                let of = Box::new(self.operand(first, begin)?);
                Ok(FilterTerm::Value(FilterOperand::Length(of)))
            }
            "count" => Ok(FilterTerm::Value(FilterOperand::Count(nodes(first)?))),
            "value" => Ok(FilterTerm::Value(FilterOperand::Value(nodes(first)?))),
            _ => {
                let subject = self.operand(first, begin)?;
                let (second, begin) = next()?;
                let is_whole = name == "match";
                let pattern = match self.operand(second, begin)? {
                    FilterOperand::Text(text) => {
                        let pattern =
                            CompiledPattern::compile(&text, is_whole).map_err(|problem| {
                                let message = format!("the pattern is not an I-Regexp: {problem}");
                                PathError::new(self.text, begin, message)
                            })?;
                        PatternOperand::Literal(pattern)
                    }
                    other => PatternOperand::Value(other),
                };
                Ok(FilterTerm::Logical(LogicalExpression::Matches {
                    subject,
                    pattern,
                    is_whole,
                }))
            }
        }
    }

    fn number(&mut self) -> Result<FilterOperand, PathError> {
        let begin = self.at;
        self.eat('-');
        if self.digits()? > 1 && self.text.get(begin..self.at).is_some_and(has_leading_zero) {
            let message = "a number has no leading zeros";
            return Err(PathError::new(self.text, begin, message));
        }
        if self.eat('.') {
            self.digits()?;
        }
        if self.eat('e') || self.eat('E') {
            let _ = self.eat('+') || self.eat('-');
            self.digits()?;
        }
        let text = self.text.get(begin..self.at).unwrap_or_default();
        Ok(FilterOperand::Number(text.as_bytes().into()))
    }

    /// Consumes at least one digit.
    fn digits(&mut self) -> Result<usize, PathError> {
        let rest = self.rest();
        let length = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if length == 0 {
            return Err(self.expected("a digit"));
        }
        self.at += length;
        Ok(length)
    }
}

fn has_leading_zero(number: &str) -> bool {
    number.trim_start_matches('-').starts_with('0')
}

/// A single expression, or all of them combined.
fn only(
    mut all: Vec<LogicalExpression>,
    together: impl FnOnce(Vec<LogicalExpression>) -> LogicalExpression,
) -> LogicalExpression {
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => one,
        (last, _) => {
            all.extend(last);
            together(all)
        }
    }
}

fn negated(logical: LogicalExpression, is_negated: bool) -> LogicalExpression {
    match is_negated {
        true => LogicalExpression::Not(Box::new(logical)),
        false => logical,
    }
}
