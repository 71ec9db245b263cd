//! The scanner: checks the grammar and indexes the positions of values.
//!
//! No recursion: an open container stores the index of its parent in the field that later has its
//! `next` index, so depth costs only a counter.

use super::MAX_DEPTH;
use super::error::JsonErrorKind;
use super::node::{JsonKind, JsonNode};

/// Some programs put it at the start of a file; `cat` then puts it in the middle.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// No parent: the value is the root.
const ROOT: u32 = u32::MAX;

/// Kind and offset of an error.
pub(super) struct ScanError(pub(super) JsonErrorKind, pub(super) usize);

enum ScanStep {
    Value,
    Done,
}

#[derive(Debug)]
pub(super) struct JsonScanner<'a> {
    text: &'a [u8],
    pos: usize,
    nodes: Vec<JsonNode>,
    /// The innermost open container.
    parent: u32,
    depth: usize,
    /// Spaces skipped so far: a container in which the count grew needs compacting.
    spaces: u32,
}

impl<'a> JsonScanner<'a> {
    /// `text` is valid UTF-8 and shorter than 4 GiB.
    pub(super) fn new(text: &'a [u8]) -> Self {
        // Event records have about one node per eight bytes.
        Self::with_nodes(text, Vec::with_capacity(text.len() / 8 + 4))
    }

    /// As [`Self::new`], indexing only one value at a time.
    pub(super) fn for_parts(text: &'a [u8]) -> Self {
        Self::with_nodes(text, Vec::new())
    }

    fn with_nodes(text: &'a [u8], nodes: Vec<JsonNode>) -> Self {
        Self {
            text,
            pos: 0,
            nodes,
            parent: ROOT,
            depth: 0,
            spaces: 0,
        }
    }

    pub(super) fn run(mut self, start: usize) -> Result<Vec<JsonNode>, ScanError> {
        self.pos = start;
        self.skip_space();
        if self.pos == self.text.len() {
            return Err(self.stop(JsonErrorKind::Empty));
        }
        loop {
            self.value()?;
            if let ScanStep::Done = self.after_value()? {
                self.at_end()?;
                return Ok(self.nodes);
            }
        }
    }

    /// Reads one value at `start`, ignoring what follows.
    pub(super) fn run_value(&mut self, start: usize) -> Result<JsonNode, ScanError> {
        self.nodes.clear();
        (self.parent, self.depth, self.pos) = (ROOT, 0, start);
        loop {
            self.value()?;
            if let ScanStep::Done = self.after_value()? {
                return Ok(self.nodes[0]);
            }
        }
    }

    /// Fails if text follows the value.
    fn at_end(&self) -> Result<(), ScanError> {
        if self.pos < self.text.len() {
            return Err(self.stop(JsonErrorKind::Trailing));
        }
        Ok(())
    }

    /// As [`super::document::elements`].
    pub(super) fn run_elements(
        mut self,
        start: usize,
        mut take: impl FnMut(u32, u32) -> bool,
    ) -> Result<bool, ScanError> {
        self.pos = start;
        self.skip_space();
        match self.peek() {
            b'[' => {}
            _ if self.pos == self.text.len() => return Err(self.stop(JsonErrorKind::Empty)),
            _ => return Err(ScanError(JsonErrorKind::NotAnArray, self.pos)),
        }
        loop {
            self.value()?;
            let next = self.after_value()?;
            if self.depth > 1 {
                continue;
            }
            if let ScanStep::Done = next {
                self.at_end()?;
            }
            // Node 0 is the array, node 1 the element that has ended.
            if let Some(element) = self.nodes.get(1)
                && !take(element.start, element.end)
            {
                return Ok(false);
            }
            if let ScanStep::Done = next {
                return Ok(true);
            }
            self.nodes.truncate(1);
        }
    }

    fn stop(&self, kind: JsonErrorKind) -> ScanError {
        if self.pos >= self.text.len() && kind != JsonErrorKind::Empty {
            return ScanError(JsonErrorKind::End, self.text.len());
        }
        ScanError(kind, self.pos)
    }

    fn peek(&self) -> u8 {
        // NUL is invalid outside strings, so it can mean the end.
        self.text.get(self.pos).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while let b' ' | b'\n' | b'\t' | b'\r' = self.peek() {
            self.pos += 1;
            self.spaces += 1;
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the text is shorter than 4 GiB, and there are no more nodes than bytes"
    )]
    fn push(&mut self, kind: JsonKind, flag: bool, start: usize) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(JsonNode::new(
            kind,
            flag,
            start as u32,
            self.pos as u32,
            next,
        ));
    }

    /// Reads one scalar, or opens containers down to a scalar or an empty one.
    fn value(&mut self) -> Result<(), ScanError> {
        loop {
            self.skip_space();
            match self.peek() {
                b'{' => {
                    self.open(JsonKind::Object)?;
                    if self.peek() == b'}' {
                        self.close();
                        return Ok(());
                    }
                    self.key()?;
                }
                b'[' => {
                    self.open(JsonKind::Array)?;
                    if self.peek() == b']' {
                        self.close();
                        return Ok(());
                    }
                }
                b'"' => return self.string(),
                b'-' | b'0'..=b'9' => return self.number(),
                b't' => return self.literal(b"true", JsonKind::Bool),
                b'f' => return self.literal(b"false", JsonKind::Bool),
                b'n' => return self.literal(b"null", JsonKind::Null),
                _ => return Err(self.stop(JsonErrorKind::Value)),
            }
        }
    }

    /// Closes containers until one continues or the document ends.
    fn after_value(&mut self) -> Result<ScanStep, ScanError> {
        loop {
            self.skip_space();
            if self.parent == ROOT {
                return Ok(ScanStep::Done);
            }
            let object = self.nodes[self.parent as usize].kind() == JsonKind::Object;
            match (object, self.peek()) {
                (true, b'}') | (false, b']') => self.close(),
                (true, b',') => {
                    self.pos += 1;
                    self.skip_space();
                    self.key()?;
                    return Ok(ScanStep::Value);
                }
                (false, b',') => {
                    self.pos += 1;
                    return Ok(ScanStep::Value);
                }
                (true, _) => return Err(self.stop(JsonErrorKind::CommaOrBrace)),
                (false, _) => return Err(self.stop(JsonErrorKind::CommaOrBracket)),
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are no more nodes than bytes, and fewer than 4 GiB of those"
    )]
    fn open(&mut self, kind: JsonKind) -> Result<(), ScanError> {
        if self.depth == MAX_DEPTH {
            return Err(self.stop(JsonErrorKind::Depth));
        }
        self.depth += 1;
        let index = self.nodes.len() as u32;
        let start = self.pos;
        self.pos += 1;
        self.nodes.push(JsonNode::new(
            kind,
            false,
            start as u32,
            self.spaces,
            self.parent,
        ));
        self.parent = index;
        self.skip_space();
        Ok(())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the text is shorter than 4 GiB, and there are no more nodes than bytes"
    )]
    fn close(&mut self) {
        self.pos += 1;
        self.depth -= 1;
        let behind = self.nodes.len() as u32;
        let node = &mut self.nodes[self.parent as usize];
        self.parent = node.next;
        *node = JsonNode::new(
            node.kind(),
            node.end != self.spaces,
            node.start,
            self.pos as u32,
            behind,
        );
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), ScanError> {
        if self.peek() != b'"' {
            return Err(self.stop(JsonErrorKind::Key));
        }
        self.string()?;
        self.skip_space();
        if self.peek() != b':' {
            return Err(self.stop(JsonErrorKind::Colon));
        }
        self.pos += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), ScanError> {
        let start = self.pos;
        let mut escaped = false;
        self.pos += 1;
        loop {
            self.pos += plain_run(&self.text[self.pos..]);
            match self.text.get(self.pos) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.stop(JsonErrorKind::Control)),
                None => return Err(self.stop(JsonErrorKind::End)),
            }
        }
        self.pos += 1;
        self.push(JsonKind::String, escaped, start);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        match self.text.get(self.pos + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.pos += 2,
            Some(b'u') => {
                let digits = self.text.get(self.pos + 2..self.pos + 6);
                match digits {
                    Some(d) if d.iter().all(u8::is_ascii_hexdigit) => self.pos += 6,
                    _ => return Err(self.stop(JsonErrorKind::Escape)),
                }
            }
            _ => return Err(self.stop(JsonErrorKind::Escape)),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        if !self.peek().is_ascii_digit() {
            return Err(self.stop(JsonErrorKind::Number));
        }
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let start = self.pos;
        if self.peek() == b'-' {
            self.pos += 1;
        }
        if self.peek() == b'0' {
            self.pos += 1;
            if self.peek().is_ascii_digit() {
                return Err(self.stop(JsonErrorKind::Number));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.pos += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            self.pos += 1;
            if let b'+' | b'-' = self.peek() {
                self.pos += 1;
            }
            self.digits()?;
        }
        self.push(JsonKind::Number, false, start);
        Ok(())
    }

    fn literal(&mut self, word: &[u8], kind: JsonKind) -> Result<(), ScanError> {
        let start = self.pos;
        if !self.text[start..].starts_with(word) {
            return Err(self.stop(JsonErrorKind::Value));
        }
        self.pos += word.len();
        self.push(kind, false, start);
        Ok(())
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Number of leading bytes that are no quote, backslash or control character.
fn plain_run(text: &[u8]) -> usize {
    let mut done = 0;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let x = u64::from_le_bytes(*word);
        // The lowest set bit of each term marks its first match exactly; borrows only reach
        // higher bytes.
        let quote = (x ^ (ONES * 0x22)).wrapping_sub(ONES) & !(x ^ (ONES * 0x22));
        let slash = (x ^ (ONES * 0x5C)).wrapping_sub(ONES) & !(x ^ (ONES * 0x5C));
        let control = x.wrapping_sub(ONES * 0x20) & !x;
        let hits = (quote | slash | control) & HIGHS;
        if hits != 0 {
            return done + (hits.trailing_zeros() / 8) as usize;
        }
        done += 8;
    }
    let special = |b: &u8| *b == b'"' || *b == b'\\' || *b < 0x20;
    done + rest.iter().position(special).unwrap_or(rest.len())
}

/// JSON whitespace (RFC 8259, section 2), without form feed and vertical tab: a line with one is an
/// invalid record, not a blank line.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
