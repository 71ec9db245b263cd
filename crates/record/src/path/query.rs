//! What a JSONPath text means (RFC 9535, section 2).

use super::Step;
use super::iregexp::Pattern;

/// A query: `$…`, or `@…` within a filter.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// From the document; else from the value that a filter looks at.
    pub(super) from_root: bool,
    pub(super) segments: Vec<Segment>,
    /// Steps of a query that can select only one value.
    pub(super) singular: Option<Vec<Step>>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Of the value and everything in it.
    pub(super) is_descendant: bool,
    pub(super) selectors: Vec<Selector>,
}

#[derive(Clone, Debug)]
pub(super) enum Selector {
    Name(Box<[u8]>),
    Wildcard,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(Logical),
}

/// What is true or false of a value.
#[derive(Clone, Debug)]
pub(super) enum Logical {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Exists(Query),
    Compare(Operand, Comparison, Operand),
    /// `match` and `search`.
    Matches {
        subject: Operand,
        pattern: PatternOf,
        /// The whole text, not a part of it.
        is_whole: bool,
    },
}

/// Where a pattern comes from.
#[derive(Clone, Debug)]
pub(super) enum PatternOf {
    Literal(Pattern),
    Value(Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What has a value, or nothing.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Null,
    Bool(bool),
    /// The text of a number: numbers of any size compare exactly.
    Number(Box<[u8]>),
    Text(Box<[u8]>),
    /// A query that is singular.
    Node(Query),
    Length(Box<Self>),
    Count(Query),
    Value(Query),
}

impl Query {
    pub(super) fn new(from_root: bool, segments: Vec<Segment>) -> Self {
        let steps: Option<Vec<Step>> = segments.iter().map(Segment::step).collect();
        Self {
            from_root,
            singular: steps,
            segments,
        }
    }

    /// Steps of a query that can select only one value.
    pub(super) fn steps(&self) -> Option<Vec<Step>> {
        self.singular.clone()
    }
}

impl Segment {
    fn step(&self) -> Option<Step> {
        if self.is_descendant {
            return None;
        }
        match self.selectors.as_slice() {
            [Selector::Name(name)] => Some(Step {
                key: Some(name.clone()),
                index: None,
            }),
            [Selector::Index(index)] => Some(Step {
                key: None,
                index: Some(*index),
            }),
            _ => None,
        }
    }
}
