//! What a JSONPath text means (RFC 9535, section 2).

use super::PathStep;
use super::iregexp::CompiledPattern;

/// A query: `$…`, or `@…` within a filter.
#[derive(Clone, Debug)]
pub(super) struct PathQuery {
    /// From the document; else from the value that a filter looks at.
    pub(super) from_root: bool,
    pub(super) segments: Vec<QuerySegment>,
    /// Steps of a query that can select only one value.
    pub(super) singular: Option<Vec<PathStep>>,
}

#[derive(Clone, Debug)]
pub(super) struct QuerySegment {
    /// Of the value and everything in it.
    pub(super) is_descendant: bool,
    pub(super) selectors: Vec<QuerySelector>,
}

#[derive(Clone, Debug)]
pub(super) enum QuerySelector {
    Name(Box<[u8]>),
    Wildcard,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(LogicalExpression),
}

/// What is true or false of a value.
#[derive(Clone, Debug)]
pub(super) enum LogicalExpression {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Exists(PathQuery),
    Compare(FilterOperand, ComparisonOperator, FilterOperand),
    /// `match` and `search`.
    Matches {
        subject: FilterOperand,
        pattern: PatternOperand,
        /// The whole text, not a part of it.
        is_whole: bool,
    },
}

/// Where a pattern comes from.
#[derive(Clone, Debug)]
pub(super) enum PatternOperand {
    Literal(CompiledPattern),
    Value(FilterOperand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ComparisonOperator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What has a value, or nothing.
#[derive(Clone, Debug)]
pub(super) enum FilterOperand {
    Null,
    Bool(bool),
    /// The text of a number: numbers of any size compare exactly.
    Number(Box<[u8]>),
    Text(Box<[u8]>),
    /// A query that is singular.
    Node(PathQuery),
    Length(Box<Self>),
    Count(PathQuery),
    Value(PathQuery),
}

impl PathQuery {
    pub(super) fn new(from_root: bool, segments: Vec<QuerySegment>) -> Self {
        let steps: Option<Vec<PathStep>> = segments.iter().map(QuerySegment::step).collect();
        Self {
            from_root,
            singular: steps,
            segments,
        }
    }

    /// Steps of a query that can select only one value.
    pub(super) fn steps(&self) -> Option<Vec<PathStep>> {
        self.singular.clone()
    }
}

impl QuerySegment {
    fn step(&self) -> Option<PathStep> {
        if self.is_descendant {
            return None;
        }
        match self.selectors.as_slice() {
            [QuerySelector::Name(name)] => Some(PathStep {
                key: Some(name.clone()),
                index: None,
            }),
            [QuerySelector::Index(index)] => Some(PathStep {
                key: None,
                index: Some(*index),
            }),
            _ => None,
        }
    }
}
