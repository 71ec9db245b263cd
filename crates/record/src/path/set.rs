//! Lookup of many paths in one pass.

use std::collections::HashMap;
use std::sync::Arc;

use super::eval::QueryEvaluator;
use super::query::PathQuery;
use super::step::{PathStep, key_of};
use super::step_counter::TooCostly;
use super::{CompiledPath, PathPlan, PathSelection};
use crate::json::{JsonDocument, JsonKind, JsonNodeId};

/// A set of paths. Paths to one value are found in one pass over the document, which compares each
/// key with the steps that can follow and ends when all paths are found.
#[derive(Clone, Debug)]
pub struct PathSet {
    tree: Vec<TreeNode>,
    /// Paths that can select many values.
    queries: Vec<Arc<PathQuery>>,
    /// Ends in the order of the paths.
    ends: Vec<PathEnd>,
}

#[derive(Clone, Copy, Debug)]
enum PathEnd {
    /// Index in the tree.
    Node(u32),
    /// Index in the queries.
    Query(usize),
}

#[derive(Clone, Debug, Default)]
struct TreeNode {
    /// Steps that can follow, and their nodes.
    children: Vec<(PathStep, u32)>,
    /// Keys of the steps. A key may belong to two steps, one of which is also an index.
    keys: Vec<(Box<[u8]>, Vec<u32>)>,
    /// Positions in `keys`, if there are many.
    by_key: HashMap<Box<[u8]>, usize>,
    /// Indices of the steps, sorted.
    by_index: Vec<(usize, u32)>,
    /// Distances from the end of negative indices.
    from_end: Vec<(usize, u32)>,
}

/// With more keys, lookup is by hash.
const LINEAR_MAX: usize = 12;

/// The values that a [`PathSet`] found in one document.
#[derive(Debug)]
pub struct PathMatches {
    /// The value of each node of the tree, or [`JsonNodeId::NONE`].
    nodes: NodeSlots,
    /// The result of each query.
    lists: Vec<Result<Vec<JsonNodeId>, TooCostly>>,
}

/// Few on the stack, many on the heap.
#[derive(Debug)]
enum NodeSlots {
    Few([JsonNodeId; 48]),
    Many(Vec<JsonNodeId>),
}

impl PathSet {
    /// Builds the set; [`Self::get`] numbers the paths in this order.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a CompiledPath>) -> Self {
        let mut set = Self {
            tree: vec![TreeNode::default()],
            queries: Vec::new(),
            ends: Vec::new(),
        };
        for path in paths {
            let end = match &path.0 {
                PathPlan::Steps(steps) => {
                    let steps = steps.iter();
                    PathEnd::Node(steps.fold(0, |at, step| set.child(at, step)))
                }
                PathPlan::Query(query) => {
                    set.queries.push(Arc::clone(query));
                    PathEnd::Query(set.queries.len() - 1)
                }
            };
            set.ends.push(end);
        }
        set.tree.iter_mut().for_each(TreeNode::index);
        set
    }

    fn child(&mut self, parent: u32, step: &PathStep) -> u32 {
        let children = &self.tree[parent as usize].children;
        if let Some((_, id)) = children.iter().find(|(s, _)| s == step) {
            return *id;
        }
        // Ids past 4 G would need a path of as many bytes.
        let id = u32::try_from(self.tree.len()).unwrap_or(u32::MAX);
        self.tree.push(TreeNode::default());
        self.tree[parent as usize].children.push((step.clone(), id));
        id
    }

    /// Finds all paths. The queries together may take [`steps_max`](super::steps_max).
    pub fn find(&self, document: &JsonDocument) -> PathMatches {
        let mut nodes = if self.tree.len() <= 48 {
            NodeSlots::Few([JsonNodeId::NONE; 48])
        } else {
            NodeSlots::Many(vec![JsonNodeId::NONE; self.tree.len()])
        };
        let mut visitor = DocumentVisitor {
            set: self,
            document,
            found: match &mut nodes {
                NodeSlots::Few(few) => few,
                NodeSlots::Many(many) => many,
            },
            scratch: Vec::new(),
        };
        visitor.visit(0, document.root());
        let mut lists = Vec::new();
        if !self.queries.is_empty() {
            let mut evaluation = QueryEvaluator::new(document);
            let queries = self.queries.iter();
            lists.extend(queries.map(|query| evaluation.run(query)));
        }
        PathMatches { nodes, lists }
    }

    /// The selection of path number `path` in the result of [`Self::find`].
    pub fn get<'f>(
        &self,
        found: &'f PathMatches,
        path: usize,
    ) -> Result<PathSelection<'f>, TooCostly> {
        match self.ends[path] {
            PathEnd::Node(end) => {
                let nodes = match &found.nodes {
                    NodeSlots::Few(few) => &few[..],
                    NodeSlots::Many(many) => many,
                };
                let node = nodes[end as usize];
                Ok(match node == JsonNodeId::NONE {
                    true => PathSelection::Nothing,
                    false => PathSelection::One(node),
                })
            }
            PathEnd::Query(query) => match &found.lists[query] {
                Ok(nodes) if nodes.is_empty() => Ok(PathSelection::Nothing),
                Ok(nodes) => Ok(PathSelection::Many(nodes)),
                Err(error) => Err(*error),
            },
        }
    }

    /// Whether a path can select many values, which takes more time.
    pub fn has_queries(&self) -> bool {
        !self.queries.is_empty()
    }
}

struct DocumentVisitor<'a> {
    set: &'a PathSet,
    document: &'a JsonDocument,
    found: &'a mut [JsonNodeId],
    scratch: Vec<u8>,
}

impl DocumentVisitor<'_> {
    /// Recursion is bounded by the document's depth ([`crate::json::MAX_DEPTH`]).
    fn visit(&mut self, at: u32, value: JsonNodeId) {
        self.found[at as usize] = value;
        let set = self.set;
        let node = &set.tree[at as usize];
        if node.children.is_empty() {
            return;
        }
        match self.document.kind(value) {
            JsonKind::Object => self.visit_object(node, value),
            JsonKind::Array => self.visit_array(node, value),
            _ => {}
        }
    }

    fn visit_object(&mut self, node: &TreeNode, object: JsonNodeId) {
        let document = self.document;
        let mut left = node.keys.len();
        if left == 0 {
            return;
        }
        for (key, value) in document.entries(object) {
            let children = node.children_of(key_of(document, key, &mut self.scratch));
            // Of duplicate keys the first counts.
            let is_first = |c: &u32| self.found[*c as usize] == JsonNodeId::NONE;
            if !children.first().is_some_and(is_first) {
                continue;
            }
            for child in children {
                self.visit(*child, value);
            }
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    fn visit_array(&mut self, node: &TreeNode, array: JsonNodeId) {
        if node.from_end.is_empty() {
            return self.visit_elements(&node.by_index, array);
        }
        let length = self.document.members(array).count();
        let from_end = node.from_end.iter();
        let from_end =
            from_end.filter_map(|(back, child)| Some((length.checked_sub(*back)?, *child)));
        let mut wanted: Vec<_> = node.by_index.iter().copied().chain(from_end).collect();
        wanted.sort_unstable();
        self.visit_elements(&wanted, array);
    }

    fn visit_elements(&mut self, wanted: &[(usize, u32)], array: JsonNodeId) {
        let mut wanted = wanted.iter().peekable();
        for (i, value) in self.document.members(array).enumerate() {
            if wanted.peek().is_none() {
                return;
            }
            // `0` and `00` are different keys and the same index.
            while let Some((_, child)) = wanted.next_if(|(index, _)| *index == i) {
                self.visit(*child, value);
            }
        }
    }
}

impl TreeNode {
    /// Builds the lookups from the children.
    fn index(&mut self) {
        for (step, child) in &self.children {
            if let Some(key) = &step.key {
                match self.keys.iter_mut().find(|(k, _)| k == key) {
                    Some((_, children)) => children.push(*child),
                    None => self.keys.push((key.clone(), vec![*child])),
                }
            }
            match step.index {
                Some(index @ ..0) => {
                    let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
                    self.from_end.push((back, *child));
                }
                Some(index) => {
                    let index = usize::try_from(index).unwrap_or(usize::MAX);
                    self.by_index.push((index, *child));
                }
                None => {}
            }
        }
        self.by_index.sort_unstable();
        if self.keys.len() > LINEAR_MAX {
            let keys = self.keys.iter().enumerate();
            self.by_key = keys.map(|(i, (key, _))| (key.clone(), i)).collect();
        }
    }

    fn children_of(&self, key: &[u8]) -> &[u32] {
        let found = if self.by_key.is_empty() {
            self.keys.iter().find(|(k, _)| &**k == key)
        } else {
            self.by_key.get(key).and_then(|i| self.keys.get(*i))
        };
        found.map_or(&[], |(_, children)| children.as_slice())
    }
}
