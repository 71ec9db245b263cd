//! Causes of dead letters: those whose errors differ only in values have the same cause.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// Id of a cause: equal for dead letters with the same error, column and message, except for numbers
/// and quoted values in the message. It depends on nothing else, so it is the same on every server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CauseId(u64);

/// A text that is not the id of a cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not the id of a cause: expected 16 hexadecimal digits, like 3f0c9a6b1d2e4f58")]
pub struct InvalidCauseId(String);

/// Properties of a dead letter that filters and causes read.
#[derive(Clone, Debug)]
pub struct DeadLetterFacts<'d> {
    /// When the record was received.
    pub received: Timestamp,
    /// The column that failed.
    pub column: &'d str,
    /// Name of the error, like `pathNotFound`.
    pub error: &'d str,
    /// Message for users.
    pub message: Cow<'d, str>,
    /// The record.
    pub body: &'d [u8],
}

/// Dead letters with the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseGroup<Id = u64> {
    /// Id of the cause.
    pub cause: CauseId,
    /// The column that failed.
    pub column: String,
    /// Name of the error.
    pub error: String,
    /// Message of the first of them.
    pub message: String,
    /// Number of dead letters.
    pub count: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Time of receipt of the earliest record.
    pub first_received: Timestamp,
    /// Time of receipt of the latest record.
    pub last_received: Timestamp,
    /// The first of them.
    pub first: Id,
}

/// Causes of the dead letters of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseReport<Id = u64> {
    /// The causes in the order in which they first occur.
    pub causes: Vec<CauseGroup<Id>>,
    /// Number of dead letters of further causes.
    pub others: u64,
    /// The last dead letter that was read, if there are more.
    pub more_after: Option<Id>,
}

impl<Id> Default for CauseReport<Id> {
    fn default() -> Self {
        Self {
            causes: Vec::new(),
            others: 0,
            more_after: None,
        }
    }
}

impl CauseReport {
    /// Counts a dead letter; it is one of the others if its cause is new and there are `max`.
    pub fn count(&mut self, number: u64, facts: &DeadLetterFacts<'_>, max: usize) {
        let cause = facts.cause();
        let bytes = facts.body.len() as u64;
        if let Some(group) = self.causes.iter_mut().find(|g| g.cause == cause) {
            group.count += 1;
            group.bytes += bytes;
            group.first_received = group.first_received.min(facts.received);
            group.last_received = group.last_received.max(facts.received);
        } else if self.causes.len() < max {
            self.causes.push(CauseGroup {
                cause,
                column: facts.column.to_owned(),
                error: facts.error.to_owned(),
                message: facts.message.clone().into_owned(),
                count: 1,
                bytes,
                first_received: facts.received,
                last_received: facts.received,
                first: number,
            });
        } else {
            self.others += 1;
        }
    }

    /// Converts the numbers to ids.
    pub fn map<Id>(self, id: impl Fn(u64) -> Id) -> CauseReport<Id> {
        let group = |g: CauseGroup| CauseGroup {
            cause: g.cause,
            column: g.column,
            error: g.error,
            message: g.message,
            count: g.count,
            bytes: g.bytes,
            first_received: g.first_received,
            last_received: g.last_received,
            first: id(g.first),
        };
        CauseReport {
            causes: self.causes.into_iter().map(group).collect(),
            others: self.others,
            more_after: self.more_after.map(&id),
        }
    }
}

impl DeadLetterFacts<'_> {
    /// The cause.
    pub fn cause(&self) -> CauseId {
        let pattern = pattern(&self.message);
        let parts = [self.error, "\0", self.column, "\0", &pattern];
        // FNV-1a: people write the id in scripts, so it must not change.
        let bytes = parts.iter().flat_map(|part| part.bytes());
        CauseId(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

impl fmt::Display for CauseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for CauseId {
    type Err = InvalidCauseId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| InvalidCauseId(text.to_owned()))
    }
}

/// A message without its values: `#` for words with digits, and for quoted texts that are not a name
/// or a path.
fn pattern(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once('"') {
        push_words(before, &mut out);
        let Some(end) = closing_quote(after) else {
            rest = after;
            continue;
        };
        let (quoted, behind) = after.split_at(end);
        out.push('"');
        if quoted.chars().all(is_of_path) {
            push_words(quoted, &mut out);
        } else {
            out.push('#');
        }
        out.push('"');
        rest = behind.get(1..).unwrap_or_default();
    }
    push_words(rest, &mut out);
    out
}

/// Position of the quote that ends a quoted text.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn is_of_path(c: char) -> bool {
    c.is_alphanumeric() || "_-.$@*[]".contains(c)
}

fn push_words(text: &str, out: &mut String) {
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.contains(|c: char| c.is_ascii_digit()) {
            out.push('#');
        } else {
            out.push_str(word);
        }
        let next = behind.find(is_of_word).unwrap_or(behind.len());
        let (between, behind) = behind.split_at(next);
        out.push_str(between);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(message: &str) -> DeadLetterFacts<'_> {
        DeadLetterFacts {
            received: Timestamp::from_millis(5),
            column: "c",
            error: "pathNotFound",
            message: message.into(),
            body: b"12",
        }
    }

    #[test]
    fn messages_that_differ_in_values_have_one_cause() {
        for (a, b) in [
            (
                "expected value at line 1 column 7",
                "expected value at line 12 column 300",
            ),
            (
                "rejected it 3 times: HTTP 400",
                "rejected it 11 times: HTTP 400",
            ),
            ("id 3f0c9a6b-1d2e unknown", "id aaaaaaa1-1d2e unknown"),
            (
                "the left side is \"12 EUR\"",
                "the left side is \"a \\\" b\"",
            ),
        ] {
            assert_eq!(facts(a).cause(), facts(b).cause(), "{a}: {}", pattern(a));
        }
        for (a, b) in [
            ("path \"a.b\" not found", "path \"a.c\" not found"),
            (
                "check constraint \"positive\"",
                "check constraint \"short\"",
            ),
            ("\"open", "\"closed\""),
            ("", "x"),
        ] {
            assert_ne!(facts(a).cause(), facts(b).cause(), "{a}: {}", pattern(a));
        }
        let other = DeadLetterFacts {
            column: "d",
            ..facts("x")
        };
        assert_ne!(other.cause(), facts("x").cause());
    }

    #[test]
    fn ids_of_causes_are_stable_and_parsed() {
        let cause = facts("path \"a\" not found").cause();
        let text = cause.to_string();
        assert_eq!(text.len(), 16);
        assert_eq!(text.parse(), Ok(cause));
        for text in [
            "",
            "x",
            "3f0c9a6b1d2e4f5",
            "3f0c9a6b1d2e4f580",
            "+f0c9a6b1d2e4f58",
        ] {
            assert!(text.parse::<CauseId>().is_err(), "{text}");
        }
    }

    #[test]
    fn causes_are_counted_up_to_a_maximum() {
        let mut report = CauseReport::default();
        for (number, message) in ["a", "b 1", "b 2", "c", "d", "a"].into_iter().enumerate() {
            report.count(number as u64, &facts(message), 3);
        }
        let counts: Vec<_> = report
            .causes
            .iter()
            .map(|g| (g.first, g.count, g.bytes))
            .collect();
        assert_eq!(counts, [(0, 2, 4), (1, 2, 4), (3, 1, 2)]);
        assert_eq!(report.others, 1);
        assert_eq!(report.causes[1].message, "b 1");
    }
}
