//! Handshakes of webhook senders, which check the address before they send to it. Only those that
//! the source's settings name are answered, and only under its secret.
//!
//! Most senders expect a text of theirs back. So that no response can be turned into a page, it is
//! plain text that no browser interprets, short, and without any character that markup needs.

use bytes::Bytes;
use forebay_model::HandshakeKind;
use forebay_record::form;
use forebay_record::json::{JsonDocument, JsonKind};
use forebay_record::path::{CompiledPath, OwnedSelection};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::response::{self, Rejection, SourceResponse, plain, set};
use crate::dispatch::SourceRoute;

/// Maximum bytes of a challenge.
const CHALLENGE_MAX: usize = 1 << 10;
/// Maximum bytes of a body that may be a handshake.
const BODY_MAX: usize = 8 << 10;
const OKTA: &str = "x-okta-verification-challenge";
const CLOUDEVENTS: &str = "webhook-request-origin";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Methods that a source accepts; `None` is an unknown source.
pub(super) fn methods(route: Option<&SourceRoute>) -> HeaderValue {
    let mut methods = vec!["OPTIONS", "POST"];
    if let Some(route) = route {
        let answers = |kinds: &[HandshakeKind]| kinds.iter().any(|k| route.supports_handshake(*k));
        let by_get = [
            HandshakeKind::Dropbox,
            HandshakeKind::Hub,
            HandshakeKind::Okta,
        ];
        for (kinds, method) in [
            (&by_get[..], "GET"),
            (&[HandshakeKind::Head], "HEAD"),
            (&[HandshakeKind::Put], "PUT"),
        ] {
            if answers(kinds) {
                methods.push(method);
            }
        }
    }
    methods.sort_unstable();
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS, POST"))
}

/// Whether a request with this method carries a record.
pub(super) fn brings_record(route: &SourceRoute, method: &Method) -> bool {
    method == Method::POST || method == Method::PUT && route.supports_handshake(HandshakeKind::Put)
}

/// Responds to a handshake recognized by its method, address or headers.
pub(super) fn respond<B>(
    route: &SourceRoute,
    request: &Request<B>,
) -> Option<Result<SourceResponse, Rejection>> {
    let query = request.uri().query().unwrap_or_default();
    let asked = |name: &str| {
        let pairs = form::query_pairs(query).into_iter();
        let mut values = pairs.filter(|(n, _)| n == name);
        values.next().map(|(_, value)| value.unwrap_or_default())
    };
    match *request.method() {
        Method::HEAD if route.supports_handshake(HandshakeKind::Head) => {
            Some(Ok(plain(StatusCode::OK, b"")))
        }
        Method::GET => respond_to_get(route, request.headers(), &asked),
        Method::OPTIONS if route.supports_handshake(HandshakeKind::CloudEvents) => {
            let origin = request.headers().get(CLOUDEVENTS)?;
            Some(Ok(cloudevents(origin)))
        }
        Method::POST if route.supports_handshake(HandshakeKind::MicrosoftGraph) => {
            Some(echo("validationToken", &asked("validationToken")?))
        }
        _ => None,
    }
}

fn respond_to_get(
    route: &SourceRoute,
    headers: &HeaderMap,
    asked: &dyn Fn(&str) -> Option<String>,
) -> Option<Result<SourceResponse, Rejection>> {
    if route.supports_handshake(HandshakeKind::Okta)
        && let Some(challenge) = headers.get(OKTA)
    {
        let challenge = String::from_utf8_lossy(challenge.as_bytes()).into_owned();
        let answered = check_challenge(OKTA, &challenge).map(|()| {
            let response = response::json(StatusCode::OK, &json!({ "verification": challenge }));
            uncached(response)
        });
        return Some(answered);
    }
    if route.supports_handshake(HandshakeKind::Hub)
        && let Some(challenge) = asked("hub.challenge")
    {
        return Some(hub(route, asked, &challenge));
    }
    if route.supports_handshake(HandshakeKind::Dropbox)
        && let Some(challenge) = asked("challenge")
    {
        return Some(echo("challenge", &challenge));
    }
    None
}

/// Confirms subscriptions only: ending one is up to the hub's user.
fn hub(
    route: &SourceRoute,
    asked: &dyn Fn(&str) -> Option<String>,
    challenge: &str,
) -> Result<SourceResponse, Rejection> {
    let mode = asked("hub.mode").unwrap_or_default();
    if mode != "subscribe" {
        let cause = format!("hub.mode is \"{}\", only subscribe is answered", cut(&mode));
        return Err(Rejection::Handshake(StatusCode::FORBIDDEN, cause));
    }
    let token = asked("hub.verify_token").unwrap_or_default();
    let is_right =
        |wanted: &str| wanted.is_empty() || bool::from(wanted.as_bytes().ct_eq(token.as_bytes()));
    let mut answering = route.handshakes_of_kind(HandshakeKind::Hub);
    if !answering.any(|h| is_right(&h.verify_token)) {
        let cause = "hub.verify_token is not that of the setting source.handshake.verifyToken";
        return Err(Rejection::Handshake(
            StatusCode::FORBIDDEN,
            cause.to_owned(),
        ));
    }
    echo("hub.challenge", challenge)
}

/// Responds to a record that is a handshake by its body.
pub(super) fn respond_to_body(
    route: &SourceRoute,
    body: &Bytes,
) -> Option<Result<SourceResponse, Rejection>> {
    if body.len() > BODY_MAX || !route.supports_handshake(HandshakeKind::Slack) {
        return None;
    }
    let document = JsonDocument::parse(body.clone()).ok()?;
    let text = |name: &str| {
        let OwnedSelection::One(found) =
            CompiledPath::compile(name).ok()?.select(&document).ok()?
        else {
            return None;
        };
        let is_plain = document.kind(found) == JsonKind::String && !document.string(found).1;
        is_plain.then(|| String::from_utf8_lossy(document.string(found).0).into_owned())
    };
    if text("type")? != "url_verification" {
        return None;
    }
    Some(echo("challenge", &text("challenge")?))
}

fn cloudevents(origin: &HeaderValue) -> SourceResponse {
    let mut response = plain(StatusCode::OK, b"");
    set(
        &mut response,
        ALLOW,
        HeaderValue::from_static("OPTIONS, POST"),
    );
    let headers = response.headers_mut();
    headers.insert("webhook-allowed-origin", origin.clone());
    headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    uncached(response)
}

fn echo(name: &str, challenge: &str) -> Result<SourceResponse, Rejection> {
    check_challenge(name, challenge)?;
    let mut response = plain(StatusCode::OK, b"");
    *response.body_mut() = challenge.to_owned().into();
    set(&mut response, CONTENT_TYPE, TEXT);
    Ok(uncached(response))
}

fn uncached(mut response: SourceResponse) -> SourceResponse {
    set(&mut response, CACHE_CONTROL, NO_STORE);
    response
}

/// Accepts printable ASCII without markup characters: real challenges are tokens or words.
fn check_challenge(name: &str, challenge: &str) -> Result<(), Rejection> {
    let is_harmless = |b: u8| matches!(b, b' '..=b'~') && !b"<>&\"'`".contains(&b);
    let cause = if challenge.is_empty() {
        format!("{name} is empty")
    } else if challenge.len() > CHALLENGE_MAX {
        format!(
            "{name} has {} bytes, at most {CHALLENGE_MAX} are answered",
            challenge.len()
        )
    } else if !challenge.bytes().all(is_harmless) {
        format!(
            "{name} has other characters than those of a token; quotes, <, > and & are not answered"
        )
    } else {
        return Ok(());
    };
    Err(Rejection::Handshake(StatusCode::BAD_REQUEST, cause))
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
