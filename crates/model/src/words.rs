//! Texts for people: counted nouns, and bounded texts of other systems.

/// Maximum characters of another system's text in errors and log lines.
pub const SHORT_MAX: usize = 400;

/// `1 worker`, `3 workers`, `2 entries`.
pub fn counted(count: impl TryInto<u64>, one: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 {
        return format!("1 {one}");
    }
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{count} {stem}ies"),
        _ if one.ends_with(['s', 'x']) || one.ends_with("ch") => format!("{count} {one}es"),
        _ => format!("{count} {one}s"),
    }
}

/// Shortens a text of another system for a log line: at most [`SHORT_MAX`] characters, an ellipsis
/// where text was cut, and no line break.
pub fn short(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut chars = text.trim().chars().map(plain);
    let mut short: String = chars.by_ref().take(SHORT_MAX).collect();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1_u32, "worker"), "1 worker");
        assert_eq!(counted(0_usize, "worker"), "0 workers");
        assert_eq!(counted(2_u64, "entry"), "2 entries");
        assert_eq!(counted(2_u64, "day"), "2 days");
        assert_eq!(counted(3_i32, "batch"), "3 batches");
    }

    #[test]
    fn texts_are_short_and_on_one_line() {
        assert_eq!(short(" a\nb\u{1b}c "), "a b c");
        assert_eq!(short(&"é".repeat(SHORT_MAX)), "é".repeat(SHORT_MAX));
        let long = short(&"é".repeat(SHORT_MAX + 1));
        assert!(
            long.chars().count() == SHORT_MAX && long.ends_with("é…"),
            "{long}"
        );
    }
}
