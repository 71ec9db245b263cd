//! `application/x-www-form-urlencoded` bodies as JSON documents.
//!
//! `a=1&b[c]=2&d[]=3&d[]=4` is `{"a":"1","b":{"c":"2"},"d":["3","4"]}`: brackets nest, `[]`
//! appends, all leaves are strings, a repeated name takes the last value. A level whose keys are
//! exactly 0, 1, 2, … is an array. The cost is linear in the body's size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use encoding_rs::Encoding;

use crate::charset;
use crate::json::{MAX_DEPTH, write_string};

/// Maximum names and bracketed parts of names in a form: each takes some 200 bytes of memory for as
/// few as three bytes of the body.
pub const FIELDS_MAX: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormError {
    reason: &'static str,
    /// Byte of the body at which the invalid field starts, from 0.
    pub offset: usize,
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the field at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for FormError {}

#[derive(Debug)]
enum FormNode {
    Leaf(String),
    Branch(FormBranch),
}

#[derive(Debug)]
struct FormBranch {
    /// Distinguishes this branch from an earlier one of the same node that a leaf replaced.
    id: usize,
    /// Keys in the order of the body.
    members: Vec<(String, usize)>,
    /// Index of the next `[]`.
    next: usize,
}

/// Nodes in one list; children are found by (branch, key), so that wide levels need no search.
#[derive(Debug, Default)]
struct FormTree {
    nodes: Vec<FormNode>,
    branches: usize,
    children: HashMap<(usize, String), usize>,
}

/// Translates a form into the text of a JSON object. Fails on an invalid percent-escape, a name or
/// value that is not UTF-8, nesting deeper than [`MAX_DEPTH`], or more than [`FIELDS_MAX`] names.
pub fn to_json(body: &[u8]) -> Result<Vec<u8>, FormError> {
    let mut tree = FormTree::default();
    let top = tree.new_branch();
    tree.nodes.push(FormNode::Branch(top));
    for FormField {
        offset,
        name,
        value,
    } in fields(body)
    {
        let at = |reason| FormError { reason, offset };
        let name = decode(name).map_err(at)?;
        let value = decode(value.unwrap_or_default()).map_err(at)?;
        tree.insert(&name, value).map_err(at)?;
    }
    let mut out = Vec::with_capacity(body.len() + body.len() / 2 + 2);
    tree.write(0, &mut out);
    Ok(out)
}

/// One field as sent.
struct FormField<'a> {
    /// Byte of the body at which it starts.
    offset: usize,
    name: &'a [u8],
    /// `None` without an equals sign.
    value: Option<&'a [u8]>,
}

fn fields(body: &[u8]) -> impl Iterator<Item = FormField<'_>> {
    let mut start = 0;
    let fields = body.split(|b| *b == b'&').map(move |field| {
        let offset = start;
        start += field.len() + 1;
        let (name, value) = match memchr::memchr(b'=', field) {
            Some(i) => (&field[..i], Some(&field[i + 1..])),
            None => (field, None),
        };
        FormField {
            offset,
            name,
            value,
        }
    });
    fields.filter(|f| !f.name.is_empty() || f.value.is_some())
}

/// The values of all fields with exactly this name, in order.
pub fn all(body: &[u8], name: &str) -> Result<Vec<String>, FormError> {
    let mut values = Vec::new();
    for field in fields(body) {
        let at = |reason| FormError {
            reason,
            offset: field.offset,
        };
        if decode(field.name).map_err(at)? == name {
            values.push(decode(field.value.unwrap_or_default()).map_err(at)?);
        }
    }
    Ok(values)
}

/// Decoded names and values of a query; an undecodable one as sent. A name without an equals sign
/// has no value.
pub fn query_pairs(query: &str) -> Vec<(String, Option<String>)> {
    let text =
        |part: &[u8]| decode(part).unwrap_or_else(|_| String::from_utf8_lossy(part).into_owned());
    fields(query.as_bytes())
        .map(|f| (text(f.name), f.value.map(text)))
        .collect()
}

/// Converts a form from another charset to UTF-8, at most `max` bytes. Names and values that are
/// the same in both charsets stay byte for byte; so do invalid percent-escapes, which [`to_json`]
/// reports.
pub fn to_utf8(
    body: &[u8],
    encoding: &'static Encoding,
    max: usize,
) -> Result<Vec<u8>, charset::CharsetError> {
    let mut out = Vec::with_capacity(body.len().min(max));
    let mut start = 0;
    for (number, field) in body.split(|b| *b == b'&').enumerate() {
        if number > 0 {
            out.push(b'&');
        }
        for (number, part) in field.splitn(2, |b| *b == b'=').enumerate() {
            if number > 0 {
                out.push(b'=');
            }
            if !part_to_utf8(part, encoding, &mut out) {
                let (charset, offset) = (encoding.name(), start);
                return Err(charset::CharsetError::Invalid { charset, offset });
            }
            if out.len() > max {
                return Err(charset::CharsetError::TooLarge(max));
            }
        }
        start += field.len() + 1;
    }
    Ok(out)
}

/// Begins a change of the character set in ISO-2022-JP.
const ESC: u8 = 0x1b;

/// `false` if the part is invalid in that charset.
fn part_to_utf8(part: &[u8], encoding: &'static Encoding, out: &mut Vec<u8>) -> bool {
    let Ok(plain) = percent_decoded(part) else {
        // The text of ISO-2022-JP has escape sequences, without which `%8` and `b` would be an escape.
        if part.contains(&ESC) {
            return false;
        }
        // Converts the text but not the escapes, so that the later error is in UTF-8.
        let text = charset::decode_piece(encoding, part);
        out.extend_from_slice(text.as_deref().unwrap_or_default().as_bytes());
        return text.is_some();
    };
    if !plain.iter().any(|b| charset::is_special(encoding, *b)) {
        out.extend_from_slice(part);
        return true;
    }
    let Some(text) = charset::decode_piece(encoding, &plain) else {
        return false;
    };
    for byte in text.bytes() {
        match byte {
            b' ' => out.push(b'+'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'[' | b']' => {
                out.push(byte);
            }
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    true
}

fn decode(text: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(percent_decoded(text)?).map_err(|_| "invalid UTF-8")
}

fn percent_decoded(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while let Some(&byte) = text.get(i) {
        i += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(i), digit(i + 1)) else {
                    return Err("a percent sign without two hex digits");
                };
                out.push(u8::try_from(high * 16 + low).unwrap_or(0));
                i += 2;
            }
            _ => out.push(byte),
        }
    }
    Ok(out)
}

/// `a[b][]` is `a`, `b` and an empty key; unbalanced brackets are part of the name.
fn keys(name: &str) -> Vec<&str> {
    let Some((first, mut rest)) = name.split_once('[') else {
        return vec![name];
    };
    let mut keys = vec![first];
    loop {
        let Some((key, behind)) = rest.split_once(']') else {
            return vec![name];
        };
        keys.push(key);
        if behind.is_empty() {
            return keys;
        }
        let Some(next) = behind.strip_prefix('[') else {
            return vec![name];
        };
        rest = next;
    }
}

impl FormTree {
    fn insert(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        let keys = keys(name);
        if keys.len() > MAX_DEPTH {
            return Err("a name nested deeper than 300 levels");
        }
        let mut at = 0;
        for (level, key) in keys.iter().enumerate() {
            at = self.child(at, key, level > 0);
        }
        if self.nodes.len() > FIELDS_MAX + 1 {
            return Err("more than 200000 names");
        }
        self.nodes[at] = FormNode::Leaf(value);
        Ok(())
    }

    fn new_branch(&mut self) -> FormBranch {
        self.branches += 1;
        FormBranch {
            id: self.branches,
            members: Vec::new(),
            next: 0,
        }
    }

    /// The child of that key, created if missing; a leaf becomes a branch.
    fn child(&mut self, parent: usize, key: &str, brackets: bool) -> usize {
        if let FormNode::Leaf(_) = self.nodes[parent] {
            self.nodes[parent] = FormNode::Branch(self.new_branch());
        }
        let fresh = self.nodes.len();
        let FormNode::Branch(branch) = &mut self.nodes[parent] else {
            return parent;
        };
        let key = if brackets && key.is_empty() {
            branch.next.to_string()
        } else {
            key.to_owned()
        };
        if let Ok(index) = key.parse::<usize>() {
            branch.next = branch.next.max(index.saturating_add(1));
        }
        match self.children.entry((branch.id, key)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                branch.members.push((entry.key().1.clone(), fresh));
                entry.insert(fresh);
                self.nodes.push(FormNode::Leaf(String::new()));
                fresh
            }
        }
    }

    fn write(&self, at: usize, out: &mut Vec<u8>) {
        let (members, list) = match &self.nodes[at] {
            FormNode::Leaf(text) => return write_string(text, out),
            FormNode::Branch(branch) => (&branch.members, at != 0 && is_list(&branch.members)),
        };
        out.push(if list { b'[' } else { b'{' });
        for (i, (key, child)) in members.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            if !list {
                write_string(key, out);
                out.push(b':');
            }
            self.write(*child, out);
        }
        out.push(if list { b']' } else { b'}' });
    }
}

fn is_list(members: &[(String, usize)]) -> bool {
    !members.is_empty()
        && members
            .iter()
            .enumerate()
            .all(|(i, (key, _))| key.parse() == Ok(i) && (key == "0" || !key.starts_with('0')))
}
