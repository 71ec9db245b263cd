//! Sequences of JSON values in one text: `{"i":1}{"i":2}`.

use std::ops::Range;

use super::document::start_of;
use super::error::{JsonError, JsonErrorKind};
use super::node::JsonKind;
use super::scan::{BYTE_ORDER_MARK, JsonScanner, ScanError, is_space};

/// Whether a text may have more than one value. `false` is certain, without parsing: a second value
/// can only follow a closing bracket, and would be neither a comma, another closing bracket nor the
/// end.
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

/// The ranges of the values of a text. Space between values is required only around numbers,
/// `true`, `false` and `null`. Byte order marks between values, as from `cat`, are skipped.
///
/// An error is the last item, because the start of the next value is unknown.
#[derive(Debug)]
pub struct JsonValues<'a> {
    text: &'a [u8],
    scanner: JsonScanner<'a>,
    at: usize,
    /// End of the previous value, if space must follow.
    word_end: Option<usize>,
    state: ValuesState,
}

#[derive(Debug)]
enum ValuesState {
    Broken(JsonError),
    Reading,
    Ended,
}

impl<'a> JsonValues<'a> {
    /// `text` may have surrounding space and byte order marks.
    pub fn new(text: &'a [u8]) -> Self {
        let (at, state) = match start_of(text) {
            Ok(at) => (at, ValuesState::Reading),
            Err(error) => (0, ValuesState::Broken(error)),
        };
        Self {
            text,
            scanner: JsonScanner::for_parts(text),
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

    fn read(&mut self) -> Result<Range<usize>, ScanError> {
        let before = self.at;
        self.skip_space();
        let node = self.scanner.run_value(self.at)?;
        let is_word = !matches!(
            node.kind(),
            JsonKind::Object | JsonKind::Array | JsonKind::String
        );
        let touches = before == self.at && before > 0;
        if touches && (is_word || self.word_end == Some(before)) {
            return Err(ScanError(JsonErrorKind::Trailing, self.at));
        }
        let range = node.start as usize..node.end as usize;
        self.at = range.end;
        self.word_end = is_word.then_some(range.end);
        Ok(range)
    }
}

impl Iterator for JsonValues<'_> {
    type Item = Result<Range<usize>, JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.state, ValuesState::Ended) {
            ValuesState::Ended => return None,
            ValuesState::Broken(error) => return Some(Err(error)),
            ValuesState::Reading => {}
        }
        let end = self.at;
        self.skip_space();
        if self.at == self.text.len() {
            return None;
        }
        self.at = end;
        Some(match self.read() {
            Ok(range) => {
                self.state = ValuesState::Reading;
                Ok(range)
            }
            Err(ScanError(kind, offset)) => Err(JsonError::at(kind, self.text, offset)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Result<Vec<&str>, (JsonErrorKind, usize)> {
        let values = JsonValues::new(text.as_bytes());
        let texts = values.map(|v| v.map(|range| text.get(range).unwrap_or_default()));
        texts.map(|t| t.map_err(|e| (e.kind, e.offset))).collect()
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
    fn errors_have_the_offset_at_which_the_sequence_ends() {
        for (text, problem, offset) in [
            ("{}{\"i\":", JsonErrorKind::End, 7),
            ("{},{}", JsonErrorKind::Value, 2),
            ("{}}", JsonErrorKind::Value, 2),
            ("{} x", JsonErrorKind::Value, 3),
            ("10-20", JsonErrorKind::Trailing, 2),
            ("truefalse", JsonErrorKind::Trailing, 4),
            ("{}1", JsonErrorKind::Trailing, 2),
            ("1{}", JsonErrorKind::Trailing, 1),
            ("{\"a\":1}{a:1}", JsonErrorKind::Key, 8),
        ] {
            assert_eq!(texts(text), Err((problem, offset)), "{text}");
        }
        let broken: Vec<_> = JsonValues::new(b"{}\xFF").collect();
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].as_ref().unwrap_err().kind, JsonErrorKind::Utf8);
    }

    #[test]
    fn single_values_are_recognized_without_parsing() {
        for one in [
            "{}",
            " {\"a\":[1,{\"b\":2} , 3] } ",
            "[[1],[2]]",
            "{\"a\":\"}, {\"}",
            // Invalid JSON, but not several values.
            "{\"a\":1",
            "{a}",
        ] {
            assert!(!may_hold_several(one.as_bytes()), "{one}");
        }
        // A string can cause a false positive.
        assert!(may_hold_several(b"{\"a\":\"}{\"}"));
    }
}
