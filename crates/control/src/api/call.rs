//! What a request must be before a handler sees it, in the order of the contract: body, then
//! parameters and headers together, token, branch, role.

use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Query, RawPathParams, Request};
use bytes::Bytes;
use forebay_model::{BranchId, BranchKey, SinkId, SinkKey, SourceId, SourceKey};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{self, ApiError};
use super::operation::Operation;
use super::params::{BranchPath, SinkPath, SourcePath, TaskPath};
use super::{Inner, Shared};
use crate::auth::{AuthError, Identity};

/// Where the token is.
pub(super) const TOKEN_HEADER: &str = "x-storageapi-token";
/// Levels of objects and lists in a body; the parser's own limit is deeper.
const DEPTH_MAX: usize = 32;

/// A request that has passed all checks.
#[derive(Debug)]
pub(super) struct Call<P, Q = Nothing, B = Nothing> {
    pub(super) who: Identity,
    /// That of the address, or the project's default one.
    pub(super) branch: BranchKey,
    pub(super) path: P,
    pub(super) query: Q,
    pub(super) body: B,
}

/// No query parameters, or no body.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// A body of any kind, with the header fields.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

/// What a handler takes of the body.
pub(super) trait Body: Sized + Send {
    /// Reads and checks it.
    fn read(
        request: Request,
        api: &Inner,
        operation: &Operation,
    ) -> impl Future<Output = Result<Self, ApiError>> + Send;
}

impl Body for Nothing {
    async fn read(_: Request, _: &Inner, _: &Operation) -> Result<Self, ApiError> {
        Ok(Self {})
    }
}

impl Body for Raw {
    async fn read(request: Request, api: &Inner, _: &Operation) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        Ok(Self {
            headers: parts.headers,
            bytes: read_bytes(body, api).await?,
        })
    }
}

impl<T: DeserializeOwned + Send> Body for Json<T> {
    async fn read(request: Request, api: &Inner, operation: &Operation) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let schema = operation.body.as_deref().unwrap_or_default();
        refuse_other_formats(&parts.headers, schema)?;
        let bytes = read_bytes(body, api).await?;
        if bytes.is_empty() {
            let text = "missing required payload";
            return Err(ApiError::invalid("missingPayload", text));
        }
        let value = parse(&bytes)?;
        api.operations.schemas.check_body(schema, &value)?;
        let value = match value {
            Value::Null => Value::Object(serde_json::Map::new()),
            other => other,
        };
        // The schema has let it pass, so a refusal is a difference between it and the type.
        let typed = serde_json::from_value(value);
        let typed = typed.map_err(|e| ApiError::invalid("decodePayload", format!("json: {e}")))?;
        Ok(Self(typed))
    }
}

/// As in the compatible service, everything that is not plainly another format is read as JSON.
fn refuse_other_formats(headers: &HeaderMap, schema: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let other = ["text/plain", "text/html", "application/xml", "application/gob"];
    if other.contains(&essence.as_str()) {
        let text = format!("can't decode {essence} to *server.{schema}");
        return Err(ApiError::invalid("decodePayload", text));
    }
    Ok(())
}

async fn read_bytes(body: axum::body::Body, api: &Inner) -> Result<Bytes, ApiError> {
    let limit = usize::try_from(api.config.body_limit.0).unwrap_or(usize::MAX);
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "bodyTooLarge",
            format!(
                "request body size is over the maximum \"{}\"",
                api.config.body_limit
            ),
        )),
        Err(e) => Err(ApiError::bad_request(format!(
            "the request body can't be read: {e}"
        ))),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let invalid = |text: String| ApiError::invalid("decodePayload", text);
    if depth(bytes) > DEPTH_MAX {
        return Err(invalid(format!(
            "json: nested deeper than {DEPTH_MAX} levels"
        )));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        if e.is_eof() {
            invalid("unexpected EOF".to_owned())
        } else {
            invalid(format!("json: {e}"))
        }
    })
}

/// How deep objects and lists are nested, found without building anything.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut most) = (0usize, 0usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{' | b'[') => {
                now += 1;
                most = most.max(now);
            }
            (false, b'}' | b']') => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// What stands in an address.
pub(super) trait Address {
    /// The branch, as it is written there.
    fn branch(&self) -> Option<&str>;
}

impl Address for BranchPath {
    fn branch(&self) -> Option<&str> {
        Some(&self.branch_id)
    }
}

impl Address for SourcePath {
    fn branch(&self) -> Option<&str> {
        Some(&self.branch_id)
    }
}

impl Address for SinkPath {
    fn branch(&self) -> Option<&str> {
        Some(&self.branch_id)
    }
}

impl Address for TaskPath {
    fn branch(&self) -> Option<&str> {
        None
    }
}

impl<P, Q, B> FromRequest<Shared> for Call<P, Q, B>
where
    P: Address + DeserializeOwned + Send,
    Q: DeserializeOwned + Send,
    B: Body,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, ApiError> {
        let api: &Inner = api;
        let (mut parts, body) = request.into_parts();
        let route = parts.extensions.get::<MatchedPath>().map(|m| m.as_str());
        let operation = route.and_then(|r| api.operations.get(&parts.method, r));
        let operation = operation.ok_or_else(|| ApiError::internal("route without operation"))?;
        let path = path_parameters(&mut parts).await;
        let query = query_parameters(&parts.uri);
        let token = token(&parts.headers);

        let body = B::read(Request::from_parts(parts, body), api, operation).await?;

        let mut findings = Vec::new();
        let parameters = operation.read_parameters(&path?, &query, &mut findings);
        if token.is_none() && operation.protected {
            let text = "\"X-StorageApi-Token\" is missing from header";
            findings.push(ApiError::invalid("missingField", text));
        }
        if let Some(error) = ApiError::all(findings) {
            return Err(error);
        }
        let who = authenticate(api, token.as_deref().unwrap_or_default()).await?;
        let path: P = typed(parameters.clone())?;
        let branch = branch(&who, path.branch())?;
        if operation.admin && !who.admin {
            let text = "only admin token can do write operations on streams";
            return Err(ApiError::forbidden(text));
        }
        Ok(Self {
            who,
            branch,
            path,
            query: typed(parameters)?,
            body,
        })
    }
}

/// The schema has let it pass, so a refusal is a mistake in this crate.
fn typed<T: DeserializeOwned>(parameters: Value) -> Result<T, ApiError> {
    serde_json::from_value(parameters).map_err(ApiError::internal)
}

async fn path_parameters(
    parts: &mut http::request::Parts,
) -> Result<Vec<(String, String)>, ApiError> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params.iter().map(own).collect()),
        Err(e) => Err(ApiError::bad_request(format!("invalid address: {e}"))),
    }
}

fn query_parameters(uri: &http::Uri) -> Vec<(String, String)> {
    // Pairs of texts are what every query decodes to.
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    pairs.map(|q| q.0).unwrap_or_default()
}

/// The token of a request: of its own header field, or of `Authorization`.
fn token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let own = headers.get(TOKEN_HEADER).map(|v| v.as_bytes());
    if let Some(value) = own.filter(|v| !v.is_empty()) {
        // A scheme word before it is not part of it.
        let start = value.iter().position(|b| *b == b' ').map_or(0, |i| i + 1);
        return Some(value.get(start..).unwrap_or_default().to_vec());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    (is_bearer && !token.is_empty()).then(|| token.to_vec())
}

async fn authenticate(api: &Inner, token: &[u8]) -> Result<Identity, ApiError> {
    api.auth.authenticate(token).await.map_err(|e| match e {
        AuthError::Invalid => {
            let text = "Invalid access token.";
            ApiError::new(StatusCode::UNAUTHORIZED, "storage.tokenInvalid", text)
        }
        AuthError::Unavailable(cause) => ApiError::unavailable(cause),
    })
}

fn branch(who: &Identity, given: Option<&str>) -> Result<BranchKey, ApiError> {
    let key = who.default_branch_key();
    let Some(given) = given.filter(|g| *g != "default") else {
        return Ok(key);
    };
    match given.parse() {
        Ok(number) if BranchId(number) == key.branch => Ok(key),
        Ok(number) => Err(ApiError::bad_request(format!(
            "currently only default branch is supported, branch \"{number}\" is not default"
        ))),
        Err(_) => Err(ApiError::bad_request(format!(
            "invalid branch: expected \"default\" or <int>, given \"{given}\""
        ))),
    }
}

impl<Q, B> Call<SourcePath, Q, B> {
    /// The source of the address. One with a `/` would be another key: there is none.
    pub(super) fn source_key(&self) -> Result<SourceKey, ApiError> {
        source_key(self.branch, &self.path.source_id)
    }
}

impl<Q, B> Call<SinkPath, Q, B> {
    /// The sink of the address.
    pub(super) fn sink_key(&self) -> Result<SinkKey, ApiError> {
        let id = &self.path.sink_id;
        Ok(SinkKey {
            source: source_key(self.branch, &self.path.source_id)?,
            sink: SinkId::from_raw(id),
        })
    }
}

fn source_key(branch: BranchKey, id: &str) -> Result<SourceKey, ApiError> {
    if id.contains('/') {
        return Err(error::source_not_found(id));
    }
    Ok(SourceKey {
        branch,
        source: SourceId::from_raw(id),
    })
}

/// A sink's id that could be part of another key is that of no sink; its source is looked at first.
pub(super) fn refuse_foreign(key: &SinkKey) -> Result<(), ApiError> {
    if key.sink.as_str().contains('/') {
        return Err(error::sink_not_found(key.sink.as_str()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        for (json, levels) in [
            (&br#"{"a":[{"b":"]]{{\"[["}]}"#[..], 3),
            (b"[[]]", 2),
            (b"]]]][", 1),
            (b"\"[\\\"[\"", 0),
        ] {
            assert_eq!(depth(json), levels);
        }
    }

    #[test]
    fn the_token_is_found_in_either_header() {
        let find = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            token(&headers).map(|t| String::from_utf8(t).unwrap())
        };
        let some = |t: &str| Some(t.to_owned());
        assert_eq!(find(TOKEN_HEADER, "abc"), some("abc"));
        assert_eq!(find(TOKEN_HEADER, "Bearer abc"), some("abc"));
        assert_eq!(find("authorization", "bearer abc"), some("abc"));
        for (name, value) in [
            (TOKEN_HEADER, ""),
            ("authorization", "Basic abc"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
        ] {
            assert_eq!(find(name, value), None, "{name}: {value}");
        }
    }
}
