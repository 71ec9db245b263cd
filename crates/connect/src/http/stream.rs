//! A response that arrives over a long time.

use bytes::Bytes;
use reqwest::StatusCode;

use super::body::read;
use super::error::{HttpError, describe};
use super::message::HttpResponse;

/// A response that arrives over a long time.
#[derive(Debug)]
pub struct HttpStream {
    pub(super) response: reqwest::Response,
    /// Maximum of body bytes of [`Self::into_response`].
    pub(super) max: usize,
}

impl HttpStream {
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection is interrupted.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|e| HttpError::unanswered(describe("response interrupted", e)))
    }

    /// Reads all of it, as the response of a usual request.
    ///
    /// # Errors
    /// When the connection is interrupted.
    pub async fn into_response(mut self) -> Result<HttpResponse, HttpError> {
        let read = read(&mut self.response, self.max).await;
        let (body, is_cut) =
            read.map_err(|e| HttpError::unanswered(describe("response interrupted", e)))?;
        Ok(HttpResponse {
            status: self.response.status(),
            headers: std::mem::take(self.response.headers_mut()),
            url: self.response.url().clone(),
            body,
            is_cut,
            problem: None,
        })
    }
}
