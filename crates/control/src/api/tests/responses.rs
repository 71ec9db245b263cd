//! Checks every response of the tests against the document.

use http::Method;
use serde_json::Value;

use super::world::Reply;
use crate::api::Api;

/// The operations of the document.
pub(super) struct ResponseChecker {
    paths: Value,
    shared: Value,
}

impl ResponseChecker {
    pub(super) fn of(api: &Api) -> Self {
        let document: Value = serde_json::from_str(api.document()).unwrap();
        Self {
            paths: document["paths"].clone(),
            shared: document["components"]["responses"].clone(),
        }
    }

    /// The operation of a path in the document. Paths without parameters come first.
    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let method = method.as_str().to_ascii_lowercase();
        let templates = self.paths.as_object()?.iter();
        let fits = templates.filter(|(template, _)| fits(template, path));
        let best = fits.min_by_key(|(template, _)| template.matches('{').count());
        best?.1.get(&method)
    }

    /// A response has a documented status; an error has a documented name, and its message matches
    /// the template.
    #[track_caller]
    pub(super) fn check(&self, method: &Method, path: &str, reply: &Reply) {
        let Some(operation) = self.operation(method, path) else {
            return;
        };
        let status = reply.status.as_u16();
        if status == 301 {
            return;
        }
        let response = &operation["responses"][status.to_string()];
        let response = match response["$ref"].as_str() {
            Some(reference) => &self.shared[reference.rsplit('/').next().unwrap()],
            None => response,
        };
        assert!(response.is_object(), "{method} {path}: {reply:?}");
        if status < 400 {
            // No line is a list of lines, too.
            let is_lines = !response["content"]["application/x-ndjson"].is_null();
            let has_no_body = response.get("content").is_none();
            assert!(is_lines || has_no_body == reply.text.is_empty());
            return;
        }
        let body = reply.json();
        let name = body["error"].as_str().unwrap();
        let name = name.trim_start_matches("stream.api.");
        let documented = &response["content"]["application/json"]["examples"][name]["value"];
        assert_eq!(documented["error"], body["error"], "{method} {path}");
        if status < 500 && name != "missingField" {
            let (text, pattern) = (&body["message"], &documented["message"]);
            let (text, pattern) = (text.as_str().unwrap(), pattern.as_str().unwrap());
            assert!(is_made_by(pattern, text), "{text} is not {pattern}");
        }
    }
}

fn fits(template: &str, path: &str) -> bool {
    if let Some((start, "taskId}")) = template.split_once('{') {
        return path.starts_with(start);
    }
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template
            .zip(path)
            .all(|(t, p)| t.starts_with('{') || t == p)
}

/// The text starts like the pattern, up to the first placeholder.
fn is_made_by(pattern: &str, text: &str) -> bool {
    let start = pattern.split('{').next().unwrap_or_default();
    text.starts_with(start)
}
