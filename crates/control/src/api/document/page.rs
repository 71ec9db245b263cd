//! The documentation page: self-contained HTML.

use std::fmt::Write;

use serde_json::Value;

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">
<title>API</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code{font:14px ui-monospace,monospace}
h2{margin-top:2rem;text-transform:capitalize}
details{border-top:1px solid #ddd;padding:.4rem 0}
summary{cursor:pointer}
code,li,p{overflow-wrap:anywhere}
ul{padding-left:1.2rem}
b{display:inline-block;width:4.5rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}details{border-color:#333}a{color:#8bf}}
</style></head><body>
";

pub(super) fn render(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let text = |pointer: &str| escape(document.pointer(pointer));
    // Writing into a string can't fail.
    _ = writeln!(
        page,
        "<h1>{}</h1><p>{}</p><p>Documents: OpenAPI 3 in <a href=\"openapi3.json\">JSON</a> and <a href=\"openapi3.yaml\">YAML</a>, OpenAPI 2 in <a href=\"openapi.json\">JSON</a> and <a href=\"openapi.yaml\">YAML</a>.</p>",
        text("/info/title"),
        text("/info/description"),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        _ = writeln!(
            page,
            "<h2>{}</h2><p>{}</p>",
            escape(tag.get("name")),
            escape(tag.get("description"))
        );
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                if operation["tags"][0] == tag["name"] {
                    write_operation(&mut page, method, path, operation);
                }
            }
        }
    }
    page.push_str("</body></html>\n");
    page
}

fn write_operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    _ = write!(
        page,
        "<details><summary><b>{}</b><code>{}</code><br>{}</summary><p>{}</p><ul>",
        method.to_ascii_uppercase(),
        escape(Some(&Value::from(path))),
        escape(operation.get("summary")),
        escape(operation.get("description")),
    );
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        _ = write!(
            page,
            "<li><code>{}</code> ({}): {}</li>",
            escape(parameter.get("name")),
            escape(parameter.get("in")),
            escape(parameter.get("description")),
        );
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        _ = write!(
            page,
            "<li>{}: {}</li>",
            escape(Some(&Value::from(status.as_str()))),
            escape(response.get("description")),
        );
    }
    page.push_str("</ul></details>\n");
}

fn escape(value: Option<&Value>) -> String {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
