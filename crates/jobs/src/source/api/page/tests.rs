use super::*;

fn message(error: PageError) -> String {
    match error {
        PageError::Again(text) => text,
        PageError::Never(text) => format!("for good: {text}"),
    }
}

fn pages(extra: &str) -> PageReader {
    let mut api = serde_json::json!({ "baseUrl": "http://api.example/v1/" });
    let extra: Value = serde_json::from_str(extra).unwrap();
    for (key, value) in extra.as_object().unwrap() {
        api[key] = value.clone();
    }
    PageReader::new(&serde_json::from_value(api).unwrap()).unwrap()
}

fn response(body: &str, link: Option<&str>) -> CallResponse {
    let mut headers = HeaderMap::new();
    if let Some(link) = link {
        headers.insert(header::LINK, link.parse().unwrap());
    }
    let url = "http://api.example/v1/messages".parse().unwrap();
    CallResponse::new(url, headers, Bytes::from(body.to_owned()))
}

#[test]
fn the_default_paging_has_the_cursor_in_the_path() {
    let pages = pages("{}");
    let url = |at: &PageToken| pages.url(at).unwrap().to_string();
    assert_eq!(url(&PageToken::Start), "http://api.example/v1/messages");
    let page = pages
        .read(
            &PageToken::Start,
            response(r#"{"results": [{"a": 1}, 2], "cursor": 17}"#, None),
        )
        .unwrap();
    assert_eq!(page.records, [&b"{\"a\": 1}"[..], b"2"]);
    let next = page.next.unwrap();
    assert_eq!(url(&next), "http://api.example/v1/messages/17");
    let odd = PageToken::Cursor("a/../b?c".to_owned());
    assert_eq!(url(&odd), "http://api.example/v1/messages/a%2F..%2Fb%3Fc");
    let page = pages
        .read(&next, response(r#"{"results": []}"#, None))
        .unwrap();
    assert!(page.records.is_empty() && page.next.is_none());
}

#[test]
fn other_response_formats_are_configurable() {
    let nested = pages(
        r#"{"path": "/items", "query": {"since": "x y"}, "results": "data.items",
            "paging": {"type": "cursor", "cursor": "data.next", "param": "after"}}"#,
    );
    let page = nested
        .read(
            &PageToken::Start,
            response(r#"{"data": {"items": [1], "next": "k\u00e9"}}"#, None),
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
            .url(&PageToken::Start)
            .unwrap()
            .as_str()
            .ends_with("?offset=0&limit=2")
    );
    let page = offset
        .read(&PageToken::Offset(4), response("[1, 2]", None))
        .unwrap();
    assert_eq!(page.next, Some(PageToken::Offset(6)));
    let numbered = pages(r#"{"paging": {"type": "page"}}"#);
    let page = numbered
        .read(&PageToken::Start, response(r#"{"results": [1]}"#, None))
        .unwrap();
    assert_eq!(page.next, Some(PageToken::Page(2)));
}

#[test]
fn links_are_followed_on_the_same_server_only() {
    let pages = pages(r#"{"results": "", "paging": {"type": "link"}}"#);
    let next = |link: &str| {
        let page = pages.read(&PageToken::Start, response("[1]", Some(link)));
        page.map(|p| p.next).map_err(message)
    };
    let found = next(r#"</v1/messages?p=0>; rel="prev", </v1/messages?p=2>; rel="next""#);
    let url = "http://api.example/v1/messages?p=2".to_owned();
    assert_eq!(found, Ok(Some(PageToken::Url(url))));
    assert_eq!(next(r#"<x>; rel="last""#), Ok(None));
    let error = next(r#"<https://evil.example/>; rel=next"#).unwrap_err();
    assert!(
        error.starts_with("for good") && error.contains("another server"),
        "{error}"
    );
    let error = next(r#"<https://api.example/v1/messages?p=2>; rel=next"#).unwrap_err();
    assert!(
        error.contains("baseUrl has to begin with https://"),
        "{error}"
    );
}

#[test]
fn unexpected_responses_are_quoted() {
    let pages = pages("{}");
    let error_for = |body: &str| {
        message(
            pages
                .read(&PageToken::Start, response(body, None))
                .unwrap_err(),
        )
    };
    let html = error_for("<html><body>Bad gateway</body></html>");
    assert!(
        html.contains("not JSON") && html.contains("Bad gateway"),
        "{html}"
    );
    assert!(error_for(r#"{"items": []}"#).contains("no array at `results`"));
    assert!(error_for(r#"{"results": {}}"#).contains("no array at `results`"));
    for odd in ["[2]", "{}", "true"] {
        let error = error_for(&format!(r#"{{"results": [1], "cursor": {odd}}}"#));
        assert!(
            error.starts_with("for good: the cursor") && error.contains(odd),
            "{error}"
        );
    }
    assert!(error_for("").contains("not JSON"));
}

#[test]
fn null_instead_of_a_list_is_an_empty_page() {
    let empty = |pages: &PageReader, body: &str| {
        let page = pages.read(&PageToken::Start, response(body, None)).unwrap();
        page.records.is_empty() && page.next.is_none()
    };
    assert!(empty(&pages("{}"), r#"{"results": null}"#));
    assert!(empty(&pages(r#"{"results": ""}"#), "null"));
    let nested = pages(r#"{"results": "data.items"}"#);
    assert!(empty(&nested, r#"{"data": {"items": null}}"#));
    let mut none = response("", None);
    none.status = StatusCode::NO_CONTENT;
    assert!(
        nested
            .read(&PageToken::Start, none)
            .unwrap()
            .records
            .is_empty()
    );
    for odd in [
        r#"{"data": null}"#,
        r#"{"data": {}}"#,
        "null",
        "false",
        r#"{"data":{"items":0}}"#,
    ] {
        let read = nested.read(&PageToken::Start, response(odd, None));
        assert!(matches!(read, Err(PageError::Again(_))), "{odd}");
    }
}

#[test]
fn some_cursors_mean_no_next_page() {
    let next = |pages: &PageReader, cursor: &str| {
        let body = format!(r#"{{"results": [1], "cursor": {cursor}}}"#);
        let page = pages
            .read(&PageToken::Start, response(&body, None))
            .unwrap();
        assert!(page.has_cursor && page.records.len() == 1);
        page.next
    };
    let cursor = |text: &str| Some(PageToken::Cursor(text.to_owned()));
    let plain = pages("{}");
    for end in ["null", "false", r#""""#, "0", "0.0", "-0"] {
        assert_eq!(next(&plain, end), None, "{end}");
    }
    for (cursor_json, text) in [
        (r#""0""#, "0"),
        ("1", "1"),
        ("-1", "-1"),
        (r#""false""#, "false"),
    ] {
        assert_eq!(next(&plain, cursor_json), cursor(text));
    }
    let own = pages(r#"{"paging": {"type": "cursor", "end": [-1, "done", true]}}"#);
    for end in ["-1", r#""done""#, "true", "null", "false"] {
        assert_eq!(next(&own, end), None, "{end}");
    }
    assert_eq!(next(&own, "0"), cursor("0"));
}

#[test]
fn the_url_of_the_next_page_may_be_in_the_response() {
    let next = |pages: &PageReader, next: &str| {
        let body = format!(r#"{{"results": [1], "next": {next}}}"#);
        let page = pages.read(&PageToken::Start, response(&body, None));
        page.map(|p| p.next.map(|at| pages.url(&at).unwrap().to_string()))
            .map_err(message)
    };
    let by_address = pages(r#"{"paging": {"type": "next"}, "query": {"a": "1"}}"#);
    for (json, address) in [
        (
            r#""http://api.example/v1/items?page=2""#,
            "http://api.example/v1/items?page=2",
        ),
        (
            r#""HTTP://API.example:80/v1/items?page=2#top""#,
            "http://api.example/v1/items?page=2",
        ),
        (r#""/v2?page=2""#, "http://api.example/v2?page=2"),
        (r#""?page=2""#, "http://api.example/v1/messages?page=2"),
        (r#""more""#, "http://api.example/v1/more"),
        (r#""\/v2""#, "http://api.example/v2"),
    ] {
        assert_eq!(next(&by_address, json), Ok(Some(address.to_owned())));
    }
    for end in ["null", "false", r#""""#] {
        assert_eq!(next(&by_address, end), Ok(None));
    }
    for other in [
        "https://api.example/v1?p=2",
        "http://api.example:81/",
        "http://evil.example/",
        "//evil.example/",
        "\\\\\\\\evil.example/",
        "file:///etc/passwd",
        "mailto:a@b",
    ] {
        let error = next(&by_address, &format!("\"{other}\"")).unwrap_err();
        assert!(
            error.starts_with("for good") && error.contains("another server"),
            "{error}"
        );
    }
    let error = next(&by_address, r#""http://u:p@api.example/""#).unwrap_err();
    assert!(
        error.contains("has a user") && !error.contains("u:p"),
        "{error}"
    );
    assert!(next(&by_address, "7").is_err() && next(&by_address, "{}").is_err());
    // A cursor that is an absolute URL is followed, unless it goes into a parameter.
    let cursor = pages(r#"{"paging": {"type": "cursor", "cursor": "next"}}"#);
    let address = r#""http://api.example/v1/items?page=2""#;
    assert_eq!(
        next(&cursor, address),
        Ok(Some("http://api.example/v1/items?page=2".to_owned()))
    );
    let in_path = next(&cursor, r#""/abc==""#).unwrap().unwrap();
    assert_eq!(in_path, "http://api.example/v1/messages/%2Fabc==");
    let param = pages(r#"{"paging": {"type": "cursor", "cursor": "next", "param": "c"}}"#);
    let in_param = next(&param, address).unwrap().unwrap();
    assert!(
        in_param.starts_with("http://api.example/v1/messages?c=http%3A%2F%2F"),
        "{in_param}"
    );
}

#[test]
fn a_field_marks_the_last_page() {
    let ends = |until: &str, body: &str| {
        let pages = pages(&format!(r#"{{"until": {until}}}"#));
        let body = format!(r#"{{"results": [1], "cursor": 7, {body}}}"#);
        let page = pages
            .read(&PageToken::Start, response(&body, None))
            .unwrap();
        assert_eq!(page.records.len(), 1);
        (page.has_field, page.is_last)
    };
    let more = r#"{"field": "meta.has_more"}"#;
    assert_eq!(ends(more, r#""meta": {"has_more": false}"#), (true, true));
    assert_eq!(ends(more, r#""meta": {"has_more": true}"#), (true, false));
    assert_eq!(
        ends(more, r#""meta": {"has_more": "false"}"#),
        (true, false)
    );
    assert_eq!(ends(more, r#""meta": null"#), (false, false));
    let last = r#"{"field": "last", "equals": true}"#;
    assert_eq!(ends(last, r#""last": true"#), (true, true));
    assert_eq!(ends(last, r#""first": true"#), (false, false));
    let gone = r#"{"field": "next", "equals": null}"#;
    assert_eq!(ends(gone, r#""next": null"#), (true, true));
    assert_eq!(ends(gone, r#""nex": 1"#), (true, true));
    assert_eq!(ends(gone, r#""next": false"#), (true, false));
    let left = r#"{"field": "left", "equals": 0}"#;
    assert_eq!(ends(left, r#""left": 0.0"#), (true, true));
    assert_eq!(ends(left, r#""left": 10"#), (true, false));
    let text = r#"{"field": "state", "equals": "done"}"#;
    assert_eq!(ends(text, r#""state": "d\u006fne""#), (true, true));
}

#[test]
fn paths_accept_quoted_keys_and_json_path() {
    let read = |extra: &str, body: &str| pages(extra).read(&PageToken::Start, response(body, None));
    let cursor = |text: &str| Some(PageToken::Cursor(text.to_owned()));
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
    // One link of a list of links; an empty selection is no cursor and no record.
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
    let error = message(read(links, two).unwrap_err());
    assert!(error.contains("selects 2 values"), "{error}");
}
