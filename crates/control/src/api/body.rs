//! Request bodies: read within the size limit, parsed within a depth, checked against their schema.

use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ApiState;
use super::body_limiter::BodyPermit;
use super::error::{ApiError, ErrorName};
use super::operation::ApiOperation;
use crate::compat::decoder;

/// Maximum nesting of objects and lists; the parser's own limit is deeper.
const DEPTH_MAX: usize = 32;

/// No query parameters, or no body.
#[derive(Debug, Deserialize)]
pub(super) struct EmptyInput {}

#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// A raw body with its headers.
#[derive(Debug)]
pub(super) struct RawBody {
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

/// Body type of a handler.
pub(super) trait FromBody: Sized + Send {
    /// Reads and validates the body.
    fn read(
        request: Request,
        api: &ApiState,
        operation: &ApiOperation,
    ) -> impl Future<Output = Result<Self, ApiError>> + Send;
}

impl FromBody for EmptyInput {
    async fn read(_: Request, _: &ApiState, _: &ApiOperation) -> Result<Self, ApiError> {
        Ok(Self {})
    }
}

impl FromBody for RawBody {
    async fn read(request: Request, api: &ApiState, _: &ApiOperation) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        Ok(Self {
            bytes: read_bytes(body, &body_permit(&parts), api).await?,
            headers: parts.headers,
        })
    }
}

impl<T: DeserializeOwned + Send> FromBody for JsonBody<T> {
    async fn read(
        request: Request,
        api: &ApiState,
        operation: &ApiOperation,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let schema = operation.body.as_deref().unwrap_or_default();
        reject_other_formats(&parts.headers, schema)?;
        let bytes = read_bytes(body, &body_permit(&parts), api).await?;
        if bytes.is_empty() {
            return Err(ApiError::from_template(ErrorName::MissingPayload, &[]));
        }
        typed(api, schema, parse(&bytes)?).map(Self)
    }
}

/// Converts a body that passed its schema.
pub(super) fn typed<T: DeserializeOwned>(
    api: &ApiState,
    schema: &str,
    value: Value,
) -> Result<T, ApiError> {
    api.operations.schemas.check_body(schema, &value)?;
    let value = match value {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other,
    };
    // The schema accepted it, so a failure is a difference between the schema and the type.
    serde_json::from_value(value).map_err(|e| undecodable(decoder::decode_error(e)))
}

/// Everything that is not clearly another format is read as JSON.
fn reject_other_formats(headers: &HeaderMap, schema: &str) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    match decoder::other_format(&essence, schema) {
        Some(text) => Err(undecodable(text)),
        None => Ok(()),
    }
}

fn undecodable(text: String) -> ApiError {
    ApiError::new(ErrorName::DecodePayload, text)
}

/// The permit of the request, released by `request_scope`.
fn body_permit(parts: &http::request::Parts) -> BodyPermit {
    let permit = parts.extensions.get::<BodyPermit>();
    permit.cloned().unwrap_or_default()
}

async fn read_bytes(
    mut body: axum::body::Body,
    permit: &BodyPermit,
    api: &ApiState,
) -> Result<Bytes, ApiError> {
    let limit = usize::try_from(api.config.body_limit.0).unwrap_or(usize::MAX);
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|e| ApiError::bad_request(format!("failed to read the request body: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if all.len() + data.len() > limit {
            let limit = &api.config.body_limit;
            return Err(ApiError::from_template(ErrorName::BodyTooLarge, &[limit]));
        }
        if !api.bodies.grow(permit, data.len()) {
            let text = "the memory for request bodies is used up, try again later";
            return Err(ApiError::too_many_requests(text).retry_after(1));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    if depth(bytes) > DEPTH_MAX {
        let cause = format!("nested deeper than {DEPTH_MAX} levels");
        return Err(undecodable(decoder::decode_error(cause)));
    }
    serde_json::from_slice(bytes).map_err(|e| undecodable(decoder::syntax_error(&e)))
}

/// Nesting depth of objects and lists, found without building a value.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        for (json, levels) in [
            (&br#"{"a":[{"b":"]]{{\"[["}]}"#[..], 3),
            (b"[[]]", 2),
            (b"]]]][", 1),
            (b"\"[\\\"[\"", 0),
        ] {
            assert_eq!(depth(json), levels);
        }
    }
}
