//! Links to the next page.

use reqwest::Url;

use crate::http::quote;

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

/// Resolves the URL of the next page against that of the response. It must be on the server of `own`, for
/// which the token is.
pub(super) fn resolve_next(
    own: &Url,
    here: &Url,
    what: &str,
    target: &str,
) -> Result<String, String> {
    let shown = quote(target.as_bytes());
    let mut next = here
        .join(target)
        .map_err(|e| format!("{what} has an invalid URL of the next page ({e}){shown}"))?;
    let other = &next;
    if other.origin() != own.origin() {
        let hint = if other.host_str() == own.host_str() {
            let scheme = other.scheme();
            format!(
                "; if it is the same server, baseUrl has to begin with {scheme}://, or its responses have to use {}://",
                own.scheme()
            )
        } else {
            String::new()
        };
        return Err(format!(
            "{what} points to another server, for which the token is not meant{hint}{shown}"
        ));
    }
    let names_user = !other.username().is_empty() || other.password().is_some();
    if names_user {
        return Err(format!("{what} has a user in the URL of the next page"));
    }
    next.set_fragment(None);
    Ok(next.to_string())
}
