//! The plain form of paths, with quoted keys in brackets, and the errors of paths.

use super::error::{PathError, shown};
use super::literal;
use super::step::PathStep;
use forebay_model::limits::PATH_CHARS_MAX;

/// The quoted form of a key, `["utm.source"]`, which every key has.
pub fn quoted(key: &str) -> String {
    let mut out = b"[".to_vec();
    crate::json::write_string(key, &mut out);
    out.push(b']');
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn check_length(text: &str) -> Result<(), PathError> {
    if text.chars().count() <= PATH_CHARS_MAX {
        return Ok(());
    }
    Err(PathError {
        at: PATH_CHARS_MAX + 1,
        message: format!("a path has at most {PATH_CHARS_MAX} characters"),
    })
}

/// Parses a path that does not start with `$`.
pub(super) fn steps(text: &str) -> Result<Vec<PathStep>, PathError> {
    check_ends(text)?;
    let mut steps = Vec::new();
    let mut at = 0;
    let mut behind_bracket = false;
    while let Some(c) = char_at(text, at) {
        match c {
            '.' => {
                at += 1;
                behind_bracket = false;
            }
            '[' => {
                let (step, end) = bracket(text, at)?;
                steps.push(step);
                at = end;
                behind_bracket = true;
            }
            ']' => {
                return Err(PathError::new(
                    text,
                    at,
                    "this ] closes no [; a key with brackets is written in quotes, like [\"a]\"]",
                ));
            }
            _ if behind_bracket => {
                let message = format!("found {c:?} behind a ], expected . or [ or the end");
                return Err(PathError::new(text, at, message));
            }
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                let length = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                let key = rest.get(..length).unwrap_or_default();
                check_key(text, at, key)?;
                steps.push(unquoted(key));
                at += length;
            }
        }
    }
    Ok(steps)
}

fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..).and_then(|rest| rest.chars().next())
}

/// Rejects texts that look like another path syntax, and surrounding space.
fn check_ends(text: &str) -> Result<(), PathError> {
    if text.starts_with('/') || text.starts_with("#/") {
        let message = format!(
            "a path is not written with slashes: keys are divided by dots, like a.b; a key that begins so is written {}",
            quoted(text)
        );
        return Err(PathError::new(text, 0, message));
    }
    let (begins, ends) = (
        text.starts_with(char::is_whitespace),
        text.ends_with(char::is_whitespace),
    );
    if begins || ends {
        let last = text.chars().next_back().map_or(0, char::len_utf8);
        let offset = if begins { 0 } else { text.len() - last };
        let message = "a path neither begins nor ends with a space; a key that does is written in quotes, like [\" a\"]";
        return Err(PathError::new(text, offset, message));
    }
    Ok(())
}

/// Rejects unquoted keys that look like another syntax.
fn check_key(text: &str, at: usize, key: &str) -> Result<(), PathError> {
    let wrong = |offset: usize, why: &str| {
        let quoted = quoted(key);
        let message = format!("{why}; if it is a key, it is written {quoted}");
        Err(PathError::new(text, at + offset, message))
    };
    match key {
        "*" => {
            return wrong(
                0,
                "* selects nothing in a plain path: JSONPath begins with $, like $.a[*]",
            );
        }
        "@" => {
            return wrong(
                0,
                "@ has no meaning in a plain path: begin it with a key, like a.b",
            );
        }
        _ => {}
    }
    if key.starts_with(['"', '\'']) {
        let message = "a quoted key stands in brackets, like [\"a.b\"]";
        return Err(PathError::new(text, at, message));
    }
    if let Some(offset) = key.find('\\') {
        let message = "there is no escape with a backslash outside of quotes; a key with a dot or any other character is written in quotes, like [\"a.b\"]";
        return Err(PathError::new(text, at + offset, message));
    }
    match key.find(char::is_control) {
        Some(offset) => wrong(offset, "a control character"),
        None => Ok(()),
    }
}

/// A key that may also be an index.
fn unquoted(key: &str) -> PathStep {
    let digits = key.bytes().all(|b| b.is_ascii_digit());
    PathStep {
        key: Some(key.as_bytes().into()),
        index: if digits { key.parse().ok() } else { None },
    }
}

/// Parses the bracket at `open`; returns its step and its end.
fn bracket(text: &str, open: usize) -> Result<(PathStep, usize), PathError> {
    let inside = text.get(open + 1..).unwrap_or_default();
    let start = open + 1 + (inside.len() - inside.trim_start_matches(literal::is_blank).len());
    if matches!(char_at(text, start), Some('"' | '\'')) {
        let (key, end) = literal::string(text, start)?;
        let rest = text.get(end..).unwrap_or_default();
        let close = end + (rest.len() - rest.trim_start_matches(literal::is_blank).len());
        return match char_at(text, close) {
            Some(']') => {
                let key = Some(key.into_bytes().into());
                Ok((PathStep { key, index: None }, close + 1))
            }
            found => {
                let message = format!("expected ] behind the quoted key, found {}", shown(found));
                Err(PathError::new(text, close, message))
            }
        };
    }
    let Some(length) = inside.find(']') else {
        return Err(PathError::new(text, open, "this [ is not closed by a ]"));
    };
    let key = inside.get(..length).unwrap_or_default();
    let allowed =
        "brackets in a plain path need an index or a key in quotes, like [0] or [\"a.b\"]";
    let is_special = |c: char| c.is_control() || "*?:,@$()<>=!&|\"'\\.[".contains(c);
    let is_number = key.starts_with(['-', '+']) && key.len() > 1;
    if key.is_empty() || key.trim() != key || is_number || key.contains(is_special) {
        let message = format!("{allowed}; JSONPath begins with $, like $.a[*] or $.a[-1]");
        return Err(PathError::new(text, open + 1, message));
    }
    Ok((unquoted(key), open + 1 + length + 1))
}
