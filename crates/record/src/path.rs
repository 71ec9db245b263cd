//! Paths into a document: `a.b[0].c`.
//!
//! Steps are divided by `.` and `[`; empty steps are skipped, so `a..b`, `.a` and `a.` work; the
//! empty path is the whole document. A step is a key of an object; one made of digits is an index
//! of an array too, so `a[0]` and `a.0` are the same. There is no way to write a key that has `.`
//! or `[` in it; everything else in a key, spaces too, is taken as it is.
//!
//! Of keys that occur more than once in an object the first counts.

use std::collections::HashMap;

use crate::json::{Document, Kind, NodeId, unescape};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: Box<[u8]>,
    /// What it means in an array.
    index: Option<usize>,
}

/// A compiled path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Compiles a path; every text is one.
    #[must_use]
    pub fn compile(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split('.') {
            for (i, step) in part.split('[').enumerate() {
                // What follows a `[` ends with its `]`.
                let step = if i == 0 {
                    step
                } else {
                    step.strip_suffix(']').unwrap_or(step)
                };
                if step.is_empty() {
                    continue;
                }
                let digits = step.bytes().all(|b| b.is_ascii_digit());
                steps.push(Step {
                    key: step.as_bytes().into(),
                    index: if digits { step.parse().ok() } else { None },
                });
            }
        }
        Self { steps }
    }

    /// The value at the path. To look up several paths in one pass, see [`PathSet`].
    #[must_use]
    pub fn find(&self, document: &Document) -> Option<NodeId> {
        let mut at = document.root();
        let mut scratch = Vec::new();
        for step in &self.steps {
            at = match document.kind(at) {
                Kind::Object => {
                    let same = |key| key_of(document, key, &mut scratch) == &*step.key;
                    value_of_first(document, at, same)?
                }
                Kind::Array => document.members(at).nth(step.index?)?,
                _ => return None,
            };
        }
        Some(at)
    }
}

fn value_of_first(
    document: &Document,
    object: NodeId,
    mut same: impl FnMut(NodeId) -> bool,
) -> Option<NodeId> {
    document
        .entries(object)
        .find(|(key, _)| same(*key))
        .map(|(_, value)| value)
}

/// A key without its escapes.
fn key_of<'a>(document: &'a Document, key: NodeId, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match document.string(key) {
        (plain, false) => plain,
        (escaped, true) => {
            scratch.clear();
            unescape(escaped, |part| scratch.extend_from_slice(part));
            scratch
        }
    }
}

/// Many paths, looked up together in one pass over the document, however many they are: the walk
/// compares each key it meets with the steps that can follow there, and ends when all are found.
#[derive(Clone, Debug)]
pub struct PathSet {
    tree: Vec<TreeNode>,
    /// The tree's node of each path.
    ends: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct TreeNode {
    /// Steps that can follow, and where they lead.
    children: Vec<(Step, u32)>,
    /// The same by key, when there are many.
    by_key: HashMap<Box<[u8]>, u32>,
    /// The same by index, in its order.
    by_index: Vec<(usize, u32)>,
}

/// More children than this are looked up by hash.
const LINEAR_MAX: usize = 12;

/// Where a [`PathSet`] found its paths in one document.
#[derive(Debug)]
pub struct Found {
    /// For each node of the tree the value there, or [`NodeId::NONE`].
    nodes: Nodes,
}

/// Few on the stack, many on the heap.
#[derive(Debug)]
enum Nodes {
    Few([NodeId; 48]),
    Many(Vec<NodeId>),
}

impl PathSet {
    /// Compiles the paths; [`Found`] numbers them in this order.
    #[must_use]
    pub fn compile<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self {
            tree: vec![TreeNode::default()],
            ends: Vec::new(),
        };
        for path in paths {
            let mut at = 0;
            for step in Path::compile(path).steps {
                at = set.child(at, step);
            }
            set.ends.push(at);
        }
        for node in &mut set.tree {
            node.by_index = node
                .children
                .iter()
                .filter_map(|(step, child)| Some((step.index?, *child)))
                .collect();
            node.by_index.sort_unstable();
            if node.children.len() > LINEAR_MAX {
                let keys = node.children.iter();
                node.by_key = keys.map(|(step, id)| (step.key.clone(), *id)).collect();
            }
        }
        set
    }

    fn child(&mut self, parent: u32, step: Step) -> u32 {
        let children = &self.tree[parent as usize].children;
        if let Some((_, id)) = children.iter().find(|(s, _)| *s == step) {
            return *id;
        }
        // A mapping has at most 100 columns; ids past 4 G would need a path of as many bytes.
        let id = u32::try_from(self.tree.len()).unwrap_or(u32::MAX);
        self.tree.push(TreeNode::default());
        self.tree[parent as usize].children.push((step, id));
        id
    }

    /// Looks all paths up.
    #[must_use]
    pub fn find(&self, document: &Document) -> Found {
        let mut nodes = if self.tree.len() <= 48 {
            Nodes::Few([NodeId::NONE; 48])
        } else {
            Nodes::Many(vec![NodeId::NONE; self.tree.len()])
        };
        let mut walk = Walk {
            set: self,
            document,
            found: match &mut nodes {
                Nodes::Few(few) => few,
                Nodes::Many(many) => many,
            },
            scratch: Vec::new(),
        };
        walk.visit(0, document.root());
        Found { nodes }
    }

    /// The value of path number `path` in what [`Self::find`] gave, `None` when it is missing.
    #[must_use]
    pub fn get(&self, found: &Found, path: usize) -> Option<NodeId> {
        let nodes = match &found.nodes {
            Nodes::Few(few) => &few[..],
            Nodes::Many(many) => many,
        };
        let node = nodes[self.ends[path] as usize];
        (node != NodeId::NONE).then_some(node)
    }
}

struct Walk<'a> {
    set: &'a PathSet,
    document: &'a Document,
    found: &'a mut [NodeId],
    scratch: Vec<u8>,
}

impl Walk<'_> {
    /// Recursion is bounded by the document's depth ([`crate::json::MAX_DEPTH`]).
    fn visit(&mut self, at: u32, value: NodeId) {
        self.found[at as usize] = value;
        let set = self.set;
        let node = &set.tree[at as usize];
        if node.children.is_empty() {
            return;
        }
        match self.document.kind(value) {
            Kind::Object => self.visit_object(node, value),
            Kind::Array => self.visit_array(node, value),
            _ => {}
        }
    }

    fn visit_object(&mut self, node: &TreeNode, object: NodeId) {
        let document = self.document;
        let mut left = node.children.len();
        for (key, value) in document.entries(object) {
            let Some(child) = node.child(key_of(document, key, &mut self.scratch)) else {
                continue;
            };
            // A second key of the same name: the first counts.
            if self.found[child as usize] != NodeId::NONE {
                continue;
            }
            self.visit(child, value);
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    fn visit_array(&mut self, node: &TreeNode, array: NodeId) {
        let mut wanted = node.by_index.iter().peekable();
        for (i, value) in self.document.members(array).enumerate() {
            // `0` and `00` are different keys and the same index.
            while let Some((_, child)) = wanted.next_if(|(index, _)| *index == i) {
                self.visit(*child, value);
            }
            if wanted.peek().is_none() {
                return;
            }
        }
    }
}

impl TreeNode {
    fn child(&self, key: &[u8]) -> Option<u32> {
        if self.by_key.is_empty() {
            let mut children = self.children.iter();
            return children.find(|(s, _)| &*s.key == key).map(|(_, id)| *id);
        }
        self.by_key.get(key).copied()
    }
}
