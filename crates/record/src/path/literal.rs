//! String literals of RFC 9535, also used for quoted keys.

use super::error::{PathError, shown};

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Reads the string literal that starts with the quote at `start`; returns its text and its end.
pub(super) fn string(text: &str, start: usize) -> Result<(String, usize), PathError> {
    let mut chars = text.get(start..).unwrap_or_default().char_indices();
    let Some((_, quote)) = chars.next() else {
        return Err(PathError::new(text, start, "expected a text in quotes"));
    };
    let mut out = String::new();
    while let Some((i, c)) = chars.next() {
        let at = start + i;
        match c {
            c if c == quote => return Ok((out, at + c.len_utf8())),
            '\\' => {
                let (c, length) = escape(text, at, quote)?;
                out.push(c);
                // The backslash is consumed; the rest of an escape is ASCII.
                chars.nth(length - 2);
            }
            c if c < ' ' => {
                let message =
                    "a control character in quotes is written as an escape, like \\n or \\u0000";
                return Err(PathError::new(text, at, message));
            }
            c => out.push(c),
        }
    }
    Err(PathError::new(
        text,
        start,
        format!("this {quote} is not closed"),
    ))
}

/// The character of the escape at `at`, and the length of the escape.
fn escape(text: &str, at: usize, quote: char) -> Result<(char, usize), PathError> {
    let code = text.get(at + 1..).and_then(|rest| rest.chars().next());
    let plain = match code {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some(c @ ('/' | '\\')) => c,
        Some(c) if c == quote => c,
        Some('u') => return unicode(text, at),
        found => {
            let found = shown(found);
            let message = format!(
                "expected one of b f n r t / \\ {quote} u behind a backslash, found {found}"
            );
            return Err(PathError::new(text, at + 1, message));
        }
    };
    Ok((plain, 2))
}

/// The character of `\uXXXX` or `\uXXXX\uXXXX` at `at`.
fn unicode(text: &str, at: usize) -> Result<(char, usize), PathError> {
    let unit = |from: usize| {
        let digits = text.get(from..from + 4)?;
        let all = digits.bytes().all(|b| b.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let wrong = |message: &str| Err(PathError::new(text, at, message));
    match unit(at + 2) {
        None => wrong("expected four hexadecimal digits behind \\u"),
        Some(high @ 0xD800..=0xDBFF) => {
            let low = match text.get(at + 6..at + 8) {
                Some("\\u") => unit(at + 8),
                _ => None,
            };
            let Some(low @ 0xDC00..=0xDFFF) = low else {
                return wrong(
                    "expected the second half of a surrogate pair behind this first one, like \\ud83d\\ude00",
                );
            };
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            match char::from_u32(code) {
                Some(c) => Ok((c, 12)),
                None => wrong("invalid character code"),
            }
        }
        Some(code) => match char::from_u32(code) {
            Some(c) => Ok((c, 6)),
            None => wrong("the second half of a surrogate pair without its first"),
        },
    }
}
