//! Detects the encoding of a file: JSON Lines files are UTF-8.

/// Bytes that are needed to detect the encoding.
pub(super) const ENCODING_BYTES: usize = 4;

/// The name of an encoding other than UTF-8, detected by the byte order mark or by NULs that JSON does not
/// have.
pub(super) fn encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [a, 0, 0, b, ..] if (*a == 0) != (*b == 0) => Some("UTF-32"),
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a != 0 && *b != 0 => Some("UTF-16"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_detected_by_the_first_bytes() {
        for (bytes, name) in [
            (&b"\xff\xfe{\0"[..], Some("UTF-16")),
            (b"\xfe\xff\0{", Some("UTF-16")),
            (b"\xff\xfe", Some("UTF-16")),
            (b"{\0\"\0", Some("UTF-16")),
            (b"\0{\0\"", Some("UTF-16")),
            (b"\xff\xfe\0\0{\0\0\0", Some("UTF-32")),
            (b"{\0\0\0", Some("UTF-32")),
            (b"\0\0\0{", Some("UTF-32")),
            (b"{\"a\":1}", None),
            (b"\xef\xbb\xbf{}", None),
            (b"{}", None),
            (b"\0\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(encoding(bytes), name, "{bytes:?}");
        }
    }
}
