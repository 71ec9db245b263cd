//! Requests of pages and their answers.

use bytes::Bytes;
use forebay_record::json::{Document, Kind, NodeId, unescape};
use forebay_record::path::{Path, Selected};
use http::{HeaderMap, header};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::convert::not_json;
use crate::definition::{HttpApi, Paging};
use crate::http::{Answer, quote};

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
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Bytes>,
    /// Nothing when the page names no next one.
    pub(super) next: Option<At>,
    /// The page has a value at the cursor's path, if only null; true where there is no such path.
    pub(super) has_cursor: bool,
}

/// The pages of an API.
#[derive(Debug)]
pub(super) struct Pages {
    first: Url,
    paging: Paging,
    results: Path,
    cursor: Path,
    results_text: String,
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
            Paging::Cursor { cursor, .. } => cursor,
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => "",
        };
        let path =
            |text: &str| Path::compile(text).map_err(|e| format!("\"{text}\" is no path: {e}"));
        Ok(Self {
            first,
            paging: api.paging.clone(),
            results: path(&api.results)?,
            cursor: path(cursor)?,
            results_text: api.results.clone(),
        })
    }

    /// Where a page is.
    pub(super) fn url(&self, at: &At) -> Result<Url, String> {
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
                },
                at,
            ) => {
                let offset = if let At::Offset(n) = at { *n } else { 0 };
                url.query_pairs_mut()
                    .append_pair(param, &offset.to_string())
                    .append_pair(size_param, &size.to_string());
            }
            (Paging::Page { param, first }, at) => {
                let number = if let At::Page(n) = at { *n } else { *first };
                url.query_pairs_mut()
                    .append_pair(param, &number.to_string());
            }
            (Paging::Link, At::Url(next)) => {
                return Url::parse(next).map_err(|e| format!("\"{next}\" is not a URL: {e}"));
            }
            (Paging::Cursor { .. } | Paging::Link, _) => {}
        }
        Ok(url)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not what was asked for; quotes its beginning.
    pub(super) fn read(&self, at: &At, answer: Answer) -> Result<Page, String> {
        let Answer {
            headers, url, body, ..
        } = answer;
        let kind = content_type(&headers);
        let document = Document::parse(body.clone()).map_err(|e| {
            let (error, quoted) = (not_json(&e), quote(&body));
            format!("the answer ({kind}) is {error}{quoted}")
        })?;
        let records = self.records(&document)?;
        let records: Vec<Bytes> = match records {
            Some(nodes) => nodes.into_iter().map(|n| document.slice(n)).collect(),
            None => {
                let place = match self.results_text.as_str() {
                    "" => "the answer is no array".to_owned(),
                    path => format!("the answer has no array at `{path}`"),
                };
                return Err(format!("{place}{}", quote(&body)));
            }
        };
        let cursor = match &self.paging {
            Paging::Cursor { .. } => self.cursor_node(&document)?,
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => None,
        };
        let next = match &self.paging {
            Paging::Cursor { .. } => match cursor {
                Some(node) => cursor_of(&document, node)?.map(At::Cursor),
                None => None,
            },
            Paging::Offset { .. } => {
                let before = if let At::Offset(n) = at { *n } else { 0 };
                Some(At::Offset(before + records.len() as u64))
            }
            Paging::Page { first, .. } => {
                let this = if let At::Page(n) = at { *n } else { *first };
                // An empty page is asked for again: it may fill.
                Some(At::Page(if records.is_empty() { this } else { this + 1 }))
            }
            Paging::Link => self.link(&url, &headers)?.map(At::Url),
        };
        let has_cursor = match &self.paging {
            Paging::Cursor { .. } => cursor.is_some(),
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => true,
        };
        Ok(Page {
            records,
            next,
            has_cursor,
        })
    }

    /// The records of an answer: the elements of the array at the path, or what a path selects that
    /// can select many values.
    fn records(&self, document: &Document) -> Result<Option<Vec<NodeId>>, String> {
        let selected = self.results.select(document);
        let selected = selected.map_err(|e| format!("the path `{}` {e}", self.results_text))?;
        Ok(match selected {
            Selected::Many(nodes) => Some(nodes),
            Selected::One(node) if document.kind(node) == Kind::Array => {
                Some(document.members(node).collect())
            }
            Selected::Nothing if !self.results.is_singular() => Some(Vec::new()),
            Selected::One(_) | Selected::Nothing => None,
        })
    }

    /// What is at the path of the cursor.
    fn cursor_node(&self, document: &Document) -> Result<Option<NodeId>, String> {
        let selected = self.cursor.select(document);
        match selected.map_err(|e| format!("the path of the cursor {e}"))? {
            Selected::Nothing => Ok(None),
            Selected::One(node) => Ok(Some(node)),
            Selected::Many(nodes) => match nodes.as_slice() {
                [node] => Ok(Some(*node)),
                nodes => Err(format!(
                    "the path of the cursor selects {} values, it has to be one",
                    nodes.len()
                )),
            },
        }
    }

    /// The address with `rel="next"`, seen from where the answer came from; on the same server only,
    /// as the token is for that one.
    fn link(&self, here: &Url, headers: &HeaderMap) -> Result<Option<String>, String> {
        for value in headers.get_all(header::LINK) {
            let Ok(value) = value.to_str() else { continue };
            let Some(target) = next_of(value) else {
                continue;
            };
            let next = here
                .join(target)
                .map_err(|e| format!("the header Link names \"{target}\": {e}"))?;
            if next.origin() != self.first.origin() {
                return Err(format!(
                    "the header Link leads to another server ({next}), which the token is not for"
                ));
            }
            return Ok(Some(next.to_string()));
        }
        Ok(None)
    }
}

fn cursor_of(document: &Document, node: NodeId) -> Result<Option<String>, String> {
    match document.kind(node) {
        Kind::Null => Ok(None),
        Kind::Number => Ok(Some(text(document, node))),
        Kind::String => {
            let mut out = Vec::new();
            unescape(document.string(node).0, |part| out.extend_from_slice(part));
            let cursor = String::from_utf8_lossy(&out).into_owned();
            Ok((!cursor.is_empty()).then_some(cursor))
        }
        Kind::Bool | Kind::Array | Kind::Object => Err(format!(
            "the cursor is {}, it has to be a text or a number",
            text(document, node)
        )),
    }
}

/// The target with `rel="next"` of a header `Link`: `<a>; rel="prev", <b>; rel="next"`.
fn next_of(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let (parameters, more) = match after.find(",<").or_else(|| after.find(", <")) {
            Some(end) => after.split_at(end),
            None => (after, ""),
        };
        let is_next = parameters.split(';').any(|p| {
            let (name, value) = p.split_once('=').unwrap_or((p, ""));
            let value = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && value
                    .split_whitespace()
                    .any(|r| r.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target);
        }
        rest = more;
    }
}

fn text(document: &Document, node: NodeId) -> String {
    String::from_utf8_lossy(document.text(node)).into_owned()
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|v| v.to_str().ok());
    value.unwrap_or("without a content type").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(extra: &str) -> Pages {
        let mut api = serde_json::json!({ "baseUrl": "http://api.example/v1/" });
        let extra: serde_json::Value = serde_json::from_str(extra).unwrap();
        for (key, value) in extra.as_object().unwrap() {
            api[key] = value.clone();
        }
        Pages::new(&serde_json::from_value(api).unwrap()).unwrap()
    }

    fn answer(body: &str, link: Option<&str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(link) = link {
            headers.insert(header::LINK, link.parse().unwrap());
        }
        let url = "http://api.example/v1/messages".parse().unwrap();
        Answer::of(url, headers, Bytes::from(body.to_owned()))
    }

    #[test]
    fn the_plain_shape_goes_by_a_cursor_in_the_path() {
        let pages = pages("{}");
        let url = |at: &At| pages.url(at).unwrap().to_string();
        assert_eq!(url(&At::Start), "http://api.example/v1/messages");
        let page = pages
            .read(
                &At::Start,
                answer(r#"{"results": [{"a": 1}, 2], "cursor": 17}"#, None),
            )
            .unwrap();
        assert_eq!(page.records, [&b"{\"a\": 1}"[..], b"2"]);
        let next = page.next.unwrap();
        assert_eq!(url(&next), "http://api.example/v1/messages/17");
        let odd = At::Cursor("a/../b?c".to_owned());
        assert_eq!(url(&odd), "http://api.example/v1/messages/a%2F..%2Fb%3Fc");
        let page = pages
            .read(&next, answer(r#"{"results": []}"#, None))
            .unwrap();
        assert!(page.records.is_empty() && page.next.is_none());
    }

    #[test]
    fn other_shapes_are_read_by_configuration() {
        let nested = pages(
            r#"{"path": "/items", "query": {"since": "x y"}, "results": "data.items",
                "paging": {"type": "cursor", "cursor": "data.next", "param": "after"}}"#,
        );
        let page = nested
            .read(
                &At::Start,
                answer(r#"{"data": {"items": [1], "next": "k\u00e9"}}"#, None),
            )
            .unwrap();
        let next = page.next.unwrap();
        assert_eq!(
            nested.url(&next).unwrap().as_str(),
            "http://api.example/v1/items?since=x+y&after=k%C3%A9"
        );
        let offset = pages(r#"{"results": "", "paging": {"type": "offset", "size": 2}}"#);
        assert!(
            offset
                .url(&At::Start)
                .unwrap()
                .as_str()
                .ends_with("?offset=0&limit=2")
        );
        let page = offset.read(&At::Offset(4), answer("[1, 2]", None)).unwrap();
        assert_eq!(page.next, Some(At::Offset(6)));
        let numbered = pages(r#"{"paging": {"type": "page"}}"#);
        let page = numbered
            .read(&At::Start, answer(r#"{"results": [1]}"#, None))
            .unwrap();
        assert_eq!(page.next, Some(At::Page(2)));
    }

    #[test]
    fn paths_have_quoted_keys_and_json_path() {
        let read = |extra: &str, body: &str| pages(extra).read(&At::Start, answer(body, None));
        let cursor = |text: &str| Some(At::Cursor(text.to_owned()));
        let graph = r#"{"value": [1, 2], "@odata.nextLink": "n"}"#;
        for (results, path) in [
            ("value", r#"[\"@odata.nextLink\"]"#),
            ("$.value", "['@odata.nextLink']"),
            ("$.value[*]", "$['@odata.nextLink']"),
            ("$..value[:]", "$..['@odata.nextLink']"),
        ] {
            let extra = format!(
                r#"{{"results": "{results}", "paging": {{"type": "cursor", "cursor": "{path}"}}}}"#
            );
            let page = read(&extra, graph).unwrap();
            assert_eq!(page.records, [&b"1"[..], b"2"], "{results}");
            assert_eq!((page.next, page.has_cursor), (cursor("n"), true), "{path}");
        }
        // The link of a list of links; nothing selected is no cursor and no record.
        let links = r#"{"results": "$.data[*].items[*]", "paging": {"type": "cursor", "cursor": "$.links[?@.rel=='next'].href"}}"#;
        let page = read(
            links,
            r#"{"data": [{"items": [1]}, {"items": [2, 3]}], "links": [{"rel": "self", "href": "s"}, {"rel": "next", "href": "n"}]}"#,
        )
        .unwrap();
        assert_eq!(page.records, [&b"1"[..], b"2", b"3"]);
        assert_eq!(page.next, cursor("n"));
        let page = read(links, r#"{"data": [], "links": []}"#).unwrap();
        assert!(page.records.is_empty() && page.next.is_none() && !page.has_cursor);
        let two = r#"{"links": [{"rel": "next", "href": 1}, {"rel": "next", "href": 2}]}"#;
        let error = read(links, two).unwrap_err();
        assert!(error.contains("selects 2 values"), "{error}");
    }

    #[test]
    fn links_are_followed_on_the_same_server_only() {
        let pages = pages(r#"{"results": "", "paging": {"type": "link"}}"#);
        let next = |link: &str| {
            let page = pages.read(&At::Start, answer("[1]", Some(link)))?;
            Ok::<_, String>(page.next)
        };
        let found = next(r#"</v1/messages?p=0>; rel="prev", </v1/messages?p=2>; rel="next""#);
        let url = "http://api.example/v1/messages?p=2".to_owned();
        assert_eq!(found, Ok(Some(At::Url(url))));
        assert_eq!(next(r#"<x>; rel="last""#), Ok(None));
        let error = next(r#"<https://evil.example/>; rel=next"#).unwrap_err();
        assert!(error.contains("another server"), "{error}");
    }

    #[test]
    fn answers_of_another_kind_are_quoted() {
        let pages = pages("{}");
        let said = |body: &str| pages.read(&At::Start, answer(body, None)).unwrap_err();
        let html = said("<html><body>Bad gateway</body></html>");
        assert!(
            html.contains("not JSON") && html.contains("Bad gateway"),
            "{html}"
        );
        assert!(said(r#"{"items": []}"#).contains("no array at `results`"));
        assert!(said(r#"{"results": {}}"#).contains("no array at `results`"));
        assert!(said(r#"{"results": [1], "cursor": [2]}"#).contains("the cursor is [2]"));
        assert!(said("").contains("not JSON"));
    }
}
