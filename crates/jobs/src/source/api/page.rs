//! Requests for pages and their responses.

use bytes::Bytes;
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId};
use forebay_record::path::{CompiledPath, OwnedSelection};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::convert::not_json;
use crate::definition::{HttpApi, Paging};
use crate::http::{CallResponse, quote};

mod link;
mod value;

use link::{next_of, resolve_next};
use value::{is_value, one, string, text};

/// Identifies a page.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum PageToken {
    Start,
    Cursor(String),
    /// Number of records before the page.
    Offset(u64),
    Page(u64),
    Url(String),
}

/// The content of a page.
#[derive(Debug, Default)]
pub(super) struct ApiPage {
    pub(super) records: Vec<Bytes>,
    /// `None` if there is no next page.
    pub(super) next: Option<PageToken>,
    /// The page has a value at the cursor's path, even null; true if there is no such path.
    pub(super) has_cursor: bool,
    /// The page has a value at the path of `until.field`; true if there is no such path.
    pub(super) has_field: bool,
    /// The page is marked as the last one, or the API responded that it does not exist.
    pub(super) is_last: bool,
    /// Digest of the records, if pages have numbers and this one is not empty.
    pub(super) digest: Option<String>,
}

impl ApiPage {
    /// The page after the last one.
    pub(super) fn none() -> Self {
        Self {
            has_cursor: true,
            has_field: true,
            is_last: true,
            ..Self::default()
        }
    }
}

/// Error of parsing a response as a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageError {
    /// A retry may succeed.
    Again(String),
    /// A retry would have the same result.
    Never(String),
}

/// Builds the requests and reads the responses of an API's pages.
#[derive(Debug)]
pub(super) struct PageReader {
    first: Url,
    paging: Paging,
    results: CompiledPath,
    /// Path of the cursor, or of the next page's URL.
    cursor: CompiledPath,
    results_text: String,
    /// The field of `until`, and its value on the last page.
    field: Option<(CompiledPath, Value)>,
}

impl PageReader {
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
        let path = |text: &str| {
            CompiledPath::compile(text).map_err(|e| format!("\"{text}\" is not a path: {e}"))
        };
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

    /// The URL of a page.
    pub(super) fn url(&self, token: &PageToken) -> Result<Url, String> {
        if let PageToken::Url(next) = token {
            return Url::parse(next).map_err(|e| format!("\"{next}\" is not a URL: {e}"));
        }
        let mut url = self.first.clone();
        match (&self.paging, token) {
            (Paging::Cursor { param: None, .. }, PageToken::Cursor(cursor)) => {
                // Always one path segment: a slash in the cursor does not lead elsewhere.
                url.path_segments_mut()
                    .map_err(|()| "the URL has no path".to_owned())?
                    .pop_if_empty()
                    .push(cursor);
            }
            (Paging::Cursor { param: Some(p), .. }, PageToken::Cursor(cursor)) => {
                url.query_pairs_mut().append_pair(p, cursor);
            }
            (
                Paging::Offset {
                    param,
                    size_param,
                    size,
                    ..
                },
                token,
            ) => {
                let offset = if let PageToken::Offset(n) = token {
                    *n
                } else {
                    0
                };
                url.query_pairs_mut()
                    .append_pair(param, &offset.to_string())
                    .append_pair(size_param, &size.to_string());
            }
            (Paging::Page { param, first, .. }, token) => {
                let number = if let PageToken::Page(n) = token {
                    *n
                } else {
                    *first
                };
                url.query_pairs_mut()
                    .append_pair(param, &number.to_string());
            }
            (Paging::Cursor { .. } | Paging::Next { .. } | Paging::Link, _) => {}
        }
        Ok(url)
    }

    /// Reads a response. An error quotes its beginning.
    pub(super) fn read(
        &self,
        token: &PageToken,
        response: CallResponse,
    ) -> Result<ApiPage, PageError> {
        let CallResponse {
            status,
            headers,
            url,
            body,
            ..
        } = response;
        let body = if status == StatusCode::NO_CONTENT {
            // HTTP's form of a page without records.
            Bytes::from_static(b"null")
        } else {
            body
        };
        let document = JsonDocument::parse(body.clone()).map_err(|e| {
            let (error, quoted) = (not_json(&e), quote(&body));
            let kind = content_type(&headers);
            PageError::Again(format!("the response ({kind}) is {error}{quoted}"))
        })?;
        let is_none = status == StatusCode::NO_CONTENT;
        let records = match self.records(&document).map_err(PageError::Again)? {
            Some(records) => records,
            None if is_none => Vec::new(),
            None => {
                let problem = match self.results_text.as_str() {
                    "" => "the response is not an array".to_owned(),
                    path => format!("the response has no array at `{path}`"),
                };
                return Err(PageError::Again(format!("{problem}{}", quote(&body))));
            }
        };
        let cursor = match &self.paging {
            Paging::Cursor { .. } | Paging::Next { .. } => {
                one(&self.cursor, &document).map_err(|e| {
                    let path = self.cursor_path();
                    PageError::Never(format!("the path `{path}` {e}"))
                })?
            }
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => None,
        };
        let next = self.next(token, records.len(), (&document, cursor), &url, &headers);
        let (has_field, is_last) = self.field_of(&document).map_err(PageError::Never)?;
        let is_numbered = matches!(self.paging, Paging::Offset { .. } | Paging::Page { .. });
        Ok(ApiPage {
            next: next.map_err(PageError::Never)?,
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

    /// The records of a response: the elements of the array at the path, none for null, or the values that the
    /// path selects if it can select many.
    fn records(&self, document: &JsonDocument) -> Result<Option<Vec<Bytes>>, String> {
        let selected = self.results.select(document);
        let selected = selected.map_err(|e| format!("the path `{}` {e}", self.results_text))?;
        let nodes: Vec<JsonNodeId> = match selected {
            OwnedSelection::Many(nodes) => nodes,
            OwnedSelection::One(node) if document.kind(node) == JsonKind::Array => {
                document.members(node).collect()
            }
            OwnedSelection::One(node) if document.kind(node) == JsonKind::Null => Vec::new(),
            OwnedSelection::Nothing if !self.results.is_singular() => Vec::new(),
            OwnedSelection::One(_) | OwnedSelection::Nothing => return Ok(None),
        };
        Ok(Some(nodes.into_iter().map(|n| document.slice(n)).collect()))
    }

    fn next(
        &self,
        token: &PageToken,
        count: usize,
        (document, cursor): (&JsonDocument, Option<JsonNodeId>),
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Option<PageToken>, String> {
        Ok(match &self.paging {
            Paging::Cursor { param, .. } => match self.text_of(document, cursor)? {
                Some(cursor) if param.is_none() && is_absolute_url(&cursor) => Some(
                    PageToken::Url(resolve_next(&self.first, url, "the response", &cursor)?),
                ),
                cursor => cursor.map(PageToken::Cursor),
            },
            Paging::Next { .. } => match self.text_of(document, cursor)? {
                Some(next) => Some(PageToken::Url(resolve_next(
                    &self.first,
                    url,
                    "the response",
                    &next,
                )?)),
                None => None,
            },
            Paging::Offset { .. } => {
                let before = if let PageToken::Offset(n) = token {
                    *n
                } else {
                    0
                };
                Some(PageToken::Offset(before.saturating_add(count as u64)))
            }
            Paging::Page { first, .. } => {
                let this = if let PageToken::Page(n) = token {
                    *n
                } else {
                    *first
                };
                // An empty page is requested again: it may fill later.
                let next = this.saturating_add(u64::from(count > 0));
                Some(PageToken::Page(next))
            }
            Paging::Link => self.link(url, headers)?.map(PageToken::Url),
        })
    }

    /// The cursor, or the URL of the next page; `None` if there is no next page.
    fn text_of(
        &self,
        document: &JsonDocument,
        cursor: Option<JsonNodeId>,
    ) -> Result<Option<String>, String> {
        let Some(node) = cursor else {
            return Ok(None);
        };
        let (what, ends): (&str, &[Value]) = match &self.paging {
            Paging::Cursor { end, .. } => ("the cursor", end),
            _ => ("the URL of the next page", &[]),
        };
        let is_number = document.kind(node) == JsonKind::Number;
        match document.kind(node) {
            JsonKind::Null => return Ok(None),
            JsonKind::Bool if text(document, node) == "false" => return Ok(None),
            _ if ends.iter().any(|end| is_value(document, node, end)) => return Ok(None),
            JsonKind::Number if matches!(self.paging, Paging::Cursor { .. }) => {}
            JsonKind::String => {}
            JsonKind::Number | JsonKind::Bool | JsonKind::Array | JsonKind::Object => {
                let or = if matches!(self.paging, Paging::Cursor { .. }) {
                    " or a number"
                } else {
                    ""
                };
                let shown = quote(text(document, node).as_bytes());
                return Err(format!(
                    "{what} has to be a string{or}, but at `{}` is{shown}",
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

    /// Whether a page has the field of `until`, and whether its value marks the last page.
    fn field_of(&self, document: &JsonDocument) -> Result<(bool, bool), String> {
        let Some((path, last)) = &self.field else {
            return Ok((true, false));
        };
        let node = one(path, document).map_err(|e| format!("the path of until.field {e}"))?;
        Ok(match node {
            Some(node) => (true, is_value(document, node, last)),
            None => (last.is_null(), last.is_null()),
        })
    }

    /// The target with `rel="next"`, resolved against the response's URL.
    fn link(&self, here: &Url, headers: &HeaderMap) -> Result<Option<String>, String> {
        for value in headers.get_all(header::LINK) {
            let Ok(value) = value.to_str() else { continue };
            let Some(target) = next_of(value) else {
                continue;
            };
            let next = resolve_next(&self.first, here, "the header Link", target)?;
            return Ok(Some(next));
        }
        Ok(None)
    }
}

/// Whether a string is an absolute URL.
fn is_absolute_url(text: &str) -> bool {
    let begins = |scheme: &str| {
        let start = text.get(..scheme.len());
        start.is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    };
    begins("http://") || begins("https://")
}

/// Digest of a page's records, to detect repeated pages.
fn digest(records: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        hash.update((record.len() as u64).to_le_bytes());
        hash.update(record);
    }
    format!("{:.32x}", hash.finalize())
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|v| v.to_str().ok());
    value.unwrap_or("without a content type").to_owned()
}

#[cfg(test)]
#[path = "page/tests.rs"]
mod tests;
