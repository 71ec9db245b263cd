//! Invalid combinations of `paging` and `until`.

use reqwest::Url;
use serde_json::Value;

use super::violations::DefinitionViolations;
use crate::definition::{HttpApi, Paging};

/// Statuses with another meaning than a missing page.
const NO_END: [u16; 5] = [401, 403, 407, 408, 429];

pub(super) fn check(violations: &mut DefinitionViolations, api: &HttpApi) {
    paging(violations, api);
    until(violations, api);
}

fn paging(violations: &mut DefinitionViolations, api: &HttpApi) {
    let params: Vec<(&str, &str)> = match &api.paging {
        Paging::Cursor { cursor, param, end } => {
            if cursor.is_empty() {
                violations.add("source.paging.cursor is empty".to_owned());
            }
            violations.path("source.paging.cursor", cursor);
            for (i, value) in end.iter().enumerate() {
                if matches!(value, Value::Array(_) | Value::Object(_)) {
                    violations.add(format!(
                        "source.paging.end[{i}] has to be a string, a number, true, false or null"
                    ));
                }
            }
            param.iter().map(|p| ("param", p.as_str())).collect()
        }
        Paging::Offset {
            param, size_param, ..
        } => vec![("param", param), ("sizeParam", size_param)],
        Paging::Page { param, .. } => vec![("param", param)],
        Paging::Next { path } => {
            if path.is_empty() {
                violations.add("source.paging.path is empty".to_owned());
            }
            violations.path("source.paging.path", path);
            Vec::new()
        }
        Paging::Link => Vec::new(),
    };
    let base = api.base_url.trim_end_matches('/');
    let first = Url::parse(&format!("{base}{}", api.path)).ok();
    for (i, (key, name)) in params.iter().enumerate() {
        let at = format!("source.paging.{key}");
        if name.is_empty() {
            violations.add(format!("{at} is empty"));
        }
        if params.iter().take(i).any(|(_, other)| other == name) {
            violations.add(format!("{at} is \"{name}\", the same as another parameter"));
        }
        if api.query.contains_key(*name) {
            violations.add(format!(
                "source.query.{name} is set by {at}: remove one of them"
            ));
        }
        let is_in_path = first
            .as_ref()
            .is_some_and(|u| u.query_pairs().any(|(n, _)| n == *name));
        if is_in_path {
            violations.add(format!(
                "source.path has the parameter {name}, which is set by {at}: remove one of them"
            ));
        }
    }
}

fn until(violations: &mut DefinitionViolations, api: &HttpApi) {
    let until = &api.until;
    let (numbered, repeats) = match &api.paging {
        Paging::Offset { repeats, .. } | Paging::Page { repeats, .. } => (true, *repeats),
        Paging::Cursor { .. } | Paging::Next { .. } | Paging::Link => (false, false),
    };
    if until.no_next && numbered {
        violations.add(
            "source.until.noNext never holds: offset and page paging have no next link; use emptyPage, field, status, repeat, pages or records"
                .to_owned(),
        );
    }
    if until.repeat && repeats {
        violations.add("source.until.repeat contradicts source.paging.repeats".to_owned());
    }
    if let Some(field) = &until.field {
        violations.path("source.until.field", field);
    }
    match (&until.field, &until.equals) {
        (None, Some(_)) => {
            violations.add("source.until.equals needs source.until.field".to_owned())
        }
        (Some(field), _) if field.is_empty() => {
            violations.add("source.until.field is empty".to_owned());
        }
        (_, Some(Value::Array(_) | Value::Object(_))) => violations.add(
            "source.until.equals has to be a string, a number, true, false or null".to_owned(),
        ),
        _ => {}
    }
    for (i, status) in until.status.iter().enumerate() {
        if !(400..500).contains(status) || NO_END.contains(status) {
            violations.add(format!(
                "source.until.status[{i}] is {status}, allowed are 400 to 499 except 401, 403, 407, 408 and 429"
            ));
        }
    }
}
