//! A paged HTTP API as a source.
//!
//! Pages are requested one after another, each only when a consumer is idle. A page's records and the
//! cursor after it are stored in the job's state before its first record is sent on, so a record that was
//! read is delivered, waiting or dead, whenever the job is killed; and no page is requested again once its
//! response was stored.

use std::sync::Arc;

use bytes::Bytes;
use forebay_connect::http::PersistedRetryAfter;

use crate::definition::{HttpApi, Paging};
use crate::engine::execution::JobExecution;
use crate::engine::outcome::{JobFailure, add};
use crate::engine::queue::QueueSender;
use crate::http::HttpApiClient;
use crate::rate_limiter::ApiRateLimiter;
use crate::record::{Record, RecordOrigin, RecordPosition, StageBatch};

mod page;
mod page_cursor;
mod recent_set;
mod request;

use page::{ApiPage, PageReader, PageToken};
use page_cursor::PageCursor;
use recent_set::RecentSet;

/// The next action of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PagingStep {
    Request,
    End,
    Stop,
}

/// An API source in a run.
pub(crate) struct ApiSource {
    execution: Arc<JobExecution>,
    api: HttpApi,
    pages: PageReader,
    client: HttpApiClient,
    limit: ApiRateLimiter,
    pause: PersistedRetryAfter,
    cursor: PageCursor,
    /// Pages that were read, by token.
    seen: RecentSet<PageToken>,
    /// Pages that were read, by the digest of their records.
    digests: RecentSet<String>,
    /// Consecutive failed requests.
    failures: u32,
}

impl ApiSource {
    /// Resumes at the cursor in the state.
    pub(crate) async fn new(
        execution: Arc<JobExecution>,
        api: &HttpApi,
    ) -> Result<Self, JobFailure> {
        let limit = match api.rate_limit {
            None => ApiRateLimiter::new(None),
            Some(limit) => {
                let file = execution.state.dir().join("requests");
                let limit = (limit.requests, limit.period.0);
                ApiRateLimiter::open(limit, &file, Arc::clone(&execution.clock))
                    .map_err(|e| JobFailure::State(format!("{}: {e}", file.display())))?
            }
        };
        let max = api.max_page_size.0;
        let client = HttpApiClient::new(api.auth.as_ref(), &api.headers, api.timeout.0, max)
            .map_err(JobFailure::Source)?;
        let pages = PageReader::new(api).map_err(JobFailure::Source)?;
        let stored = execution
            .state
            .api_position()
            .await
            .map_err(execution.state_failed())?;
        let cursor: PageCursor = match stored {
            None => PageCursor::first(),
            Some(text) => serde_json::from_str(&text)
                .map_err(|e| JobFailure::State(format!("invalid stored position {text}: {e}")))?,
        };
        let first = pages.url(&PageToken::Start).map_err(JobFailure::Source)?;
        let file = execution.state.dir().join("pause-source");
        let clock = Arc::clone(&execution.clock);
        let pause = PersistedRetryAfter::new(file, &first, api.retry_after_max.0, clock);
        if let Some(left) = pause.remaining() {
            tracing::info!(?left, "waiting for the rest of an earlier Retry-After");
            limit.pause(left);
        }
        let mut digests = RecentSet::default();
        cursor.digest.iter().for_each(|d| digests.insert(d.clone()));
        Ok(Self {
            execution,
            api: api.clone(),
            pages,
            client,
            limit,
            pause,
            cursor,
            seen: RecentSet::default(),
            digests,
            failures: 0,
        })
    }

    /// Reads until the end, a stop or a failure. True at the end.
    pub(crate) async fn read(mut self, out: QueueSender<StageBatch>) -> bool {
        match self.read_all(&out).await {
            Ok(is_end) => is_end,
            Err(failure) => {
                self.execution.control.fail(failure);
                false
            }
        }
    }

    async fn read_all(&mut self, out: &QueueSender<StageBatch>) -> Result<bool, JobFailure> {
        if !self.send_unacknowledged(out).await? {
            return Ok(false);
        }
        loop {
            if self.is_at_end() {
                self.check_cursor().await?;
                self.save_end().await?;
                return Ok(true);
            }
            self.check_next()?;
            tokio::select! {
                () = out.wait_for_demand() => {}
                () = self.execution.control.stop.cancelled() => return Ok(false),
            }
            let Some(page) = self.request().await? else {
                return Ok(false);
            };
            let next = if page.records.is_empty() {
                self.empty_page(page).await?
            } else if page
                .digest
                .as_ref()
                .is_some_and(|d| self.digests.contains(d))
            {
                self.repeated_page().await?
            } else {
                self.accept(page, out).await?
            };
            match next {
                PagingStep::Request => {}
                PagingStep::End => return Ok(true),
                PagingStep::Stop => return Ok(false),
            }
        }
    }

    /// A cursor that no page ever had is a mistake in its path, not an end: the pages after the first one would
    /// be skipped silently. The next run requests the same page again.
    async fn check_cursor(&mut self) -> Result<(), JobFailure> {
        let is_known_end = self.cursor.is_last || self.cursor.goes_round;
        if self.cursor.cursor_found || is_known_end || self.is_at_count() {
            return Ok(());
        }
        let (name, path) = match &self.api.paging {
            Paging::Cursor { cursor, .. } => ("cursor", cursor),
            Paging::Next { path } => ("path", path),
            Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => return Ok(()),
        };
        let hint = match path.contains('.') && !path.starts_with('$') && !path.contains('[') {
            true => format!(
                " (write a key with a dot as {})",
                forebay_record::path::quoted(path)
            ),
            false => String::new(),
        };
        let text = format!(
            "no page has a value at `{path}` (source.paging.{name}), so the next page is unknown: correct the path{hint}, or set until.pages to 1 if the API has one page"
        );
        self.cursor.no_next = false;
        (self.cursor.pages, self.cursor.records) = (0, 0);
        self.save_page(Vec::new()).await?;
        Err(JobFailure::Source(text))
    }

    /// Rejects a next page that is missing or was already read.
    fn check_next(&self) -> Result<(), JobFailure> {
        let url = self.url_text();
        if self.cursor.no_next {
            let at = match &self.api.paging {
                Paging::Cursor { cursor: path, .. } | Paging::Next { path } => {
                    format!(" at `{path}`")
                }
                Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => String::new(),
            };
            return Err(JobFailure::Source(format!(
                "{url} has no next page{at}; set until.noNext to end there"
            )));
        }
        if self.cursor.goes_round {
            return Err(JobFailure::Source(format!(
                "the API loops: the next page {url} was already read; set until.repeat to end there, or start over with `--fresh`"
            )));
        }
        Ok(())
    }

    /// Sends the records that an earlier run stored and did not acknowledge.
    async fn send_unacknowledged(&self, out: &QueueSender<StageBatch>) -> Result<bool, JobFailure> {
        let mut after = 0;
        loop {
            let records = self.execution.state.unacknowledged(after).await;
            let records = records.map_err(self.execution.state_failed())?;
            let Some((last, _)) = records.last() else {
                return Ok(true);
            };
            after = *last;
            if !self.send_records(records, out).await {
                return Ok(false);
            }
        }
    }

    async fn send_records(
        &self,
        records: Vec<(u64, Bytes)>,
        out: &QueueSender<StageBatch>,
    ) -> bool {
        let mut records = records.into_iter().map(|(seq, body)| Record {
            position: RecordPosition(seq),
            origin: RecordOrigin::Api(seq),
            body,
        });
        loop {
            let batch: Vec<Record> = records.by_ref().take(self.execution.batch_size).collect();
            if batch.is_empty() {
                return true;
            }
            // Records that are not sent stay in the inbox for the next run.
            if self.execution.control.stop.is_cancelled()
                || !out.send(StageBatch::Records(batch)).await
            {
                return false;
            }
        }
    }

    /// Handles a page without records.
    async fn empty_page(&mut self, page: ApiPage) -> Result<PagingStep, JobFailure> {
        let until = &self.api.until;
        self.cursor.cursor_found |= page.has_cursor;
        self.cursor.field_found |= page.has_field;
        self.cursor.no_next = page.next.is_none() && until.no_next;
        if until.empty_page || self.cursor.no_next || page.is_last {
            self.save_end().await?;
            return Ok(PagingStep::End);
        }
        if let Some(field) = until.field.as_ref().filter(|_| !self.cursor.field_found) {
            return Err(JobFailure::Source(format!(
                "a page has no records, and no page had a value at `{field}` (source.until.field), so the end is unknown: correct the path, or set until.equals to null if the last page lacks the field"
            )));
        }
        if let Some(next) = page.next
            && next != self.cursor.at
        {
            self.cursor.at = next;
            self.save_page(Vec::new()).await?;
        }
        let waited = self
            .execution
            .control
            .wait(self.api.empty_page_wait.0)
            .await;
        Ok(if waited {
            PagingStep::Request
        } else {
            PagingStep::Stop
        })
    }

    /// Handles a page with the records of an earlier one, which are not read again. The next run requests it
    /// once more.
    async fn repeated_page(&mut self) -> Result<PagingStep, JobFailure> {
        if self.api.until.repeat {
            self.save_end().await?;
            return Ok(PagingStep::End);
        }
        let url = self.url_text();
        Err(JobFailure::Source(format!(
            "the API loops: {url} has the records of an earlier page, so it may ignore the parameter (source.paging.param); set until.repeat to end there, or paging.repeats if pages may be equal"
        )))
    }

    /// Stores a page and sends its records.
    async fn accept(
        &mut self,
        page: ApiPage,
        out: &QueueSender<StageBatch>,
    ) -> Result<PagingStep, JobFailure> {
        let count = page.records.len();
        self.cursor.cursor_found |= page.has_cursor;
        self.cursor.field_found |= page.has_field;
        self.cursor.is_last = page.is_last;
        if !self.may_repeat()
            && let Some(digest) = page.digest
        {
            self.digests.insert(digest.clone());
            self.cursor.digest = Some(digest);
        }
        self.cursor.pages += 1;
        self.cursor.records += count as u64;
        match page.next {
            Some(next) => {
                let here = std::mem::replace(&mut self.cursor.at, next);
                self.seen.insert(here);
                self.cursor.goes_round = self.seen.contains(&self.cursor.at);
            }
            None => self.cursor.no_next = true,
        }
        let first = self.save_page(page.records.clone()).await?;
        add(&self.execution.progress.read, count);
        let records = (first..).zip(page.records).collect();
        let sent = self.send_records(records, out).await;
        Ok(if sent {
            PagingStep::Request
        } else {
            PagingStep::Stop
        })
    }

    async fn save_page(&self, records: Vec<Bytes>) -> Result<u64, JobFailure> {
        let cursor = serde_json::to_string(&self.cursor).unwrap_or_default();
        let stored = self.execution.state.accept_page(cursor, records).await;
        stored.map_err(self.execution.state_failed())
    }

    fn is_at_end(&self) -> bool {
        self.cursor.is_at_end(&self.api.until) || self.is_at_count()
    }

    /// Whether pages may have equal records.
    fn may_repeat(&self) -> bool {
        match &self.api.paging {
            Paging::Offset { repeats, .. } | Paging::Page { repeats, .. } => *repeats,
            Paging::Cursor { .. } | Paging::Next { .. } | Paging::Link => true,
        }
    }

    /// Whether the configured number of pages or records was read.
    fn is_at_count(&self) -> bool {
        self.cursor.is_at_count(&self.api.until)
    }

    /// Stores the cursor of the next run: after the last page, or at the start if nothing can follow it.
    async fn save_end(&mut self) -> Result<(), JobFailure> {
        self.cursor.end(self.api.until.repeat);
        self.save_page(Vec::new()).await.map(drop)
    }

    fn url_text(&self) -> String {
        let url = self.pages.url(&self.cursor.at);
        url.map_or_else(|e| e, |u| u.to_string())
    }
}
