//! Conversion of a cell's bytes to text, shared by the backends so that they agree.

use std::borrow::Cow;

/// The text of a cell: bytes that are not UTF-8 become U+FFFD (one per maximal invalid sequence),
/// and so does each NUL, as a text column can't hold them. Borrowed if nothing was replaced.
pub(crate) fn clean(cell: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(cell);
    // Cells are small and NULs rare: a plain scan is cheaper than setting up a search.
    if text.as_bytes().contains(&0) {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_no_table_can_store_are_replaced() {
        for fine in ["", "a", "žluťoučký", "\u{fffd}", "\u{1}\t\n\"'\\"] {
            assert!(matches!(clean(fine.as_bytes()), Cow::Borrowed(t) if t == fine));
        }
        for (cell, text) in [
            (b"a\0b\0".as_slice(), "a\u{fffd}b\u{fffd}"),
            (b"\xffx", "\u{fffd}x"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert!(matches!(clean(cell), Cow::Owned(t) if t == text));
        }
    }
}
