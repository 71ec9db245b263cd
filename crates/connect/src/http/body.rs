//! Bodies of responses: read and decompressed up to a limit.

use bytes::{Bytes, BytesMut};

use super::message::HttpResponse;
use super::unpack::EncodedBody;

/// Decompresses the body.
pub(super) async fn unpacked(mut response: HttpResponse, max: usize) -> HttpResponse {
    let result = match EncodedBody::from_headers(&mut response.headers) {
        Ok(None) => return response,
        Ok(Some(packed)) => {
            let (body, is_cut) = (std::mem::take(&mut response.body), response.is_cut);
            let work = move || packed.unpack(body, is_cut, max);
            let decoded = tokio::task::spawn_blocking(work).await;
            decoded.unwrap_or_else(|e| Err(format!("the response can't be unpacked: {e}")))
        }
        Err(problem) => Err(problem),
    };
    match result {
        Ok((body, is_cut)) => (response.body, response.is_cut) = (body, is_cut),
        Err(problem) => {
            response.body = Bytes::new();
            response.problem = Some(problem);
        }
    }
    response
}

/// Reads a body up to a limit; returns whether there is more.
pub(super) async fn read(
    response: &mut reqwest::Response,
    max: usize,
) -> Result<(Bytes, bool), reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        let remaining = max - body.len();
        body.extend_from_slice(chunk.get(..remaining).unwrap_or(&chunk));
        if chunk.len() > remaining {
            return Ok((body.freeze(), true));
        }
    }
    Ok((body.freeze(), false))
}
