//! Redirect policy: the effect of a 3xx response on its request.
//!
//! | request | 301, 302, 303 | 307, 308 | other 3xx |
//! | --- | --- | --- | --- |
//! | `GET` or `HEAD` without a body | followed on the same origin | the same | a failure |
//! | any other | a failure | followed on the same origin, unchanged | a failure |
//!
//! Most clients follow 301, 302 and 303 with a GET without the body, whose 200 says nothing about
//! the record. Following to another origin would send it the record and the configured headers.

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, StatusCode, Url};

/// Characters of a `Location` that are shown.
const SHOWN: usize = 200;
/// A path segment of our own URL of this length may be a secret, as in webhook URLs.
const SECRET_STEP: usize = 16;

/// What to do after the head of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RedirectDecision {
    /// Use the response.
    Final,
    /// Repeat the request at this URL.
    Follow(Url),
    /// A redirect that is not followed: message with the status and the `Location`.
    Stop(String),
}

pub(super) fn evaluate(
    method: &Method,
    has_body: bool,
    from: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> RedirectDecision {
    if !status.is_redirection() {
        return RedirectDecision::Final;
    }
    let only_reads = !has_body && matches!(*method, Method::GET | Method::HEAD);
    let may_follow = match status.as_u16() {
        307 | 308 => true,
        301..=303 => only_reads,
        _ => false,
    };
    let location = match location(headers, from) {
        Ok(location) => location,
        Err(problem) => return RedirectDecision::Stop(format!("{status} {problem}")),
    };
    let redacted = redacted_location(&location, from);
    let stop = |why: &str| {
        RedirectDecision::Stop(format!(
            "{status}, Location: {redacted}: not followed, {why}"
        ))
    };
    if !may_follow && only_reads {
        return stop("only 301, 302, 303, 307 and 308 are followed");
    }
    if !may_follow {
        return stop(&format!("{method} follows only 307 and 308"));
    }
    if location.origin() != from.origin() {
        return stop("it points to another server");
    }
    let user = |url: &Url| (url.username().to_owned(), url.password().map(str::to_owned));
    let names_user = user(&location) != (String::new(), None);
    if names_user && user(&location) != user(from) {
        return stop("it contains a user");
    }
    let mut location = location;
    location.set_fragment(None);
    // Credentials stay the same on the same origin. Neither call fails for a URL with a host.
    let (name, password) = user(from);
    let is_user_set = location.set_username(&name).is_ok();
    if is_user_set && location.set_password(password.as_deref()).is_ok() {
        RedirectDecision::Follow(location)
    } else {
        stop("it is not a valid URL")
    }
}

/// The only `Location` of a response.
fn location(headers: &HeaderMap, from: &Url) -> Result<Url, String> {
    let mut values = headers.get_all(LOCATION).iter();
    let Some(value) = values.next() else {
        return Err("without a Location".to_owned());
    };
    if values.any(|other| other != value) {
        return Err("with more than one Location".to_owned());
    }
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| "with a Location that is not UTF-8".to_owned())?;
    match from.join(text) {
        Ok(url) if url.has_host() => Ok(url),
        _ => Err(format!(
            "with an invalid Location: {}",
            clean(text.split(['?', '#']).next().unwrap_or_default())
        )),
    }
}

/// A URL as it is shown: for our own origin only the path, as readers need not know our URL; never
/// user, password and query; and no long segment of our own path.
fn redacted_location(location: &Url, from: &Url) -> String {
    let own: Vec<&str> = from.path().split('/').collect();
    let step = |step: &str| {
        let is_secret = step.len() >= SECRET_STEP && own.contains(&step);
        if is_secret { "…" } else { step }.to_owned()
    };
    let steps: Vec<String> = location.path().split('/').map(step).collect();
    let mut text = steps.join("/");
    if location.origin() != from.origin() {
        let port = location
            .port()
            .map_or_else(String::new, |p| format!(":{p}"));
        let host = location.host_str().unwrap_or_default();
        text = format!("{}://{host}{port}{text}", location.scheme());
    }
    if location.query().is_some() {
        text.push_str("?…");
    }
    clean(&text)
}

/// On one line, and short.
fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "http://u:p@host.example:8080/in/T0123456789abcdef?key=hush";

    fn decide(
        method: &Method,
        has_body: bool,
        status: u16,
        locations: &[&str],
    ) -> RedirectDecision {
        let mut headers = HeaderMap::new();
        for location in locations {
            let value = reqwest::header::HeaderValue::from_bytes(location.as_bytes()).unwrap();
            headers.append(LOCATION, value);
        }
        let status = StatusCode::from_u16(status).unwrap();
        let from = Url::parse(FROM).unwrap();
        evaluate(method, has_body, &from, status, &headers)
    }

    fn followed(next: RedirectDecision) -> Option<String> {
        match next {
            RedirectDecision::Follow(url) => Some(url.to_string()),
            _ => None,
        }
    }

    #[test]
    fn every_status_and_kind_of_request_is_handled_as_the_table_states() {
        for status in 100..=999 {
            for (method, has_body) in [
                (Method::GET, false),
                (Method::HEAD, false),
                (Method::GET, true),
                (Method::POST, true),
                (Method::POST, false),
                (Method::PUT, true),
                (Method::PATCH, true),
                (Method::DELETE, false),
            ] {
                let decided = decide(&method, has_body, status, &["/x"]);
                let only_reads = !has_body && [Method::GET, Method::HEAD].contains(&method);
                let at = format!("{method} {has_body} {status} {decided:?}");
                match status {
                    307 | 308 => assert!(matches!(decided, RedirectDecision::Follow(_)), "{at}"),
                    301..=303 if only_reads => {
                        assert!(matches!(decided, RedirectDecision::Follow(_)), "{at}")
                    }
                    300..=399 => assert!(matches!(decided, RedirectDecision::Stop(_)), "{at}"),
                    _ => assert_eq!(decided, RedirectDecision::Final, "{at}"),
                }
            }
        }
    }

    #[test]
    fn locations_on_the_same_origin_are_followed_with_our_credentials() {
        for (location, to) in [
            ("/x", "http://u:p@host.example:8080/x"),
            ("x", "http://u:p@host.example:8080/in/x"),
            (
                "?a=b",
                "http://u:p@host.example:8080/in/T0123456789abcdef?a=b",
            ),
            ("//host.example:8080/x#f", "http://u:p@host.example:8080/x"),
            (
                "HTTP://HOST.example:8080/ü",
                "http://u:p@host.example:8080/%C3%BC",
            ),
            (
                "http://u:p@host.example:8080/x",
                "http://u:p@host.example:8080/x",
            ),
        ] {
            let decided = decide(&Method::POST, true, 308, &[location]);
            assert_eq!(followed(decided).as_deref(), Some(to), "{location}");
        }
    }

    #[test]
    fn everything_else_is_a_failure_that_shows_the_location_and_no_secret() {
        for (locations, said) in [
            (&[][..], "308 Permanent Redirect without a Location"),
            (&["/a", "/b"], "more than one Location"),
            (&["http://"], "invalid Location: http://"),
            (&["mailto:x@y"], "invalid Location: mailto:x@y"),
            (
                &["\u{ff}\u{fe}http://[::1"],
                "points to another server|invalid Location",
            ),
            (
                &["https://host.example:8080/x"],
                "https://host.example:8080/x: not followed, it points to another server",
            ),
            (
                &["http://host.example/x"],
                "http://host.example/x: not followed, it points to another",
            ),
            (
                &["http://host.example:8081/x"],
                "it points to another server",
            ),
            (
                &["//evil.example/x?t=hush"],
                "http://evil.example/x?…: not followed",
            ),
            (
                &["/\\evil.example/x"],
                "http://evil.example/x: not followed",
            ),
            (
                &["http://a:hush@evil.example/"],
                "http://evil.example/: not followed",
            ),
            (
                &["http://other:hush@host.example:8080/"],
                "Location: /: not followed, it contains a user",
            ),
            (
                &["https://host.example/in/T0123456789abcdef"],
                "https://host.example/in/…: not followed",
            ),
        ] {
            let RedirectDecision::Stop(text) = decide(&Method::PUT, true, 308, locations) else {
                assert!(said.contains('|'), "{locations:?}");
                continue;
            };
            let fits = said.split('|').any(|s| text.contains(s));
            assert!(fits, "{locations:?}: {text}");
            assert!(!text.contains("hush") && !text.contains("T0123"), "{text}");
        }
    }

    #[test]
    fn the_message_is_short_and_on_one_line() {
        let long = format!("/{}", "a".repeat(5_000));
        let RedirectDecision::Stop(text) = decide(&Method::POST, true, 302, &[&long]) else {
            panic!("followed");
        };
        assert!(text.len() < 400, "{text}");
        let RedirectDecision::Stop(text) = decide(&Method::POST, true, 302, &["/a\tb"]) else {
            panic!("followed");
        };
        assert_eq!(
            text,
            "302 Found, Location: /ab: not followed, POST follows only 307 and 308"
        );
    }
}
