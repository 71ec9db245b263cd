//! Handshakes of webhook senders: they ask the address for something before they send to it. Only
//! what the source's settings name is answered, and only under its secret.
//!
//! Most want a text of theirs back. So that no answer can be made to be a page, it is plain text that
//! no browser interprets, short, and without any character that markup needs.

use bytes::Bytes;
use forebay_model::Handshake;
use forebay_record::form;
use forebay_record::json::{Document, Kind};
use forebay_record::path::{Path, Selected};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::answer::{self, Answer, Refusal, plain, set};
use crate::dispatch::Target;

/// A challenge, in bytes.
const CHALLENGE_MAX: usize = 1 << 10;
/// A body that may be one.
const BODY_MAX: usize = 8 << 10;
const OKTA: &str = "x-okta-verification-challenge";
const CLOUDEVENTS: &str = "webhook-request-origin";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Methods that a source takes; `None` is one of which nothing is known.
pub(super) fn methods(target: Option<&Target>) -> HeaderValue {
    let mut methods = vec!["OPTIONS", "POST"];
    if let Some(target) = target {
        let answers = |kinds: &[Handshake]| kinds.iter().any(|k| target.answers(*k));
        let by_get = [Handshake::Dropbox, Handshake::Hub, Handshake::Okta];
        for (kinds, method) in [
            (&by_get[..], "GET"),
            (&[Handshake::Head], "HEAD"),
            (&[Handshake::Put], "PUT"),
        ] {
            if answers(kinds) {
                methods.push(method);
            }
        }
    }
    methods.sort_unstable();
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS, POST"))
}

/// Whether a request with this method brings a record.
pub(super) fn brings_record(target: &Target, method: &Method) -> bool {
    method == Method::POST || method == Method::PUT && target.answers(Handshake::Put)
}

/// The answer to a request that is a handshake by its method, address or headers.
pub(super) fn answer<B>(target: &Target, request: &Request<B>) -> Option<Result<Answer, Refusal>> {
    let query = request.uri().query().unwrap_or_default();
    let asked = |name: &str| {
        let pairs = form::query_pairs(query).into_iter();
        let mut values = pairs.filter(|(n, _)| n == name);
        values.next().map(|(_, value)| value.unwrap_or_default())
    };
    match *request.method() {
        Method::HEAD if target.answers(Handshake::Head) => Some(Ok(plain(StatusCode::OK, b""))),
        Method::GET => by_get(target, request.headers(), &asked),
        Method::OPTIONS if target.answers(Handshake::CloudEvents) => {
            let origin = request.headers().get(CLOUDEVENTS)?;
            Some(Ok(cloudevents(origin)))
        }
        Method::POST if target.answers(Handshake::MicrosoftGraph) => {
            Some(echo("validationToken", &asked("validationToken")?))
        }
        _ => None,
    }
}

fn by_get(
    target: &Target,
    headers: &HeaderMap,
    asked: &dyn Fn(&str) -> Option<String>,
) -> Option<Result<Answer, Refusal>> {
    if target.answers(Handshake::Okta)
        && let Some(challenge) = headers.get(OKTA)
    {
        let challenge = String::from_utf8_lossy(challenge.as_bytes()).into_owned();
        let answered = checked(OKTA, &challenge).map(|()| {
            let answer = answer::json(StatusCode::OK, &json!({ "verification": challenge }));
            uncached(answer)
        });
        return Some(answered);
    }
    if target.answers(Handshake::Hub)
        && let Some(challenge) = asked("hub.challenge")
    {
        return Some(hub(target, asked, &challenge));
    }
    if target.answers(Handshake::Dropbox)
        && let Some(challenge) = asked("challenge")
    {
        return Some(echo("challenge", &challenge));
    }
    None
}

/// Only a subscription is confirmed: who else than the hub's user could want one to end?
fn hub(
    target: &Target,
    asked: &dyn Fn(&str) -> Option<String>,
    challenge: &str,
) -> Result<Answer, Refusal> {
    let mode = asked("hub.mode").unwrap_or_default();
    if mode != "subscribe" {
        let cause = format!("hub.mode is \"{}\", only subscribe is answered", cut(&mode));
        return Err(Refusal::Handshake(StatusCode::FORBIDDEN, cause));
    }
    let token = asked("hub.verify_token").unwrap_or_default();
    let is_right =
        |wanted: &str| wanted.is_empty() || bool::from(wanted.as_bytes().ct_eq(token.as_bytes()));
    let mut answering = target.answering(Handshake::Hub);
    if !answering.any(|h| is_right(&h.verify_token)) {
        let cause = "hub.verify_token is not that of the setting source.handshake.verifyToken";
        return Err(Refusal::Handshake(StatusCode::FORBIDDEN, cause.to_owned()));
    }
    echo("hub.challenge", challenge)
}

/// The answer to a record that is a handshake by its body.
pub(super) fn by_body(target: &Target, body: &Bytes) -> Option<Result<Answer, Refusal>> {
    if body.len() > BODY_MAX || !target.answers(Handshake::Slack) {
        return None;
    }
    let document = Document::parse(body.clone()).ok()?;
    let text = |name: &str| {
        let Selected::One(found) = Path::compile(name).ok()?.select(&document).ok()? else {
            return None;
        };
        let is_plain = document.kind(found) == Kind::String && !document.string(found).1;
        is_plain.then(|| String::from_utf8_lossy(document.string(found).0).into_owned())
    };
    if text("type")? != "url_verification" {
        return None;
    }
    Some(echo("challenge", &text("challenge")?))
}

fn cloudevents(origin: &HeaderValue) -> Answer {
    let mut answer = plain(StatusCode::OK, b"");
    set(
        &mut answer,
        ALLOW,
        HeaderValue::from_static("OPTIONS, POST"),
    );
    let headers = answer.headers_mut();
    headers.insert("webhook-allowed-origin", origin.clone());
    headers.insert("webhook-allowed-rate", HeaderValue::from_static("*"));
    uncached(answer)
}

fn echo(name: &str, challenge: &str) -> Result<Answer, Refusal> {
    checked(name, challenge)?;
    let mut answer = plain(StatusCode::OK, b"");
    *answer.body_mut() = challenge.to_owned().into();
    set(&mut answer, CONTENT_TYPE, TEXT);
    Ok(uncached(answer))
}

fn uncached(mut answer: Answer) -> Answer {
    set(&mut answer, CACHE_CONTROL, NO_STORE);
    answer
}

/// Real challenges are tokens, or words of them.
fn checked(name: &str, challenge: &str) -> Result<(), Refusal> {
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
    Err(Refusal::Handshake(StatusCode::BAD_REQUEST, cause))
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
