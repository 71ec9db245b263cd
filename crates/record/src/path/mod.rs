//! Paths into a document, in one of three forms.
//!
//! | form | like | what it finds |
//! |---|---|---|
//! | plain | `a.b[0].c`, `a.b.0.c` | one value; a step of digits is an index of an array or a key of an object |
//! | with quoted keys | `a["utm.source"][0]`, `['']` | the same, where a key has any characters |
//! | JSONPath (RFC 9535) | `$.a[-1]`, `$.items[*].id`, `$..[?@.n > 1]` | one value or, where it can select many, a list |
//!
//! A text that begins with `$` is JSONPath. Of the plain form empty steps are skipped (`a..b`, `.a`
//! and `a.` are `a.b` and `a`), as in the service that Forebay is compatible with; the empty path is
//! the whole document. Everything else is refused with its position ([`PathError`]).
//!
//! Of keys that occur more than once in an object a key finds the first; wildcards, filters and
//! descendants see each.
//!
//! A path that can select only one value is a few steps, and many such are looked up in one pass
//! ([`PathSet`]). What can select many is evaluated in `eval`, within a number of steps that
//! grows with the document ([`steps_max`]): no query can keep a thread for long.

mod compare;
mod eval;
mod iregexp;
mod jsonpath;
mod literal;
mod normalized;
mod plain;
mod query;
mod set;

use std::sync::Arc;

use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use eval::QueryEvaluator;
use query::PathQuery;

pub use eval::{TooCostly, steps_max};
pub use normalized::normalized;
pub use plain::{PathError, quoted};
pub use set::{PathMatches, PathSet};

/// One step to one value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PathStep {
    /// What it means in an object.
    key: Option<Box<[u8]>>,
    /// What it means in an array; negative from its end.
    index: Option<i64>,
}

impl PathStep {
    /// Finds its value; `scratch` is for keys with escapes.
    fn find(
        &self,
        document: &JsonDocument,
        at: JsonNodeId,
        scratch: &mut Vec<u8>,
    ) -> Option<JsonNodeId> {
        match document.kind(at) {
            JsonKind::Object => {
                let key = self.key.as_deref()?;
                let mut entries = document.entries(at);
                let entry = entries.find(|(k, _)| key_of(document, *k, scratch) == key);
                entry.map(|(_, value)| value)
            }
            JsonKind::Array => element(document, at, self.index?),
            _ => None,
        }
    }
}

/// The element of an array; a negative index counts from its end.
fn element(document: &JsonDocument, array: JsonNodeId, index: i64) -> Option<JsonNodeId> {
    let index = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => {
            let back = usize::try_from(index.unsigned_abs()).ok()?;
            document.members(array).count().checked_sub(back)?
        }
    };
    document.members(array).nth(index)
}

/// A key without its escapes.
fn key_of<'a>(document: &'a JsonDocument, key: JsonNodeId, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match document.string(key) {
        (plain, false) => plain,
        (escaped, true) => {
            scratch.clear();
            unescape(escaped, |part| scratch.extend_from_slice(part));
            scratch
        }
    }
}

/// A compiled path.
#[derive(Clone, Debug)]
pub struct CompiledPath(PathPlan);

#[derive(Clone, Debug)]
enum PathPlan {
    /// To one value.
    Steps(Vec<PathStep>),
    /// To any number of values.
    Query(Arc<PathQuery>),
}

/// What a path selects of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSelection<'a> {
    /// Nothing.
    Nothing,
    /// The one value that a singular path leads to.
    One(JsonNodeId),
    /// All that a path selects that can select many; at least one.
    Many(&'a [JsonNodeId]),
}

/// The same, by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedSelection {
    /// As [`PathSelection::Nothing`].
    Nothing,
    /// As [`PathSelection::One`].
    One(JsonNodeId),
    /// As [`PathSelection::Many`].
    Many(Vec<JsonNodeId>),
}

impl CompiledPath {
    /// Compiles a path.
    pub fn compile(text: &str) -> Result<Self, PathError> {
        plain::check_length(text)?;
        if !text.starts_with('$') {
            return Ok(Self(PathPlan::Steps(plain::steps(text)?)));
        }
        let query = jsonpath::parse(text)?;
        Ok(Self(match query.steps() {
            Some(steps) => PathPlan::Steps(steps),
            None => PathPlan::Query(Arc::new(query)),
        }))
    }

    /// Whether it leads to at most one value. One that does not gives a list, of whatever length.
    pub fn is_singular(&self) -> bool {
        matches!(self.0, PathPlan::Steps(_))
    }

    /// What it selects. To look up several paths in one pass, see [`PathSet`].
    pub fn select(&self, document: &JsonDocument) -> Result<OwnedSelection, TooCostly> {
        match &self.0 {
            PathPlan::Steps(steps) => Ok(match find(steps, document) {
                Some(node) => OwnedSelection::One(node),
                None => OwnedSelection::Nothing,
            }),
            PathPlan::Query(query) => {
                let nodes = QueryEvaluator::new(document).run(query)?;
                Ok(match nodes.is_empty() {
                    true => OwnedSelection::Nothing,
                    false => OwnedSelection::Many(nodes),
                })
            }
        }
    }
}

fn find(steps: &[PathStep], document: &JsonDocument) -> Option<JsonNodeId> {
    let mut scratch = Vec::new();
    let mut steps = steps.iter();
    steps.try_fold(document.root(), |at, step| {
        step.find(document, at, &mut scratch)
    })
}

/// Calls `out` with the parts of a JSON array of the values, each with its own text but for spaces
/// between tokens.
pub fn list(document: &JsonDocument, nodes: &[JsonNodeId], mut out: impl FnMut(&[u8])) {
    out(b"[");
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            out(b",");
        }
        document.compact(*node, &mut out);
    }
    out(b"]");
}
