//! Syntax tree of JSONPath (RFC 9535, section 2).

use super::iregexp::CompiledPattern;
use super::step::PathStep;

/// A query: `$…`, or `@…` within a filter.
#[derive(Clone, Debug)]
pub(super) struct PathQuery {
    /// Starts at the document; otherwise at the current value of a filter.
    pub(super) from_root: bool,
    pub(super) segments: Vec<QuerySegment>,
    /// Steps, if the query can select only one value.
    pub(super) singular: Option<Vec<PathStep>>,
}

#[derive(Clone, Debug)]
pub(super) struct QuerySegment {
    /// Applies to the value and all its descendants.
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

/// A logical expression of a filter.
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
        /// Matches the whole text instead of a part.
        is_whole: bool,
    },
}

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

/// An operand of a comparison or function.
#[derive(Clone, Debug)]
pub(super) enum FilterOperand {
    Null,
    Bool(bool),
    /// The text of the number, for exact comparison.
    Number(Box<[u8]>),
    Text(Box<[u8]>),
    /// A singular query.
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
