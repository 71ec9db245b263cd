//! The syntax of filters.

use super::super::iregexp::Pattern;
use super::super::plain::PathError;
use super::super::query::{Comparison, Logical, Operand, PatternOf, Query};
use super::Parser;

/// What stands in a filter: what it can be used for depends on its type.
enum Term {
    Literal(Operand),
    Query(Query),
    /// `length`, `count`, `value`.
    Value(Operand),
    /// `match`, `search`.
    Logical(Logical),
}

const FUNCTIONS: &str = "length, count, value, match and search";

impl Parser<'_> {
    /// `a || b`, the lowest level.
    pub(super) fn logical(&mut self) -> Result<Logical, PathError> {
        let mut all = vec![self.and()?];
        while self.operator("||") {
            all.push(self.and()?);
        }
        Ok(only(all, Logical::Or))
    }

    fn and(&mut self) -> Result<Logical, PathError> {
        let mut all = vec![self.basic()?];
        while self.operator("&&") {
            all.push(self.basic()?);
        }
        Ok(only(all, Logical::And))
    }

    /// Takes an operator with the blanks around it, or nothing.
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

    fn basic(&mut self) -> Result<Logical, PathError> {
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
        Ok(Logical::Compare(left, comparison, right))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let all = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = all.into_iter().find(|(text, _)| self.eat_text(text));
        found.map(|(_, comparison)| comparison)
    }

    /// A term that stands by itself.
    fn test(&self, term: Term, begin: usize) -> Result<Logical, PathError> {
        match term {
            Term::Query(query) => Ok(Logical::Exists(query)),
            Term::Logical(logical) => Ok(logical),
            Term::Literal(_) | Term::Value(_) => Err(PathError::new(
                self.text,
                begin,
                "a value by itself is neither true nor false: compare it with == != < <= > or >=",
            )),
        }
    }

    /// A term that has a value.
    fn operand(&self, term: Term, begin: usize) -> Result<Operand, PathError> {
        let wrong = |message: &str| Err(PathError::new(self.text, begin, message));
        match term {
            Term::Literal(operand) | Term::Value(operand) => Ok(operand),
            Term::Query(query) if query.singular.is_some() => Ok(Operand::Node(query)),
            Term::Query(_) => wrong(
                "this query can select many values, what takes one value needs one with keys and indices only, or value(…)",
            ),
            Term::Logical(_) => wrong("match and search are true or false, they have no value"),
        }
    }

    fn term(&mut self) -> Result<Term, PathError> {
        match self.peek() {
            Some(root @ ('$' | '@')) => {
                self.eat(root);
                Ok(Term::Query(self.query(root == '$')?))
            }
            Some('"' | '\'') => Ok(Term::Literal(Operand::Text(self.string()?.into()))),
            Some('-' | '0'..='9') => Ok(Term::Literal(self.number()?)),
            Some('a'..='z') => self.word(),
            _ => Err(self.expected(
                "a value: a query like @.a or $.a, a text in quotes, a number, true, false, null or a function",
            )),
        }
    }

    /// `true`, `false`, `null` or a function.
    fn word(&mut self) -> Result<Term, PathError> {
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
            "true" => Ok(Term::Literal(Operand::Bool(true))),
            "false" => Ok(Term::Literal(Operand::Bool(false))),
            "null" => Ok(Term::Literal(Operand::Null)),
            _ => {
                self.at = begin;
                Err(self.error(format!(
                    "\"{word}\" is neither true, false, null nor a function; a text is written in quotes"
                )))
            }
        }
    }

    fn function(&mut self, name: &str, begin: usize) -> Result<Term, PathError> {
        let count = match name {
            "length" | "count" | "value" => 1,
            "match" | "search" => 2,
            _ => {
                let message = format!("there is no function {name}, but {FUNCTIONS}");
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

    fn call(&self, name: &str, arguments: Vec<(Term, usize)>) -> Result<Term, PathError> {
        let mut arguments = arguments.into_iter();
        let mut next = || {
            let lacking = || PathError::new(self.text, self.at, "expected a value");
            arguments.next().ok_or_else(lacking)
        };
        let (first, begin) = next()?;
        let nodes = |term: Term| match term {
            Term::Query(query) => Ok(query),
            Term::Literal(_) | Term::Value(_) | Term::Logical(_) => {
                let message = format!("{name} takes a query, like {name}(@.a[*])");
                Err(PathError::new(self.text, begin, message))
            }
        };
        match name {
            "length" => {
                let of = Box::new(self.operand(first, begin)?);
                Ok(Term::Value(Operand::Length(of)))
            }
            "count" => Ok(Term::Value(Operand::Count(nodes(first)?))),
            "value" => Ok(Term::Value(Operand::Value(nodes(first)?))),
            _ => {
                let subject = self.operand(first, begin)?;
                let (second, begin) = next()?;
                let is_whole = name == "match";
                let pattern = match self.operand(second, begin)? {
                    Operand::Text(text) => {
                        let pattern = Pattern::compile(&text, is_whole).map_err(|problem| {
                            let message = format!("the pattern is no I-Regexp: {problem}");
                            PathError::new(self.text, begin, message)
                        })?;
                        PatternOf::Literal(pattern)
                    }
                    other => PatternOf::Value(other),
                };
                Ok(Term::Logical(Logical::Matches {
                    subject,
                    pattern,
                    is_whole,
                }))
            }
        }
    }

    fn number(&mut self) -> Result<Operand, PathError> {
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
        Ok(Operand::Number(text.as_bytes().into()))
    }

    /// Takes digits, at least one.
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

/// The one, or all of them together.
fn only(mut all: Vec<Logical>, together: impl FnOnce(Vec<Logical>) -> Logical) -> Logical {
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => one,
        (last, _) => {
            all.extend(last);
            together(all)
        }
    }
}

fn negated(logical: Logical, is_negated: bool) -> Logical {
    match is_negated {
        true => Logical::Not(Box::new(logical)),
        false => logical,
    }
}
