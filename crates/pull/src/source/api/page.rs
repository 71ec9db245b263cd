//! Requests of pages and their answers.

use bytes::Bytes;
use forebay_record::json::{Document, Kind, NodeId, unescape};
use forebay_record::path::{Path, Selected};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::convert::not_json;
use crate::definition::{HttpApi, Paging};
use crate::http::{Answer, quote};

mod link;

use link::next_of;

/// Which page is next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum At {
    /// The first one.
    Start,
    /// That of a cursor.
    Cursor(String),
    /// The one after so many records.
    Offset(u64),
    /// That of a number.
    Page(u64),
    /// That of an address.
    Url(String),
}

/// A page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) records: Vec<Bytes>,
    /// Nothing when the page names no next one.
    pub(super) next: Option<At>,
    /// The page has a value at the cursor's path, if only null; true where there is no such path.
    pub(super) has_cursor: bool,
    /// The page has a value at the path of `until.field`; true where there is no such path.
    pub(super) has_field: bool,
    /// Whether the page says that it is the last one, or the API that there is no such page.
    pub(super) is_last: bool,
    /// What its records are known by, where pages have numbers; an empty page has none.
    pub(super) digest: Option<String>,
}

impl Page {
    /// What is behind the last page.
    pub(super) fn none() -> Self {
        Self {
            has_cursor: true,
            has_field: true,
            is_last: true,
            ..Self::default()
        }
    }
}

/// An answer that is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The next answer may be one.
    Again(String),
    /// The next answer would be the same: a person has to look at it.
    Never(String),
}

/// The pages of an API.
#[derive(Debug)]
pub(super) struct Pages {
    first: Url,
    paging: Paging,
    results: Path,
    /// Of the cursor, or of the next page's address.
    cursor: Path,
    results_text: String,
    /// The field of `until`, and its value on the last page.
    field: Option<(Path, Value)>,
}

impl Pages {
    pub(super) fn new(api: &HttpApi) -> Result<Self, String> {
        let base = api.base_url.trim_end_matches('/');
        let text = format!("{base}{}", api.path);
        let mut first = Url::parse(&text).map_err(|e| format!("\"{text}\" is not a URL: {e}"))?;
        if !api.query.is_empty() {
            first.query_pairs_mut().extend_pairs(&api.query);
        }
        let cursor = match &api.paging {
            Paging::Cursor { cursor: path, .. } | Paging::Next { path } => path.as_str(),
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => "",
        };
        let path =
            |text: &str| Path::compile(text).map_err(|e| format!("\"{text}\" is no path: {e}"));
        let field = match &api.until.field {
            Some(field) => Some((path(field)?, api.until.last_value())),
            None => None,
        };
        Ok(Self {
            first,
            paging: api.paging.clone(),
            results: path(&api.results)?,
            cursor: path(cursor)?,
            results_text: api.results.clone(),
            field,
        })
    }

    /// Where a page is.
    pub(super) fn url(&self, at: &At) -> Result<Url, String> {
        if let At::Url(next) = at {
            return Url::parse(next).map_err(|e| format!("\"{next}\" is not a URL: {e}"));
        }
        let mut url = self.first.clone();
        match (&self.paging, at) {
            (Paging::Cursor { param: None, .. }, At::Cursor(cursor)) => {
                // A step of its own whatever is in it: a cursor with a slash does not lead elsewhere.
                url.path_segments_mut()
                    .map_err(|()| "the address has no path".to_owned())?
                    .pop_if_empty()
                    .push(cursor);
            }
            (Paging::Cursor { param: Some(p), .. }, At::Cursor(cursor)) => {
                url.query_pairs_mut().append_pair(p, cursor);
            }
            (
                Paging::Offset {
                    param,
                    size_param,
                    size,
                    ..
                },
                at,
            ) => {
                let offset = if let At::Offset(n) = at { *n } else { 0 };
                url.query_pairs_mut()
                    .append_pair(param, &offset.to_string())
                    .append_pair(size_param, &size.to_string());
            }
            (Paging::Page { param, first, .. }, at) => {
                let number = if let At::Page(n) = at { *n } else { *first };
                url.query_pairs_mut()
                    .append_pair(param, &number.to_string());
            }
            (Paging::Cursor { .. } | Paging::Next { .. } | Paging::Link, _) => {}
        }
        Ok(url)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not what was asked for; quotes its beginning.
    pub(super) fn read(&self, at: &At, answer: Answer) -> Result<Page, ReadError> {
        let Answer {
            status,
            headers,
            url,
            body,
            ..
        } = answer;
        let body = if status == StatusCode::NO_CONTENT {
            // A page without records, in the words of HTTP.
            Bytes::from_static(b"null")
        } else {
            body
        };
        let document = Document::parse(body.clone()).map_err(|e| {
            let (error, quoted) = (not_json(&e), quote(&body));
            let kind = content_type(&headers);
            ReadError::Again(format!("the answer ({kind}) is {error}{quoted}"))
        })?;
        let is_none = status == StatusCode::NO_CONTENT;
        let records = match self.records(&document).map_err(ReadError::Again)? {
            Some(records) => records,
            None if is_none => Vec::new(),
            None => {
                let place = match self.results_text.as_str() {
                    "" => "the answer is no array".to_owned(),
                    path => format!("the answer has no array at `{path}`"),
                };
                return Err(ReadError::Again(format!("{place}{}", quote(&body))));
            }
        };
        let cursor = match &self.paging {
            Paging::Cursor { .. } | Paging::Next { .. } => {
                one(&self.cursor, &document).map_err(|e| {
                    let path = self.cursor_path();
                    ReadError::Never(format!("the path `{path}` {e}"))
                })?
            }
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => None,
        };
        let next = self.next(at, records.len(), (&document, cursor), &url, &headers);
        let (has_field, is_last) = self.field_of(&document).map_err(ReadError::Never)?;
        let is_numbered = matches!(self.paging, Paging::Offset { .. } | Paging::Page { .. });
        Ok(Page {
            next: next.map_err(ReadError::Never)?,
            has_cursor: match &self.paging {
                Paging::Cursor { .. } | Paging::Next { .. } => cursor.is_some(),
                Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => true,
            },
            has_field,
            is_last,
            digest: (is_numbered && !records.is_empty()).then(|| digest(&records)),
            records,
        })
    }

    /// The records of an answer: the elements of the array at the path, none of null, or what a path
    /// selects that can select many values.
    fn records(&self, document: &Document) -> Result<Option<Vec<Bytes>>, String> {
        let selected = self.results.select(document);
        let selected = selected.map_err(|e| format!("the path `{}` {e}", self.results_text))?;
        let nodes: Vec<NodeId> = match selected {
            Selected::Many(nodes) => nodes,
            Selected::One(node) if document.kind(node) == Kind::Array => {
                document.members(node).collect()
            }
            Selected::One(node) if document.kind(node) == Kind::Null => Vec::new(),
            Selected::Nothing if !self.results.is_singular() => Vec::new(),
            Selected::One(_) | Selected::Nothing => return Ok(None),
        };
        Ok(Some(nodes.into_iter().map(|n| document.slice(n)).collect()))
    }

    fn next(
        &self,
        at: &At,
        count: usize,
        (document, cursor): (&Document, Option<NodeId>),
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Option<At>, String> {
        Ok(match &self.paging {
            Paging::Cursor { param, .. } => match self.text_of(document, cursor)? {
                Some(cursor) if param.is_none() && is_address(&cursor) => {
                    Some(At::Url(self.same_server(url, "the answer", &cursor)?))
                }
                cursor => cursor.map(At::Cursor),
            },
            Paging::Next { .. } => match self.text_of(document, cursor)? {
                Some(next) => Some(At::Url(self.same_server(url, "the answer", &next)?)),
                None => None,
            },
            Paging::Offset { .. } => {
                let before = if let At::Offset(n) = at { *n } else { 0 };
                Some(At::Offset(before.saturating_add(count as u64)))
            }
            Paging::Page { first, .. } => {
                let this = if let At::Page(n) = at { *n } else { *first };
                // An empty page is asked for again: it may fill.
                let next = this.saturating_add(u64::from(count > 0));
                Some(At::Page(next))
            }
            Paging::Link => self.link(url, headers)?.map(At::Url),
        })
    }

    /// The cursor, or the next page's address, of an answer; nothing when it names no next page.
    fn text_of(
        &self,
        document: &Document,
        cursor: Option<NodeId>,
    ) -> Result<Option<String>, String> {
        let Some(node) = cursor else {
            return Ok(None);
        };
        let (what, ends): (&str, &[Value]) = match &self.paging {
            Paging::Cursor { end, .. } => ("the cursor", end),
            _ => ("the address of the next page", &[]),
        };
        let is_number = document.kind(node) == Kind::Number;
        match document.kind(node) {
            Kind::Null => return Ok(None),
            Kind::Bool if text(document, node) == "false" => return Ok(None),
            _ if ends.iter().any(|end| is_value(document, node, end)) => return Ok(None),
            Kind::Number if matches!(self.paging, Paging::Cursor { .. }) => {}
            Kind::String => {}
            Kind::Number | Kind::Bool | Kind::Array | Kind::Object => {
                let or = if matches!(self.paging, Paging::Cursor { .. }) {
                    " or a number"
                } else {
                    ""
                };
                let shown = quote(text(document, node).as_bytes());
                return Err(format!(
                    "{what} has to be a text{or}, at `{}` is{shown}",
                    self.cursor_path()
                ));
            }
        }
        if is_number {
            return Ok(Some(text(document, node)));
        }
        let cursor = string(document, node);
        Ok((!cursor.is_empty()).then_some(cursor))
    }

    fn cursor_path(&self) -> &str {
        match &self.paging {
            Paging::Cursor { cursor: path, .. } | Paging::Next { path } => path,
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => "",
        }
    }

    /// Whether a page has the field of `until`, and whether it says that the page is the last one.
    fn field_of(&self, document: &Document) -> Result<(bool, bool), String> {
        let Some((path, last)) = &self.field else {
            return Ok((true, false));
        };
        let node = one(path, document).map_err(|e| format!("the path of until.field {e}"))?;
        Ok(match node {
            Some(node) => (true, is_value(document, node, last)),
            None => (last.is_null(), last.is_null()),
        })
    }

    /// The address with `rel="next"`, seen from where the answer came from.
    fn link(&self, here: &Url, headers: &HeaderMap) -> Result<Option<String>, String> {
        for value in headers.get_all(header::LINK) {
            let Ok(value) = value.to_str() else { continue };
            let Some(target) = next_of(value) else {
                continue;
            };
            let next = self.same_server(here, "the header Link", target)?;
            return Ok(Some(next));
        }
        Ok(None)
    }

    /// An address that an answer names, seen from where that came from; on the same server only, as
    /// the token is for that one.
    fn same_server(&self, here: &Url, what: &str, target: &str) -> Result<String, String> {
        let shown = quote(target.as_bytes());
        let mut next = here
            .join(target)
            .map_err(|e| format!("{what} names no address as the next page ({e}){shown}"))?;
        let (own, other) = (&self.first, &next);
        if other.origin() != own.origin() {
            let hint = if other.host_str() == own.host_str() {
                let scheme = other.scheme();
                format!(
                    "; if that is the same server, its baseUrl has to begin with {scheme}://, or its answers with {}://",
                    own.scheme()
                )
            } else {
                String::new()
            };
            return Err(format!(
                "{what} leads to another server, which the token is not for{hint}{shown}"
            ));
        }
        let names_user = !other.username().is_empty() || other.password().is_some();
        if names_user {
            return Err(format!("{what} names a user in the next page's address"));
        }
        next.set_fragment(None);
        Ok(next.to_string())
    }
}

/// Whether a text is a whole address.
fn is_address(text: &str) -> bool {
    let begins = |scheme: &str| {
        let start = text.get(..scheme.len());
        start.is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

/// Whether a value of an answer is one of a definition: numbers by what they are worth.
fn is_value(document: &Document, node: NodeId, value: &Value) -> bool {
    match (document.kind(node), value) {
        (Kind::Null, Value::Null) => true,
        (Kind::Bool, Value::Bool(b)) => text(document, node) == b.to_string(),
        (Kind::String, Value::String(s)) => string(document, node) == *s,
        (Kind::Number, Value::Number(n)) => {
            let there = text(document, node);
            there == n.to_string() || there.parse::<f64>().ok() == n.as_f64()
        }
        _ => false,
    }
}

/// What the records of a page are known by.
fn digest(records: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        hash.update((record.len() as u64).to_le_bytes());
        hash.update(record);
    }
    let hash = hash.finalize();
    hash.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// The one value at a path.
fn one(path: &Path, document: &Document) -> Result<Option<NodeId>, String> {
    match path.select(document).map_err(|e| e.to_string())? {
        Selected::Nothing => Ok(None),
        Selected::One(node) => Ok(Some(node)),
        Selected::Many(nodes) => match nodes.as_slice() {
            [] => Ok(None),
            [node] => Ok(Some(*node)),
            nodes => Err(format!("selects {} values, it has to be one", nodes.len())),
        },
    }
}

fn text(document: &Document, node: NodeId) -> String {
    String::from_utf8_lossy(document.text(node)).into_owned()
}

/// A text of an answer, without its escapes.
fn string(document: &Document, node: NodeId) -> String {
    let mut out = Vec::new();
    unescape(document.string(node).0, |part| out.extend_from_slice(part));
    String::from_utf8_lossy(&out).into_owned()
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|v| v.to_str().ok());
    value.unwrap_or("without a content type").to_owned()
}

#[cfg(test)]
#[path = "page/tests.rs"]
mod tests;
