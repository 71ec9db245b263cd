//! Checks of a request before its handler, in the order of the contract: body, then parameters and
//! headers together, token, branch, role.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{
    ConnectInfo, FromRequest, FromRequestParts, MatchedPath, Query, RawPathParams, Request,
};
use forebay_model::{BranchId, BranchKey, SinkId, SinkKey, SourceId, SourceKey};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::body::{EmptyInput, FromBody};
use super::error::{self, ApiError, ErrorName};
use super::rejection_audit::CallerCell;
use super::token_rate_limiter::RateLimitHeaders;
use super::{ApiState, SharedApi};
use crate::auth::{AuthError, CallerIdentity};
use forebay_api::TOKEN_HEADER;
use forebay_api::params::{
    BranchPath, DeadLetterPath, FilePath, ProjectPath, SinkPath, SinkVersionPath, SourcePath,
    SourceVersionPath, TablePath, TaskPath, TokenPath,
};

/// A request that passed all checks.
#[derive(Debug)]
pub(super) struct ApiCall<P, Q = EmptyInput, B = EmptyInput> {
    pub(super) who: CallerIdentity,
    /// Branch of the path, or the project's default branch.
    pub(super) branch: BranchKey,
    pub(super) path: P,
    pub(super) query: Q,
    pub(super) body: B,
}

/// Parameters of a path.
pub(super) trait PathParams {
    /// The branch as given.
    fn branch(&self) -> Option<&str> {
        None
    }
}

impl PathParams for EmptyInput {}
impl PathParams for ProjectPath {}
impl PathParams for TablePath {}
impl PathParams for TaskPath {}
impl PathParams for TokenPath {}

impl<P, Q, B> FromRequest<SharedApi> for ApiCall<P, Q, B>
where
    P: PathParams + DeserializeOwned + Send,
    Q: DeserializeOwned + Send,
    B: FromBody,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &SharedApi) -> Result<Self, ApiError> {
        let api: &ApiState = api;
        let (mut parts, body) = request.into_parts();
        let route = parts.extensions.get::<MatchedPath>().map(|m| m.as_str());
        let operation = route.and_then(|r| api.operations.get(&parts.method, r));
        let operation = operation.ok_or_else(|| ApiError::internal("route without operation"))?;
        let path = path_parameters(&mut parts).await;
        let query = query_parameters(&parts.uri);
        let token = token(&parts.headers);
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let from = from.map(|peer| peer.0.ip());
        let rate_limit_headers = parts.extensions.get::<RateLimitHeaders>().cloned();
        let rate_limit_headers = rate_limit_headers.unwrap_or_default();
        let caller = parts.extensions.get::<CallerCell>().cloned();
        let caller = caller.unwrap_or_default();

        let body = B::read(Request::from_parts(parts, body), api, operation).await?;

        let mut findings = Vec::new();
        let parameters = operation.read_parameters(&path?, &query, &mut findings);
        if token.is_none() && operation.protected {
            let values: [&dyn Display; 2] = [&"X-StorageApi-Token", &"header"];
            findings.push(ApiError::from_template(ErrorName::MissingField, &values));
        }
        if let Some(error) = ApiError::combine(findings) {
            return Err(error);
        }
        let mut who = authenticate(api, token.as_deref().unwrap_or_default(), from).await?;
        caller.set(&who);
        api.rate_limiter.check(&who, &rate_limit_headers)?;
        who.from = from.map(|address| address.to_string());
        let path: P = typed(parameters.clone())?;
        let branch = branch(&who, path.branch())?;
        if operation.admin && !who.admin {
            let text = operation.rejection_message();
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

/// The schema accepted them, so a failure is a bug of this crate.
fn typed<T: DeserializeOwned>(parameters: Value) -> Result<T, ApiError> {
    serde_json::from_value(parameters).map_err(ApiError::internal)
}

async fn path_parameters(
    parts: &mut http::request::Parts,
) -> Result<Vec<(String, String)>, ApiError> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params.iter().map(own).collect()),
        Err(e) => Err(ApiError::bad_request(format!("invalid path: {e}"))),
    }
}

pub(super) fn query_parameters(uri: &http::Uri) -> Vec<(String, String)> {
    // Every query decodes to pairs of strings.
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    pairs.map(|q| q.0).unwrap_or_default()
}

/// The token, from its own header or from `Authorization`.
fn token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let own = headers.get(TOKEN_HEADER).map(|v| v.as_bytes());
    if let Some(value) = own.filter(|v| !v.is_empty()) {
        // Skip a scheme word.
        let start = value.iter().position(|b| *b == b' ').map_or(0, |i| i + 1);
        return Some(value.get(start..).unwrap_or_default().to_vec());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    (is_bearer && !token.is_empty()).then(|| token.to_vec())
}

async fn authenticate(
    api: &ApiState,
    token: &[u8],
    from: Option<IpAddr>,
) -> Result<CallerIdentity, ApiError> {
    api.wrong_tokens.check(from, token)?;
    api.auth.authenticate(token).await.map_err(|e| match e {
        AuthError::Invalid => {
            let too_many = api.wrong_tokens.record_failure(from);
            too_many.unwrap_or_else(|| ApiError::from_template(ErrorName::TokenInvalid, &[]))
        }
        AuthError::Unavailable(cause) => {
            // The caller is unknown: the cause is for the log.
            tracing::warn!(cause, "token lookup failed");
            ApiError::unavailable("the token could not be looked up, try again later")
        }
    })
}

/// Identifies the caller by the request's token.
pub(super) async fn identify(
    api: &ApiState,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> Result<CallerIdentity, ApiError> {
    let token =
        token(headers).ok_or_else(|| ApiError::from_template(ErrorName::TokenInvalid, &[]))?;
    authenticate(api, &token, from).await
}

fn branch(who: &CallerIdentity, given: Option<&str>) -> Result<BranchKey, ApiError> {
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

/// A path with a source.
pub(super) trait SourceScoped: PathParams {
    /// The source id as given.
    fn source(&self) -> &str;
}

/// A path with a sink.
pub(super) trait SinkScoped: SourceScoped {
    /// The sink id as given.
    fn sink(&self) -> &str;
}

macro_rules! path_params {
    (in a branch: $($path:ty),*) => {
        $(impl PathParams for $path {
            fn branch(&self) -> Option<&str> {
                Some(&self.branch_id)
            }
        })*
    };
    (in a source: $($path:ty),*) => {
        $(impl SourceScoped for $path {
            fn source(&self) -> &str {
                &self.source_id
            }
        })*
    };
    (in a sink: $($path:ty),*) => {
        $(impl SinkScoped for $path {
            fn sink(&self) -> &str {
                &self.sink_id
            }
        })*
    };
}

path_params!(in a branch: BranchPath, SourcePath, SourceVersionPath, SinkPath, SinkVersionPath, DeadLetterPath, FilePath);
path_params!(in a source: SourcePath, SourceVersionPath, SinkPath, SinkVersionPath, DeadLetterPath, FilePath);
path_params!(in a sink: SinkPath, SinkVersionPath, DeadLetterPath, FilePath);

impl<P: SourceScoped, Q, B> ApiCall<P, Q, B> {
    /// Key of the source in the path. An id with `/` would address another key: not found.
    pub(super) fn source_key(&self) -> Result<SourceKey, ApiError> {
        source_key(self.branch, self.path.source())
    }
}

impl<P: SinkScoped, Q, B> ApiCall<P, Q, B> {
    /// Key of the sink in the path.
    pub(super) fn sink_key(&self) -> Result<SinkKey, ApiError> {
        Ok(SinkKey {
            source: source_key(self.branch, self.path.source())?,
            sink: SinkId::from_raw(self.path.sink()),
        })
    }
}

pub(super) fn source_key(branch: BranchKey, id: &str) -> Result<SourceKey, ApiError> {
    if id.contains('/') {
        return Err(error::source_not_found(id));
    }
    Ok(SourceKey {
        branch,
        source: SourceId::from_raw(id),
    })
}

/// Rejects a sink id that could be part of another key; its source is checked first.
pub(super) fn reject_foreign(key: &SinkKey) -> Result<(), ApiError> {
    if key.sink.as_str().contains('/') {
        return Err(error::sink_not_found(key.sink.as_str()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
