//! Rows as JSON.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use forebay_connect::keyed::{CellValue, DataType, KeyedRow, TableSchema};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::response::{JSON, build_response};

pub(super) struct RenderedRow {
    body: Bytes,
    etag: HeaderValue,
}

impl RenderedRow {
    pub(super) fn new(names: &[String], shape: &TableSchema, row: &KeyedRow) -> Self {
        let mut body = String::with_capacity(256);
        for ((name, column), value) in names.iter().zip(&shape.columns).zip(&row.0) {
            body.push(if body.is_empty() { '{' } else { ',' });
            body.push_str(name);
            body.push(':');
            body.push_str(&json_text(value, column.kind));
        }
        body.push('}');
        let etag = HeaderValue::from_str(&format!("\"{:.24x}\"", Sha256::digest(&body)));
        Self {
            body: Bytes::from(body),
            etag: etag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    pub(super) fn to_response(&self, headers: &HeaderMap) -> Response<Body> {
        let known = headers.get_all(header::IF_NONE_MATCH).iter();
        let is_known = known
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag.as_bytes() == self.etag.as_bytes());
        let mut response = if is_known {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            build_response(StatusCode::OK, JSON, self.body.clone())
        };
        response
            .headers_mut()
            .insert(header::ETAG, self.etag.clone());
        response
    }
}

/// A value as JSON: numbers as numbers, JSON as it is.
fn json_text(value: &CellValue, kind: DataType) -> String {
    match value {
        CellValue::Null => "null".to_owned(),
        CellValue::Integer(n) => n.to_string(),
        CellValue::Boolean(b) => b.to_string(),
        // JSON has no such numbers; as strings they differ from null.
        CellValue::Double(n) if n.is_nan() => quoted("NaN"),
        CellValue::Double(n) if n.is_infinite() => {
            quoted(if *n > 0.0 { "Infinity" } else { "-Infinity" })
        }
        CellValue::Double(n) => json!(n).to_string(),
        CellValue::Timestamp(t) => quoted(&t.to_string()),
        CellValue::Text(text) if kind != DataType::Json => quoted(text),
        // Foreign content may be invalid JSON: then it is sent as a string.
        CellValue::Text(text) | CellValue::Json(text) => {
            match serde_json::from_str::<&RawValue>(text) {
                Ok(_) => text.clone(),
                Err(_) => quoted(text),
            }
        }
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("every string can be written as JSON")
}
