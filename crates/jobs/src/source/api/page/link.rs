//! The `Link` header.

/// The target with `rel="next"` of a `Link` header: `<a>; rel="prev", <b>; rel="next"`.
pub(super) fn next_of(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let (parameters, more) = match after.find(",<").or_else(|| after.find(", <")) {
            Some(end) => after.split_at(end),
            None => (after, ""),
        };
        let is_next = parameters.split(';').any(|p| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .split_whitespace()
                    .any(|r| r.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = more;
    }
}
