//! Lines of JSON.
//!
//! A line is one value, or several one after the other, as programs leave them that write no line
//! ends: [`values`] finds them. Whether a line is looked into at all is up to [`may_hold_several`],
//! which costs next to nothing.

use std::ops::Range;

use crate::json::{JsonError, JsonValues};

pub use crate::json::may_hold_several;

/// The mark that some programs put at the beginning of a file, and `cat` into its middle.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whitespace of JSON (RFC 8259, section 2). A form feed or a vertical tab is none: a line with one
/// is a record that is not JSON, not a blank line.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the value of a line is: without a byte order mark and the space around it. Empty when the
/// line is blank and says nothing.
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

/// The values of a line, in order: either all of them, or where the line stops to be a sequence of
/// values. Half of a line is nothing that anybody has meant to send.
///
/// # Errors
/// The first place at which something else than a value begins, or at which a value is broken.
pub fn values(line: &[u8]) -> Result<Vec<Range<usize>>, JsonError> {
    JsonValues::new(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_space_are_no_text() {
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
