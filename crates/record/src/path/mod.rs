//! Paths into a document, in one of three forms.
//!
//! | form | examples | selects |
//! |---|---|---|
//! | plain | `a.b[0].c`, `a.b.0.c` | one value; a step of digits is an array index or an object key |
//! | quoted keys | `a["utm.source"][0]`, `['']` | one value; keys have any characters |
//! | JSONPath (RFC 9535) | `$.a[-1]`, `$.items[*].id`, `$..[?@.n > 1]` | one value, or a list if it can select many |
//!
//! A text that begins with `$` is JSONPath. The plain form skips empty steps (`a..b`, `.a` and `a.`
//! are `a.b` and `a`), as in the service that Forebay is compatible with; the empty path is the
//! whole document. Other texts are rejected with the position of the error ([`PathError`]).
//!
//! With duplicate keys in an object, a key selects the first; wildcards, filters and descendants
//! select all.
//!
//! A path to one value is a list of steps, and [`PathSet`] finds many of them in one pass. A query
//! that can select many values is evaluated by `eval` within a number of steps that grows with the
//! document ([`steps_max`]), so that no query occupies a thread for long.

mod compare;
mod error;
mod eval;
mod iregexp;
mod jsonpath;
mod literal;
mod normalized;
mod plain;
mod query;
mod set;
mod step;
mod step_counter;

use std::sync::Arc;

use crate::json::{JsonDocument, JsonNodeId};
use eval::QueryEvaluator;
use query::PathQuery;

pub use normalized::normalized;
pub use plain::quoted;
pub use set::{PathMatches, PathSet};

pub use error::PathError;
use step::PathStep;
pub use step_counter::{TooCostly, steps_max};

#[derive(Clone, Debug)]
pub struct CompiledPath(PathPlan);

#[derive(Clone, Debug)]
enum PathPlan {
    /// To one value.
    Steps(Vec<PathStep>),
    /// To any number of values.
    Query(Arc<PathQuery>),
}

/// The values that a path selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathSelection<'a> {
    Nothing,
    /// The value of a singular path.
    One(JsonNodeId),
    /// The values of a query, at least one.
    Many(&'a [JsonNodeId]),
}

/// As [`PathSelection`], owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedSelection {
    Nothing,
    One(JsonNodeId),
    Many(Vec<JsonNodeId>),
}

impl CompiledPath {
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

    /// Whether it selects at most one value; otherwise it selects a list.
    pub fn is_singular(&self) -> bool {
        matches!(self.0, PathPlan::Steps(_))
    }

    /// Evaluates the path. For several paths in one pass see [`PathSet`].
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

/// Calls `out` with the parts of a JSON array of the values, without spaces between tokens.
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
