//! Charsets: bodies are converted to UTF-8 on receipt, so that all other code handles UTF-8 only.
//!
//! Labels and tables are those of the WHATWG Encoding Standard: `iso-8859-1` is windows-1252.

use encoding_rs::{DecoderResult, Encoding, ISO_2022_JP, UTF_16BE, UTF_16LE, X_USER_DEFINED};

/// Maximum growth of a byte: one byte of `windows-874` may be three of UTF-8.
pub(crate) const GROWS_TO: u64 = 3;

/// Common labels that are not in the standard.
const ALIASES: [(&str, &str); 8] = [
    ("latin-1", "latin1"),
    ("iso-latin-1", "latin1"),
    ("utf8mb4", "utf-8"),
    ("utf-8-sig", "utf-8"),
    ("cp932", "shift_jis"),
    ("cp936", "gbk"),
    ("cp949", "euc-kr"),
    ("cp950", "big5"),
];

/// How the text of a body is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// Not decoded: no text, or a text that declares its own charset.
    Bytes,
    /// UTF-8, declared or by default. A byte order mark of UTF-16 overrides it.
    #[default]
    Utf8,
    /// Declared as ASCII; read as UTF-8, which many senders mean.
    Ascii,
    /// UTF-16; the byte order comes from its mark, or from its first character, which is ASCII.
    Utf16,
    Other(&'static Encoding),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// Unknown charset: 415.
    #[error(
        "unsupported charset \"{0}\", supported: utf-8, utf-16, iso-8859-1, windows-1252, shift_jis and the others of https://encoding.spec.whatwg.org"
    )]
    Unknown(String),
    /// Invalid text in that charset: 400.
    #[error("the body is not valid {charset} at byte {offset}")]
    Invalid {
        charset: &'static str,
        /// Byte of the body, from 0.
        offset: usize,
    },
    /// Too long as UTF-8: 413.
    #[error("the body is larger than {0} bytes as UTF-8")]
    TooLarge(usize),
}

impl Charset {
    /// Looks up a charset by its label.
    pub fn from_label(label: &str) -> Result<Self, CharsetError> {
        let lower = label.to_ascii_lowercase();
        let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
        let name = alias.map_or(lower.as_str(), |(_, name)| name);
        match name {
            "utf-8" | "utf8" => return Ok(Self::Utf8),
            "us-ascii" | "ascii" | "ansi_x3.4-1968" => return Ok(Self::Ascii),
            "utf-16" | "utf16" | "unicode" | "ucs-2" | "iso-10646-ucs-2" => return Ok(Self::Utf16),
            // The output of file(1) for a body that is no text.
            "binary" => return Ok(Self::Bytes),
            _ => {}
        }
        match Encoding::for_label_no_replacement(name.as_bytes()) {
            Some(encoding) if encoding == encoding_rs::UTF_8 => Ok(Self::Utf8),
            Some(encoding) if encoding != X_USER_DEFINED => Ok(Self::Other(encoding)),
            _ => Err(CharsetError::Unknown(label.to_owned())),
        }
    }

    /// Whether text in this charset may differ from UTF-8.
    pub(crate) fn is_not_utf8(self) -> bool {
        matches!(self, Self::Utf16 | Self::Other(_))
    }

    /// Whether the body needs no decoding. Cheap for common charsets.
    pub(crate) fn is_plain(self, body: &[u8]) -> bool {
        match self {
            Self::Bytes => true,
            Self::Utf8 => !matches!(body, [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..]),
            Self::Ascii => body.is_ascii(),
            Self::Utf16 => body.is_empty(),
            Self::Other(encoding) => {
                body.is_empty() || encoding.is_ascii_compatible() && body.is_ascii()
            }
        }
    }

    /// Charset of the percent-escapes of a form, if it is not UTF-8. In a form in UTF-16 escapes
    /// are UTF-8.
    pub(crate) fn escape_encoding(self) -> Option<&'static Encoding> {
        match self {
            Self::Other(encoding) if encoding != UTF_16LE && encoding != UTF_16BE => Some(encoding),
            _ => None,
        }
    }

    /// Decodes the body to UTF-8 without a byte order mark, at most `max` bytes.
    pub fn decode(self, body: &[u8], max: usize) -> Result<Vec<u8>, CharsetError> {
        let encoding = match self {
            Self::Other(encoding) => encoding,
            Self::Utf16 if body.first() == Some(&0) => UTF_16BE,
            Self::Utf16 => UTF_16LE,
            Self::Bytes | Self::Utf8 | Self::Ascii => encoding_rs::UTF_8,
        };
        let name = match self {
            Self::Ascii => "us-ascii or UTF-8",
            _ => encoding.name(),
        };
        decode(encoding, name, body, max)
    }
}

fn decode(
    encoding: &'static Encoding,
    charset: &'static str,
    body: &[u8],
    max: usize,
) -> Result<Vec<u8>, CharsetError> {
    let mut decoder = encoding.new_decoder();
    let mut out = Vec::with_capacity(body.len().min(max));
    let mut buffer = [0; 8192];
    let mut read = 0;
    loop {
        let rest = body.get(read..).unwrap_or_default();
        let (result, taken, made) =
            decoder.decode_to_utf8_without_replacement(rest, &mut buffer, true);
        read += taken;
        if out.len() + made > max {
            return Err(CharsetError::TooLarge(max));
        }
        out.extend_from_slice(&buffer[..made]);
        match result {
            DecoderResult::InputEmpty => return Ok(out),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(bad, behind) => {
                let offset = read.saturating_sub(usize::from(bad) + usize::from(behind));
                return Err(CharsetError::Invalid { charset, offset });
            }
        }
    }
}

/// Decodes a piece of a text, such as a field of a form; `None` if it is invalid in that charset.
pub(crate) fn decode_piece(encoding: &'static Encoding, bytes: &[u8]) -> Option<String> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    Some(text.into_owned())
}

/// Whether a byte may mean something else than its ASCII character.
pub(crate) fn is_special(encoding: &'static Encoding, byte: u8) -> bool {
    // The escape that switches to another character set.
    byte >= 0x80 || encoding == ISO_2022_JP && byte == 0x1B
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(label: &str, body: &[u8]) -> Result<String, CharsetError> {
        let charset = Charset::from_label(label)?;
        let out = charset.decode(body, 1000)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn texts_are_decoded_to_utf_8() {
        for (label, body, wanted) in [
            ("iso-8859-1", &b"J\xF6rg \x80"[..], "Jörg €"),
            ("Windows-1252", b"\x93x\x94", "“x”"),
            ("iso-8859-15", b"\xA4", "€"),
            ("windows-1250", b"\xB3\xF3d\xBC", "łódĽ"),
            ("koi8-r", b"\xF0\xD2", "Пр"),
            ("shift_jis", b"\x83A\\", "ア\\"),
            ("euc-jp", b"\xA4\xA2", "あ"),
            ("gb18030", b"\xC4\xE3", "你"),
            ("big5", b"\xA7A", "你"),
            ("iso-2022-jp", b"\x1B$B$\"\x1B(B", "あ"),
            ("utf-16", b"\xFF\xFE{\0}\0", "{}"),
            ("utf-16", b"\xFE\xFF\0{\0}", "{}"),
            ("utf-16", b"{\0}\0", "{}"),
            ("utf-16", b"\0{\0}", "{}"),
            ("utf-16be", b"\xD8\x3D\xDE\x00", "😀"),
            ("utf-16le", b"\xFF\xFEa\0", "a"),
            ("utf-8", b"\xFF\xFEa\0", "a"),
            ("us-ascii", "é".as_bytes(), "é"),
            ("latin-1", b"\xEF\xBB\xBF\xC3\xA9", "é"),
        ] {
            assert_eq!(decoded(label, body).as_deref(), Ok(wanted), "{label}");
        }
    }

    #[test]
    fn errors_name_the_charset_and_the_offset() {
        for (label, body, charset, offset) in [
            ("shift_jis", &b"ab\x83"[..], "Shift_JIS", 2),
            ("utf-16", b"a\0b", "UTF-16LE", 2),
            ("utf-16le", b"a\0\x00\xD8b\0", "UTF-16LE", 2),
            ("us-ascii", b"ab\xE9c", "us-ascii or UTF-8", 2),
            ("euc-kr", b"a\xFF", "EUC-KR", 1),
        ] {
            let invalid = CharsetError::Invalid { charset, offset };
            assert_eq!(decoded(label, body), Err(invalid), "{label}");
        }
        for label in [
            "utf-7",
            "utf-32",
            "cp437",
            "hz-gb-2312",
            "x-user-defined",
            "klingon",
        ] {
            assert_eq!(
                decoded(label, b""),
                Err(CharsetError::Unknown(label.to_owned()))
            );
        }
        let windows = Charset::from_label("windows-1252").unwrap();
        assert_eq!(
            windows.decode(b"\xE9\xE9", 3),
            Err(CharsetError::TooLarge(3))
        );
        assert_eq!(windows.decode(b"\xE9\xE9", 4), Ok("éé".into()));
    }

    #[test]
    fn plain_bodies_need_no_decoding() {
        let windows = Charset::from_label("cp1252").unwrap();
        assert!(windows.is_plain(b"{\"a\":1}") && !windows.is_plain(b"\xE9"));
        assert!(Charset::Utf8.is_plain(b"\xE9") && !Charset::Utf8.is_plain(b"\xFF\xFE"));
        assert!(!Charset::Utf16.is_plain(b"ab") && Charset::Bytes.is_plain(b"\xFE\xFF"));
        let japanese = Charset::from_label("iso-2022-jp").unwrap();
        assert!(!japanese.is_plain(b"\x1B$B"));
    }
}
