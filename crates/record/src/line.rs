//! Lines of JSON.

use std::ops::Range;

/// The mark that some programs put at the beginning of a file, and `cat` into its middle.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Where the value of a line is: without a byte order mark and the space around it. Empty when the
/// line is blank and says nothing.
#[must_use]
pub fn text_of_line(line: &[u8]) -> Range<usize> {
    let mut rest = line.trim_ascii_start();
    while let Some(behind) = rest.strip_prefix(BYTE_ORDER_MARK) {
        rest = behind.trim_ascii_start();
    }
    let start = line.len() - rest.len();
    start..start + rest.trim_ascii_end().len()
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
    }
}
