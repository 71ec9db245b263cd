//! The dashboard: a web page in the binary that uses only this API.
//!
//! The sources are in `ui/`, their build in `ui/dist`; `ui/check` verifies that they match. The
//! page requests its data with the user's token: its assets need no token and contain none.

use std::io::Write;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::error::{ApiError, ErrorName};

/// Path of the page. Links in it are relative, so that it works behind a proxy's prefix.
pub(super) const PAGE: &str = "/ui";

/// Path of its assets.
pub(super) const ASSET: &str = "/ui/{part}";

/// The page may run scripts and load assets of this server and call this server, and nothing else.
/// So an entered token can't be sent elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    // Browsers revalidate each time and get 304 while the binary is the same.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page and its assets.
#[derive(Clone, Debug)]
pub(super) struct Dashboard {
    page: DashboardAsset,
    script: DashboardAsset,
    style: DashboardAsset,
    icon: DashboardAsset,
}

#[derive(Clone, Debug)]
struct DashboardAsset {
    kind: &'static str,
    plain: Bytes,
    gzip: Bytes,
    tag: HeaderValue,
}

impl Dashboard {
    /// Compresses the assets once for all requests.
    pub(super) fn new() -> Self {
        Self {
            page: DashboardAsset::new(
                "text/html; charset=utf-8",
                include_bytes!("../../../../ui/dist/index.html"),
            ),
            script: DashboardAsset::new(
                "text/javascript; charset=utf-8",
                include_bytes!("../../../../ui/dist/app.js"),
            ),
            style: DashboardAsset::new(
                "text/css; charset=utf-8",
                include_bytes!("../../../../ui/dist/app.css"),
            ),
            icon: DashboardAsset::new(
                "image/svg+xml",
                include_bytes!("../../../../ui/dist/icon.svg"),
            ),
        }
    }
}

impl DashboardAsset {
    fn new(kind: &'static str, plain: &'static [u8]) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        // Writing into memory can't fail; if it did, an empty asset would not be sent.
        let gzip = gzip.write_all(plain).and_then(|()| gzip.finish());
        Self {
            kind,
            plain: Bytes::from_static(plain),
            gzip: gzip.unwrap_or_default().into(),
            tag: entity_tag(plain),
        }
    }

    fn response(&self, request: &HeaderMap) -> Response {
        let mut response = if header_lists(request, &header::IF_NONE_MATCH, self.tag.as_bytes()) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if !self.gzip.is_empty() && header_lists(request, &header::ACCEPT_ENCODING, b"gzip")
        {
            let encoding = [(header::CONTENT_ENCODING, "gzip")];
            (encoding, self.gzip.clone()).into_response()
        } else {
            self.plain.clone().into_response()
        };
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::ETAG, self.tag.clone());
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        response
    }
}

/// A weak tag: both encodings of an asset have the same.
fn entity_tag(bytes: &[u8]) -> HeaderValue {
    let tag = format!("W/\"{:.24x}\"", Sha256::digest(bytes));
    HeaderValue::from_str(&tag).expect("quoted hexadecimal digits are a valid header value")
}

/// Whether a list header contains an item whose weight is not zero.
fn header_lists(headers: &HeaderMap, name: &HeaderName, item: &[u8]) -> bool {
    let values = headers.get_all(name).iter();
    let mut items = values.flat_map(|v| v.as_bytes().split(|b| *b == b','));
    items.any(|found| {
        let mut parts = found.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let is_it = parts.next().is_some_and(|p| p.eq_ignore_ascii_case(item));
        is_it && !parts.any(|p| matches!(p, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

pub(super) async fn page(State(dashboard): State<Dashboard>, headers: HeaderMap) -> Response {
    dashboard.page.response(&headers)
}

/// An asset of the page.
pub(super) async fn asset(
    State(dashboard): State<Dashboard>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let part = match name.as_str() {
        "app.js" => &dashboard.script,
        "app.css" => &dashboard.style,
        "icon.svg" => &dashboard.icon,
        _ => {
            let path = format!("{PAGE}/{name}");
            return Err(ApiError::from_template(
                ErrorName::EndpointNotFound,
                &[&path],
            ));
        }
    };
    Ok(part.response(&headers))
}
