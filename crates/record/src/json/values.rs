//! JSON values one after the other in one text: `{"i":1}{"i":2}`.

use std::ops::Range;

use super::document::{Kind, start_of};
use super::error::{JsonError, Problem};
use super::scan::{Scanner, Stop};
use crate::line::{BYTE_ORDER_MARK, is_space};

/// Whether a text may hold more than one value. `false` is certain, and found without reading the
/// text as JSON: a second value can only follow a bracket that closes the first one, and behind such
/// a bracket there would be something else than a comma, another closing bracket or the end.
#[must_use]
pub fn may_hold_several(text: &[u8]) -> bool {
    let Some(b'{' | b'[') = text.iter().find(|b| !is_space(**b)) else {
        return true;
    };
    memchr::memchr2_iter(b'}', b']', text).any(|at| {
        let mut behind = text[at + 1..].iter();
        let next = behind.find(|b| !is_space(**b));
        !matches!(next, None | Some(b',' | b'}' | b']'))
    })
}

/// The values of a text, each as the place where it is. Space between them may be missing, except
/// around numbers, `true`, `false` and `null`, whose end only space can show. A byte order mark
/// between two values is skipped, as `cat` leaves it there.
///
/// The first error is the last item: where the next value would begin is not known.
#[derive(Debug)]
pub struct Values<'a> {
    text: &'a [u8],
    scanner: Scanner<'a>,
    at: usize,
    /// End of the value before, if only space can follow it directly.
    word_end: Option<usize>,
    /// What is wrong before any value is read, or that there are no more values.
    state: State,
}

#[derive(Debug)]
enum State {
    Broken(JsonError),
    Reading,
    Ended,
}

impl<'a> Values<'a> {
    /// Of a text, which may have space and byte order marks at its ends.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        let (at, state) = match start_of(text) {
            Ok(at) => (at, State::Reading),
            Err(error) => (0, State::Broken(error)),
        };
        Self {
            text,
            scanner: Scanner::of_parts(text),
            at,
            word_end: None,
            state,
        }
    }

    fn skip_space(&mut self) {
        loop {
            match self.text.get(self.at..) {
                Some([byte, ..]) if is_space(*byte) => self.at += 1,
                Some(rest) if rest.starts_with(BYTE_ORDER_MARK) => self.at += BYTE_ORDER_MARK.len(),
                _ => return,
            }
        }
    }

    fn read(&mut self) -> Result<Range<usize>, Stop> {
        let before = self.at;
        self.skip_space();
        let node = self.scanner.run_value(self.at)?;
        let is_word = !matches!(node.kind(), Kind::Object | Kind::Array | Kind::String);
        let touches = before == self.at && before > 0;
        if touches && (is_word || self.word_end == Some(before)) {
            return Err(Stop(Problem::Trailing, self.at));
        }
        let range = node.start as usize..node.end as usize;
        self.at = range.end;
        self.word_end = is_word.then_some(range.end);
        Ok(range)
    }
}

impl Iterator for Values<'_> {
    type Item = Result<Range<usize>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return None,
            State::Broken(error) => return Some(Err(error)),
            State::Reading => {}
        }
        let end = self.at;
        self.skip_space();
        if self.at == self.text.len() {
            return None;
        }
        self.at = end;
        Some(match self.read() {
            Ok(range) => {
                self.state = State::Reading;
                Ok(range)
            }
            Err(Stop(problem, offset)) => Err(JsonError::at(problem, self.text, offset)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<&str>, (Problem, usize)> {
        let values = Values::new(text.as_bytes());
        let texts = values.map(|v| v.map(|range| &text[range]));
        texts
            .map(|t| t.map_err(|e| (e.problem, e.offset)))
            .collect()
    }

    #[test]
    fn values_follow_each_other_with_and_without_space() {
        for (text, wanted) in [
            ("", &[][..]),
            (" \t\u{feff} ", &[]),
            ("{}", &["{}"]),
            ("{\"i\":1}{\"i\":2}", &["{\"i\":1}", "{\"i\":2}"]),
            ("{\"i\":1} \r[2] ", &["{\"i\":1}", "[2]"]),
            (
                "[1][2]\"}{\"\"b\"{}",
                &["[1]", "[2]", "\"}{\"", "\"b\"", "{}"],
            ),
            ("1 -2 true\tnull", &["1", "-2", "true", "null"]),
            ("{}\u{feff}{}", &["{}", "{}"]),
            ("{\"a\":\"}{\",\"b\":[{}]}", &["{\"a\":\"}{\",\"b\":[{}]}"]),
        ] {
            assert_eq!(texts(text).as_deref(), Ok(wanted), "{text}");
            assert!(
                wanted.len() <= 1 || may_hold_several(text.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_sequence_of_values_is_named_where_it_ends() {
        for (text, problem, offset) in [
            ("{}{\"i\":", Problem::End, 7),
            ("{},{}", Problem::Value, 2),
            ("{}}", Problem::Value, 2),
            ("{} x", Problem::Value, 3),
            ("10-20", Problem::Trailing, 2),
            ("truefalse", Problem::Trailing, 4),
            ("{}1", Problem::Trailing, 2),
            ("1{}", Problem::Trailing, 1),
            ("{\"a\":1}{a:1}", Problem::Key, 8),
        ] {
            assert_eq!(texts(text), Err((problem, offset)), "{text}");
        }
        let broken: Vec<_> = Values::new(b"{}\xFF").collect();
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].as_ref().unwrap_err().problem, Problem::Utf8);
    }

    #[test]
    fn one_value_is_seen_to_be_one_without_reading_it() {
        for one in [
            "{}",
            " {\"a\":[1,{\"b\":2} , 3] } ",
            "[[1],[2]]",
            "{\"a\":\"}, {\"}",
            // Not JSON, and yet not several values.
            "{\"a\":1",
            "{a}",
        ] {
            assert!(!may_hold_several(one.as_bytes()), "{one}");
        }
        // A string may make it seem so.
        assert!(may_hold_several(b"{\"a\":\"}{\"}"));
    }
}
