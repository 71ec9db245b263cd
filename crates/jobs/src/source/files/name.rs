//! File names. A name is a byte string; people and the job's state get a text that is unique per name.

use std::fmt::Write as _;

/// First of the private-use characters that stand for non-UTF-8 bytes in the text that patterns match.
const STRAY_BYTES: u32 = 0x10_ff00;

/// A name for people and the state: `\xE9` for a byte that is not UTF-8, `\n` and the like for control
/// characters, `\\` for a backslash. Different names stay different.
pub(super) fn shown(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '\\' {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            _ = write!(out, "\\x{byte:02X}");
        }
    }
    out
}

/// A name for pattern matching: a byte that is not UTF-8 is a single character.
pub(super) fn comparable(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        out.push_str(chunk.valid());
        let stray = chunk.invalid().iter();
        out.extend(stray.filter_map(|byte| char::from_u32(STRAY_BYTES + u32::from(*byte))));
    }
    out
}

/// The literal name of a pattern step, if it is one: `[*]`, `[?]` and `[[]` are the characters themselves.
pub(super) fn name_of_step(step: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = step;
    while let Some(at) = rest.find(['*', '?', '[']) {
        let (before, wild) = rest.split_at(at);
        name.push_str(before);
        let escaped = ["[*]", "[?]", "[[]"]
            .into_iter()
            .find(|e| wild.starts_with(*e))?;
        name.extend(escaped.chars().nth(1));
        rest = wild.strip_prefix(escaped)?;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_wildcards_is_a_name() {
        for (step, name) in [
            ("a.jsonl", Some("a.jsonl")),
            ("a[*][?]b[[]1]", Some("a*?b[1]")),
            ("a*", None),
            ("[*]*", None),
            ("r[1]", None),
            ("[", None),
            ("", Some("")),
        ] {
            assert_eq!(name_of_step(step).as_deref(), name, "{step}");
        }
    }

    #[test]
    fn similar_names_stay_different() {
        assert_eq!(shown(b"a/b c.jsonl"), "a/b c.jsonl");
        assert_eq!(shown("é#~".as_bytes()), "é#~");
        assert_eq!(shown(b"caf\xe9"), "caf\\xE9");
        assert_ne!(shown(b"caf\xe9"), shown(b"caf\xe8"));
        assert_ne!(shown(b"caf\xe9"), shown("caf\u{fffd}".as_bytes()));
        assert_ne!(shown(b"caf\xe9"), shown(b"caf\\xE9"));
        assert_eq!(shown(b"a\nb"), "a\\nb");
        assert_ne!(shown(b"a\nb"), shown(b"a\\nb"));
        assert_eq!(comparable(b"caf\xe9.jsonl").chars().count(), 10);
    }
}
