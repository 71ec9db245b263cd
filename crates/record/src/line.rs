//! Lines of JSON.
//!
//! A line has one value, or several from programs that write no line ends: [`values`] finds them.
//! [`may_hold_several`] is a cheap check that most lines need no scan.

use std::ops::Range;

use crate::json::{BYTE_ORDER_MARK, JsonError, JsonValues, is_space};

pub use crate::json::may_hold_several;

/// Range of the text of a line, without byte order marks and surrounding space. Empty for a blank
/// line.
pub fn text_of_line(line: &[u8]) -> Range<usize> {
    let mut start = 0;
    loop {
        let rest = &line[start..];
        if rest.first().is_some_and(|b| is_space(*b)) {
            start += 1;
        } else if rest.starts_with(BYTE_ORDER_MARK) {
            start += BYTE_ORDER_MARK.len();
        } else {
            let behind = rest.iter().rev().take_while(|b| is_space(**b)).count();
            return start..line.len() - behind;
        }
    }
}

/// All values of a line in order, or the first error: part of a line is never accepted.
pub fn values(line: &[u8]) -> Result<Vec<Range<usize>>, JsonError> {
    JsonValues::new(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_space_are_trimmed() {
        let text = |line: &'static [u8]| &line[text_of_line(line)];
        assert_eq!(text(b" {} \r"), b"{}");
        assert_eq!(text(b"\xEF\xBB\xBF{}\r"), b"{}");
        assert_eq!(text(b" \xEF\xBB\xBF\t1"), b"1");
        assert_eq!(text(b"\"\xEF\xBB\xBF\""), b"\"\xEF\xBB\xBF\"");
        for blank in [&b""[..], b" \t\r", b"\xEF\xBB\xBF", b"\xEF\xBB\xBF\r"] {
            assert!(text_of_line(blank).is_empty(), "{blank:?}");
        }
        assert_eq!(text(b"\xEF\xBB"), b"\xEF\xBB");
        for no_space in [&b"\x0C"[..], b"\x0B", b"\0", b"\xC2\xA0"] {
            assert_eq!(text_of_line(no_space), 0..no_space.len(), "{no_space:?}");
        }
    }
}
