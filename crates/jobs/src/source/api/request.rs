//! Requests of pages: rate limit, retries and the delays that the API asks for.

use std::sync::atomic::Ordering;

use forebay_model::Backoff;
use http::StatusCode;
use reqwest::Url;

use super::ApiSource;
use super::page::{ApiPage, PageError, PageToken};
use crate::engine::outcome::{JobFailure, add};
use crate::http::{CallError, CallResponse, PageHop};

impl ApiSource {
    /// Requests the next page until it succeeds. `None` when the run ends.
    pub(super) async fn request(&mut self) -> Result<Option<ApiPage>, JobFailure> {
        loop {
            let url = self
                .pages
                .url(&self.cursor.at)
                .map_err(JobFailure::Source)?;
            let Some(response) = self.fetch(url).await else {
                return Ok(None);
            };
            let error = match response {
                Ok(response) => match self.pages.read(&self.cursor.at, response) {
                    Ok(page) => {
                        self.failures = 0;
                        let records = page.records.len();
                        tracing::debug!(url = self.url_text(), records, "page read");
                        return Ok(Some(page));
                    }
                    Err(PageError::Again(text)) => CallError::without_response(text),
                    Err(PageError::Never(text)) => {
                        let url = self.url_text();
                        return Err(JobFailure::Source(format!("{url}: {text}")));
                    }
                },
                Err(error) if self.is_after_last_page(&error) => {
                    self.failures = 0;
                    return Ok(Some(ApiPage::none()));
                }
                Err(error) => error,
            };
            if !self.wait_after(&error).await? {
                return Ok(None);
            }
        }
    }

    /// Fetches a response, following redirects; each redirect counts for the rate limit. `None` when the run
    /// ends.
    async fn fetch(&self, url: Url) -> Option<Result<CallResponse, CallError>> {
        let mut call = self.client.page(url);
        loop {
            let permit = tokio::select! {
                permit = self.limit.acquire() => permit,
                () = self.execution.control.stop.cancelled() => return None,
            };
            self.execution
                .progress
                .requests
                .fetch_add(1, Ordering::Relaxed);
            let response = tokio::select! {
                response = call.hop(self.execution.clock.now()) => response,
                () = self.execution.control.stop.cancelled() => return None,
            };
            drop(permit);
            match response {
                Ok(PageHop::Page(response)) => return Some(Ok(*response)),
                Ok(PageHop::Redirect(None)) => {}
                Ok(PageHop::Redirect(Some(asked))) => self.limit.pause(self.pause.begin(asked)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Whether an error means that the page does not exist, as some APIs respond after the last one. Not for
    /// the first page: its URL may be wrong.
    fn is_after_last_page(&self, error: &CallError) -> bool {
        let statuses = &self.api.until.status;
        let is_end = error.status.is_some_and(|s| statuses.contains(&s.as_u16()));
        is_end && self.cursor.at != PageToken::Start
    }

    /// Waits after a failed request. False when the run ends meanwhile.
    async fn wait_after(&mut self, error: &CallError) -> Result<bool, JobFailure> {
        self.failures = self.failures.saturating_add(1);
        add(&self.execution.progress.retries, 1);
        let url = self.url_text();
        // Also when the job gives up now and a supervisor restarts it.
        let asked = error.retry_after.map(|asked| self.pause.begin(asked));
        if let Some(asked) = asked {
            self.limit.pause(asked);
        }
        if self.api.give_up_after.is_some_and(|n| self.failures >= n) {
            let (n, text) = (self.failures, &error.text);
            return Err(JobFailure::Source(format!(
                "{url} failed {n} times in a row: {text}"
            )));
        }
        let backoff = Backoff::doubling(self.api.error_wait.0, self.api.error_wait_max.0);
        let wait = match asked {
            Some(asked) => asked.max(backoff.initial),
            None => backoff.delay(self.failures),
        };
        let is_limited = error.status == Some(StatusCode::TOO_MANY_REQUESTS);
        tracing::warn!(
            url,
            error = error.text,
            failures = self.failures,
            ?wait,
            is_limited,
            "request failed"
        );
        Ok(self.execution.control.wait(wait).await)
    }
}
