//! Evaluation of queries that can select many values (RFC 9535, 2.3 to 2.5), within bounds.
//!
//! Queries within filters scan the document for each of its values: a short path can take years on
//! a body of a megabyte. So each evaluation has a number of steps and fails with [`TooCostly`]
//! beyond it. A step takes some nanoseconds. Steps are counted instead of time, so that a record
//! always has the same row. Each node of a result costs steps, which also limits memory.

use std::borrow::Cow;

use super::compare::{self, ComparableValue};
use super::iregexp::CompiledPattern;
use super::query::{FilterOperand, LogicalExpression, PathQuery, PatternOperand, QuerySelector};
use super::step::{self, PathStep, key_of};
use super::step_counter::{StepCounter, TooCostly, steps_max};
use crate::json::{JsonDocument, JsonKind, JsonNodeId};

/// Steps per node of a list.
const NODE: u64 = 4;
/// Steps to compile a pattern from the document, per pattern and per byte.
const COMPILE: u64 = 2000;
const COMPILE_BYTE: u64 = 50;
/// Steps to start a search.
const SEARCH: u64 = 16;

/// Evaluates queries on one document.
pub(super) struct QueryEvaluator<'a> {
    document: &'a JsonDocument,
    steps: StepCounter,
    scratch: Vec<u8>,
    /// The last pattern from the document, whether it matches whole texts, and its compiled form.
    pattern: Option<(Vec<u8>, bool, Option<CompiledPattern>)>,
}

impl<'a> QueryEvaluator<'a> {
    pub(super) fn new(document: &'a JsonDocument) -> Self {
        let max = steps_max(document);
        Self {
            document,
            steps: StepCounter {
                remaining: max,
                max,
            },
            scratch: Vec::new(),
            pattern: None,
        }
    }

    /// The selected values in the order of the query, with duplicates.
    pub(super) fn run(&mut self, query: &PathQuery) -> Result<Vec<JsonNodeId>, TooCostly> {
        let nodes = self.nodes(query, self.document.root())?;
        // The caller copies the values.
        for node in &nodes {
            self.steps.take_bytes(self.document.text(*node).len())?;
        }
        Ok(nodes)
    }

    fn start(&self, query: &PathQuery, current: JsonNodeId) -> JsonNodeId {
        match query.from_root {
            true => self.document.root(),
            false => current,
        }
    }

    fn nodes(
        &mut self,
        query: &PathQuery,
        current: JsonNodeId,
    ) -> Result<Vec<JsonNodeId>, TooCostly> {
        if let Some(steps) = &query.singular {
            let node = self.one(steps, self.start(query, current))?;
            return Ok(node.into_iter().collect());
        }
        let mut nodes = vec![self.start(query, current)];
        for segment in &query.segments {
            let mut next = Vec::new();
            for node in nodes {
                self.select(node, &segment.selectors, &mut next)?;
                if segment.is_descendant {
                    for inner in self.document.descendants(node) {
                        self.select(inner, &segment.selectors, &mut next)?;
                    }
                }
            }
            nodes = next;
        }
        Ok(nodes)
    }

    fn one(
        &mut self,
        steps: &[PathStep],
        start: JsonNodeId,
    ) -> Result<Option<JsonNodeId>, TooCostly> {
        let mut at = start;
        for step in steps {
            let found = match (self.document.kind(at), &step.key, step.index) {
                (JsonKind::Object, Some(key), _) => self.member(at, key)?,
                (JsonKind::Array, _, Some(index)) => self.element(at, index)?,
                _ => None,
            };
            match found {
                Some(node) => at = node,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn member(&mut self, object: JsonNodeId, key: &[u8]) -> Result<Option<JsonNodeId>, TooCostly> {
        let mut looked_at = 1;
        let mut found = None;
        for (name, value) in self.document.entries(object) {
            looked_at += 1;
            if key_of(self.document, name, &mut self.scratch) == key {
                found = Some(value);
                break;
            }
        }
        self.steps.take(looked_at)?;
        Ok(found)
    }

    fn element(&mut self, array: JsonNodeId, index: i64) -> Result<Option<JsonNodeId>, TooCostly> {
        // An index from the end needs two passes.
        let members = match usize::try_from(index) {
            Ok(index) => self.document.members(array).take(index).count() as u64,
            Err(_) => self.document.members(array).count() as u64 * 2,
        };
        self.steps.take(members + 1)?;
        Ok(step::element(self.document, array, index))
    }

    /// Appends the members of a value that the selectors select.
    fn select(
        &mut self,
        node: JsonNodeId,
        selectors: &[QuerySelector],
        out: &mut Vec<JsonNodeId>,
    ) -> Result<(), TooCostly> {
        self.steps.take(1)?;
        let kind = self.document.kind(node);
        if !matches!(kind, JsonKind::Array | JsonKind::Object) {
            return Ok(());
        }
        for selector in selectors {
            let found = match (selector, kind) {
                (QuerySelector::Name(name), JsonKind::Object) => self.member(node, name)?,
                (QuerySelector::Index(index), JsonKind::Array) => self.element(node, *index)?,
                (QuerySelector::Slice { start, end, step }, JsonKind::Array) => {
                    self.slice(node, *start, *end, *step, out)?;
                    None
                }
                (QuerySelector::Wildcard, _) => {
                    for value in self.document.values(node) {
                        self.steps.take(NODE)?;
                        out.push(value);
                    }
                    None
                }
                (QuerySelector::Filter(logical), _) => {
                    for value in self.document.values(node) {
                        self.steps.take(1)?;
                        if self.is_true(logical, value)? {
                            self.steps.take(NODE)?;
                            out.push(value);
                        }
                    }
                    None
                }
                _ => None,
            };
            if let Some(found) = found {
                self.steps.take(NODE)?;
                out.push(found);
            }
        }
        Ok(())
    }

    fn slice(
        &mut self,
        array: JsonNodeId,
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
        out: &mut Vec<JsonNodeId>,
    ) -> Result<(), TooCostly> {
        let members: Vec<JsonNodeId> = self.document.members(array).collect();
        self.steps.take(members.len() as u64 * NODE)?;
        // A document has fewer than 4 G nodes.
        let length = i64::try_from(members.len()).unwrap_or(i64::MAX);
        let from_start = |i: i64| if i < 0 { i.saturating_add(length) } else { i };
        let (first, last) = match step {
            0 => return Ok(()),
            1.. => (start.unwrap_or(0), end.unwrap_or(length)),
            _ => (start.unwrap_or(length - 1), end.unwrap_or(-length - 1)),
        };
        let (min, max) = if step > 0 {
            (0, length)
        } else {
            (-1, length - 1)
        };
        let mut at = from_start(first).max(min).min(max);
        let stop = from_start(last).max(min).min(max);
        while if step > 0 { at < stop } else { at > stop } {
            self.steps.take(NODE)?;
            let member = usize::try_from(at).ok().and_then(|i| members.get(i));
            out.extend(member);
            at = at.saturating_add(step);
        }
        Ok(())
    }

    fn is_true(
        &mut self,
        logical: &LogicalExpression,
        current: JsonNodeId,
    ) -> Result<bool, TooCostly> {
        self.steps.take(1)?;
        match logical {
            LogicalExpression::Or(all) => {
                for one in all {
                    if self.is_true(one, current)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            LogicalExpression::And(all) => {
                for one in all {
                    if !self.is_true(one, current)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            LogicalExpression::Not(inner) => Ok(!self.is_true(inner, current)?),
            LogicalExpression::Exists(query) => match &query.singular {
                Some(steps) => {
                    let start = self.start(query, current);
                    Ok(self.one(steps, start)?.is_some())
                }
                None => Ok(!self.nodes(query, current)?.is_empty()),
            },
            LogicalExpression::Compare(left, comparison, right) => {
                let left = self.value(left, current)?;
                let right = self.value(right, current)?;
                compare::holds(self.document, &left, *comparison, &right, &mut self.steps)
            }
            LogicalExpression::Matches {
                subject,
                pattern,
                is_whole,
            } => self.matches(subject, pattern, *is_whole, current),
        }
    }

    fn value<'v>(
        &mut self,
        operand: &'v FilterOperand,
        current: JsonNodeId,
    ) -> Result<ComparableValue<'v>, TooCostly>
    where
        'a: 'v,
    {
        let node = match operand {
            FilterOperand::Null => return Ok(ComparableValue::Null),
            FilterOperand::Bool(value) => return Ok(ComparableValue::Bool(*value)),
            FilterOperand::Number(text) => return Ok(ComparableValue::Number(Cow::Borrowed(text))),
            FilterOperand::Text(text) => return Ok(ComparableValue::Text(Cow::Borrowed(text))),
            FilterOperand::Length(of) => {
                let value = self.value(of, current)?;
                return self.length(&value);
            }
            FilterOperand::Count(query) => {
                let count = self.nodes(query, current)?.len();
                return Ok(number(count));
            }
            FilterOperand::Node(query) => match &query.singular {
                Some(steps) => {
                    let start = self.start(query, current);
                    self.one(steps, start)?
                }
                None => None,
            },
            FilterOperand::Value(query) => match self.nodes(query, current)?.as_slice() {
                [one] => Some(*one),
                _ => None,
            },
        };
        let Some(node) = node else {
            return Ok(ComparableValue::Nothing);
        };
        // A comparison may read all digits of a number or all bytes of a text.
        if matches!(
            self.document.kind(node),
            JsonKind::String | JsonKind::Number
        ) {
            self.steps.take_bytes(self.document.text(node).len())?;
        }
        Ok(ComparableValue::from_node(self.document, node))
    }

    fn length<'v>(
        &mut self,
        value: &ComparableValue<'_>,
    ) -> Result<ComparableValue<'v>, TooCostly> {
        Ok(match value {
            ComparableValue::Text(text) => {
                self.steps.take_bytes(text.len())?;
                // All bytes except continuation bytes of UTF-8.
                number(text.iter().filter(|b| (**b & 0xC0) != 0x80).count())
            }
            ComparableValue::Container(node) => {
                let count = self.document.values(*node).count();
                self.steps.take(count as u64)?;
                number(count)
            }
            _ => ComparableValue::Nothing,
        })
    }

    fn matches(
        &mut self,
        subject: &FilterOperand,
        pattern: &PatternOperand,
        is_whole: bool,
        current: JsonNodeId,
    ) -> Result<bool, TooCostly> {
        let ComparableValue::Text(subject) = self.value(subject, current)? else {
            return Ok(false);
        };
        let pattern = match pattern {
            PatternOperand::Literal(pattern) => pattern,
            PatternOperand::Value(operand) => {
                let ComparableValue::Text(text) = self.value(operand, current)? else {
                    return Ok(false);
                };
                match self.compiled(&text, is_whole)? {
                    Some(pattern) => pattern,
                    None => return Ok(false),
                }
            }
        };
        let cost = pattern.cost().saturating_mul(subject.len() as u64);
        let Ok(text) = std::str::from_utf8(&subject) else {
            return Ok(false);
        };
        let pattern = pattern.clone();
        self.steps.take(SEARCH.saturating_add(cost))?;
        Ok(pattern.is_match(text))
    }

    /// Compiles a pattern from the document; `None` if it is invalid.
    fn compiled(
        &mut self,
        text: &[u8],
        is_whole: bool,
    ) -> Result<Option<&CompiledPattern>, TooCostly> {
        let cached = self.pattern.as_ref();
        if cached.is_none_or(|(known, whole, _)| known != text || *whole != is_whole) {
            let bytes = (text.len() as u64).saturating_mul(COMPILE_BYTE);
            self.steps.take(bytes.saturating_add(COMPILE))?;
            let pattern = CompiledPattern::compile(text, is_whole).ok();
            self.pattern = Some((text.to_vec(), is_whole, pattern));
        }
        Ok(self
            .pattern
            .as_ref()
            .and_then(|(_, _, pattern)| pattern.as_ref()))
    }
}

fn number<'v>(number: usize) -> ComparableValue<'v> {
    ComparableValue::Number(Cow::Owned(number.to_string().into_bytes()))
}
