//! The native functions of templates.
//!
//! | call | returns |
//! |---|---|
//! | `Body()` | the parsed body |
//! | `Body(path)`, `Body(path, default)` | the value at the path; without a default a missing one is an error |
//! | `BodyAll(name)` | an array of all values of a form field, or of a key of a JSON object |
//! | `BodyStr()` | the body as text, of any content type; bytes that are not UTF-8 become U+FFFD |
//! | `BodyText()`, `BodyText(path)`, `BodyText(path, default)` | the text of a string, or the JSON of another value as sent |
//! | `Header()` | an object of the headers; values of a repeated name are joined |
//! | `Header(name)`, `Header(name, default)` | one header, ignoring letter case; missing as for `Body` |
//! | `HeaderStr()` | lines `Name: value`, sorted |
//! | `Ip()` | the client's address |
//! | `Now()`, `Now(format)` | the time of receipt, UTC |
//!
//! Numbers become float64, as in all of Jsonnet; `BodyText` keeps all digits.

use std::collections::HashMap;

use rsjsonnet_lang::interner::InternedStr;
use rsjsonnet_lang::program::{
    Callbacks, EvalStackTraceItem, ImportError, NativeError, Program, Thunk, Value,
};
use rsjsonnet_lang::span::SpanId;

use super::strftime::{DEFAULT_FORMAT, strftime};
use crate::body::BodyParseError;
use crate::content_type::BodyFormat;
use crate::context::{self, RecordContext};
use crate::error::{RecordErrorKind, TemplateError};
use crate::form;
use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use crate::path::{CompiledPath, OwnedSelection};

/// A native function, and the expression that is bound to its name.
pub(super) struct NativeSignature {
    pub(super) name: &'static str,
    pub(super) params: &'static [&'static str],
    pub(super) wrapper: &'static str,
}

/// In the order of [`super::message::WRAPPER`]. An omitted parameter is passed as a function, which
/// no JSON default can be.
pub(super) const SIGNATURES: &[NativeSignature] = &[
    NativeSignature {
        name: "Body",
        params: &["path", "default"],
        wrapper: r#"local n = std.native("Body"), none = function() null; function(path=none, default=none) n(path, default)"#,
    },
    NativeSignature {
        name: "BodyAll",
        params: &["name"],
        wrapper: r#"std.native("BodyAll")"#,
    },
    NativeSignature {
        name: "BodyStr",
        params: &[],
        wrapper: r#"std.native("BodyStr")"#,
    },
    NativeSignature {
        name: "BodyText",
        params: &["path", "default"],
        wrapper: r#"local n = std.native("BodyText"), none = function() null; function(path=none, default=none) n(path, default)"#,
    },
    NativeSignature {
        name: "Header",
        params: &["name", "default"],
        wrapper: r#"local n = std.native("Header"), none = function() null; function(name=none, default=none) n(name, default)"#,
    },
    NativeSignature {
        name: "HeaderStr",
        params: &[],
        wrapper: r#"std.native("HeaderStr")"#,
    },
    NativeSignature {
        name: "Ip",
        params: &[],
        wrapper: r#"std.native("Ip")"#,
    },
    NativeSignature {
        name: "Now",
        params: &["format"],
        wrapper: r#"local n = std.native("Now"), none = function() null; function(format=none) n(format)"#,
    },
];

/// Replacements for standard functions in which the library deviates from Jsonnet: folds over
/// strings, type checks, and duplicate keys, of which the first counts as in all of Forebay.
pub(super) const STD: NativeSignature = NativeSignature {
    name: "parseJson",
    params: &["str"],
    wrapper: r#"
local base = std, parseJson = std.native("parseJson");
local array(x) = if base.isString(x) then base.stringChars(x) else x;
local boolean(x, name) =
  if base.isBoolean(x) then x else error "std." + name + " takes booleans, not a " + base.type(x);
base {
  foldl(func, arr, init):: base.foldl(func, array(arr), init),
  foldr(func, arr, init):: base.foldr(func, array(arr), init),
  xor(x, y):: boolean(x, "xor") != boolean(y, "xor"),
  xnor(x, y):: boolean(x, "xnor") == boolean(y, "xnor"),
  strReplace(str, from, to)::
    if from == "" then error "std.strReplace: the text to replace is empty"
    else base.strReplace(str, from, to),
  parseJson(str):: parseJson(str),
}"#,
};

/// Cache of compiled paths. Cleared when full, because a template may compute its paths.
#[derive(Debug, Default)]
pub(super) struct PathCache(HashMap<String, CompiledPath>);

const PATHS_MAX: usize = 1024;

impl PathCache {
    fn get(&mut self, path: &str) -> Result<&CompiledPath, TemplateError> {
        if !self.0.contains_key(path) {
            if self.0.len() >= PATHS_MAX {
                self.0.clear();
            }
            let compiled = CompiledPath::compile(path).map_err(|error| {
                TemplateError::program(format!("path \"{path}\" is invalid: {error}"))
            })?;
            self.0.insert(path.to_owned(), compiled);
        }
        let missing = || TemplateError::program(format!("path \"{path}\" is invalid"));
        self.0.get(path).ok_or_else(missing)
    }
}

/// Callbacks of one evaluation.
pub(super) struct NativeFunctions<'a> {
    record: &'a RecordContext,
    paths: &'a mut PathCache,
    /// The error of a failed call, which the evaluator's error can't carry.
    pub(super) failed: Option<TemplateError>,
}

impl<'a> NativeFunctions<'a> {
    pub(super) fn new(record: &'a RecordContext, paths: &'a mut PathCache) -> Self {
        Self {
            record,
            paths,
            failed: None,
        }
    }

    fn call<'p>(
        &mut self,
        program: &mut Program<'p>,
        name: &str,
        args: &[Value<'p>],
    ) -> Result<Value<'p>, TemplateError> {
        let request = self.record.request();
        match (name, args) {
            ("Ip", _) => Ok(Value::string(&request.client_ip.to_canonical().to_string())),
            ("BodyStr", _) => Ok(Value::string(&String::from_utf8_lossy(self.record.body()))),
            ("HeaderStr", _) => Ok(Value::string(&request.headers.lines())),
            ("Now", [format]) => {
                let format = optional(format)?;
                let format = format.as_deref().unwrap_or(DEFAULT_FORMAT);
                let text = strftime(request.received, format);
                let text = text.map_err(|e| TemplateError::program(e.to_string()))?;
                Ok(Value::string(&text))
            }
            ("Header", [name, default]) => self.header(program, name, default),
            ("Body", [path, default]) => self.body(program, path, default, to_value),
            ("BodyAll", [name]) => self.body_all(program, name),
            ("BodyText", [path, default]) => self.body(program, path, default, to_text),
            ("parseJson", [text]) => parse_json(program, text),
            _ => Err(TemplateError::program(format!("unknown function {name}"))),
        }
    }

    fn header<'p>(
        &self,
        program: &mut Program<'p>,
        name: &Value<'p>,
        default: &Value<'p>,
    ) -> Result<Value<'p>, TemplateError> {
        let headers = &self.record.request().headers;
        let Some(name) = optional(name)? else {
            let entries = headers.entries().iter();
            let fields: Vec<_> = entries
                .map(|(name, value)| (program.intern_str(name), Value::string(value)))
                .collect();
            return Ok(program.make_object(&fields));
        };
        match headers.get(&name) {
            Some(value) => Ok(Value::string(value)),
            None if default.is_function() => {
                let message = format!("header \"{name}\" not found");
                Err(TemplateError::program(message))
            }
            None => Ok(default.clone()),
        }
    }

    fn body<'p>(
        &mut self,
        program: &mut Program<'p>,
        path: &Value<'p>,
        default: &Value<'p>,
        read: NodeConverter<'p>,
    ) -> Result<Value<'p>, TemplateError> {
        let path = optional(path)?;
        let document = self.record.document().map_err(|e| TemplateError {
            kind: e.kind(),
            message: e.to_string(),
        })?;
        let Some(path) = path else {
            return read(program, document, document.root());
        };
        let path_text = path;
        let path = self.paths.get(&path_text)?;
        let selected = path.select(document).map_err(|error| TemplateError {
            kind: RecordErrorKind::PathLimit,
            message: format!("path \"{path_text}\" {error}"),
        })?;
        match selected {
            OwnedSelection::One(found) => read(program, document, found),
            OwnedSelection::Many(nodes) => {
                let nodes = nodes.into_iter();
                let items: Result<Vec<_>, _> =
                    nodes.map(|node| read(program, document, node)).collect();
                Ok(program.make_array(&items?))
            }
            OwnedSelection::Nothing if !default.is_function() => Ok(default.clone()),
            OwnedSelection::Nothing if !path.is_singular() => Ok(program.make_array(&[])),
            OwnedSelection::Nothing => {
                let note = context::not_found_hint(self.record);
                let message = format!("path \"{path_text}\" not found in the body{note}");
                Err(TemplateError {
                    kind: RecordErrorKind::PathNotFound,
                    message,
                })
            }
        }
    }
}

impl NativeFunctions<'_> {
    /// All values of a name, including the duplicates that paths ignore.
    fn body_all<'p>(
        &self,
        program: &mut Program<'p>,
        name: &Value<'p>,
    ) -> Result<Value<'p>, TemplateError> {
        let name = optional(name)?.unwrap_or_default();
        let rejected = |e: &BodyParseError| TemplateError {
            kind: e.kind(),
            message: e.to_string(),
        };
        let document = self.record.document().map_err(rejected)?;
        if *self.record.format() == BodyFormat::Form && !document.is_of(self.record.body()) {
            let values = form::all(self.record.body(), &name).map_err(|e| rejected(&e.into()))?;
            let values: Vec<_> = values.iter().map(|v| Value::string(v)).collect();
            return Ok(program.make_array(&values));
        }
        if document.kind(document.root()) != JsonKind::Object {
            return Ok(program.make_array(&[]));
        }
        let entries = document.entries(document.root());
        let same = entries.filter(|(key, _)| with_string(document, *key, |text| text == name));
        let values: Result<Vec<_>, _> = same
            .map(|(_, value)| to_value(program, document, value))
            .collect();
        Ok(program.make_array(&values?))
    }
}

/// A string parameter; `None` if omitted.
fn optional(value: &Value<'_>) -> Result<Option<String>, TemplateError> {
    if value.is_function() {
        return Ok(None);
    }
    match value.to_string() {
        Some(text) => Ok(Some(text)),
        None => Err(TemplateError::program("parameter must be a string")),
    }
}

type NodeConverter<'p> =
    fn(&mut Program<'p>, &JsonDocument, JsonNodeId) -> Result<Value<'p>, TemplateError>;

/// A value of the body as text, with all digits of numbers.
fn to_text<'p>(
    _: &mut Program<'p>,
    document: &JsonDocument,
    at: JsonNodeId,
) -> Result<Value<'p>, TemplateError> {
    if document.kind(at) == JsonKind::String {
        return Ok(with_string(document, at, Value::string));
    }
    let mut text = Vec::new();
    document.compact(at, |part| text.extend_from_slice(part));
    Ok(Value::string(&String::from_utf8_lossy(&text)))
}

fn parse_json<'p>(program: &mut Program<'p>, text: &Value<'p>) -> Result<Value<'p>, TemplateError> {
    let Some(text) = text.to_string() else {
        let message = "std.parseJson takes a string";
        return Err(TemplateError::program(message));
    };
    match JsonDocument::parse(text.into_bytes().into()) {
        Ok(document) => to_value(program, &document, document.root()),
        Err(e) => Err(TemplateError::program(format!(
            "std.parseJson: {} at line {}, character {}",
            e.kind_text().replace("the body", "the text"),
            e.line,
            e.column
        ))),
    }
}

/// A value of the body. Recursion is bounded by the document's depth.
fn to_value<'p>(
    program: &mut Program<'p>,
    document: &JsonDocument,
    at: JsonNodeId,
) -> Result<Value<'p>, TemplateError> {
    Ok(match document.kind(at) {
        JsonKind::Null => Value::null(),
        JsonKind::Bool => Value::bool(document.text(at) == b"true"),
        JsonKind::Number => {
            let text = String::from_utf8_lossy(document.text(at));
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Value::number(number),
                _ => {
                    let message = format!("the number {text} of the body is too large");
                    return Err(TemplateError::program(message));
                }
            }
        }
        JsonKind::String => with_string(document, at, Value::string),
        JsonKind::Array => {
            let members = document.members(at);
            let items: Result<Vec<_>, _> = members
                .map(|item| to_value(program, document, item))
                .collect();
            program.make_array(&items?)
        }
        JsonKind::Object => {
            let mut fields: Vec<(InternedStr<'p>, Value<'p>)> = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for (key, value) in document.entries(at) {
                let key = with_string(document, key, |text| program.intern_str(text));
                // Of duplicate keys the first counts.
                if seen.insert(key) {
                    fields.push((key, to_value(program, document, value)?));
                }
            }
            program.make_object(&fields)
        }
    })
}

fn with_string<R>(document: &JsonDocument, at: JsonNodeId, use_it: impl FnOnce(&str) -> R) -> R {
    match document.string(at) {
        (text, false) => use_it(&String::from_utf8_lossy(text)),
        (text, true) => {
            let mut plain = Vec::with_capacity(text.len());
            unescape(text, |part| plain.extend_from_slice(part));
            use_it(&String::from_utf8_lossy(&plain))
        }
    }
}

impl<'p> Callbacks<'p> for NativeFunctions<'_> {
    fn import(
        &mut self,
        _: &mut Program<'p>,
        _: SpanId,
        _: &str,
    ) -> Result<Thunk<'p>, ImportError> {
        Err(ImportError)
    }

    fn import_str(
        &mut self,
        _: &mut Program<'p>,
        _: SpanId,
        _: &str,
    ) -> Result<String, ImportError> {
        Err(ImportError)
    }

    fn import_bin(
        &mut self,
        _: &mut Program<'p>,
        _: SpanId,
        _: &str,
    ) -> Result<Vec<u8>, ImportError> {
        Err(ImportError)
    }

    fn trace(&mut self, _: &mut Program<'p>, _: &str, _: &[EvalStackTraceItem]) {}

    fn native_call(
        &mut self,
        program: &mut Program<'p>,
        name: InternedStr<'p>,
        args: &[Value<'p>],
    ) -> Result<Value<'p>, NativeError> {
        self.call(program, name.value(), args).map_err(|error| {
            self.failed = Some(error);
            NativeError
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SIGNATURES;

    #[test]
    fn the_documentation_lists_every_function() {
        let page = include_str!("../../../../docs/reference/records.md");
        for signature in SIGNATURES {
            let row = format!("| `{}(", signature.name);
            assert!(page.lines().any(|l| l.starts_with(&row)), "{row}");
        }
    }
}
