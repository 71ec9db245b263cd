//! A paged HTTP API as a source.
//!
//! One page after another, each asked for only when a consumer is free. A page's records and the
//! position behind it are in the job's state before its first record goes on, so a record that was
//! read is delivered, waiting or dead, whatever is killed; and no page is asked for again once its
//! answer was taken.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::definition::{HttpApi, Paging};
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Giver;
use crate::engine::{Run, retry};
use crate::http::{Answer, CallError, Client};
use crate::limit::RateLimit;
use crate::record::{Batch, Origin, Position, Record};

mod page;

use page::{At, Page, Pages};

/// Cursors that are remembered to notice when they go round.
const CURSORS_SEEN: usize = 10_000;
/// How long an API may ask to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Where the source is, as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    at: At,
    /// The last page named no next one.
    #[serde(default)]
    no_next: bool,
    /// The last page named one that was read before.
    #[serde(default)]
    goes_round: bool,
    /// Pages with records, for `until`.
    #[serde(default)]
    pages: u64,
    /// Records, for `until`.
    #[serde(default)]
    records: u64,
    /// Some page, of this run or an earlier one, had the cursor.
    #[serde(default)]
    cursor_found: bool,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    End,
    Stop,
}

/// The source of a run.
pub(crate) struct ApiSource {
    run: Arc<Run>,
    api: HttpApi,
    pages: Pages,
    client: Client,
    limit: RateLimit,
    place: Place,
    seen: Seen,
    /// Failed requests in a row.
    failures: u32,
}

impl ApiSource {
    /// Takes up where the state says.
    pub(crate) async fn new(run: Arc<Run>, api: &HttpApi) -> Result<Self, Failure> {
        let limit = match api.rate_limit {
            None => RateLimit::new(None),
            Some(limit) => {
                let file = run.state.dir().join("requests");
                let limit = (limit.requests, limit.period.0);
                RateLimit::open(limit, &file, Arc::clone(&run.clock))
                    .map_err(|e| Failure::State(format!("{}: {e}", file.display())))?
            }
        };
        let max = api.max_page_size.0;
        let client = Client::new(api.auth.as_ref(), &api.headers, api.timeout.0, max)
            .map_err(Failure::Source)?;
        let pages = Pages::new(api).map_err(Failure::Source)?;
        let kept = run.state.api_position().await.map_err(run.state_failed())?;
        let place = match kept {
            None => Place {
                at: At::Start,
                no_next: false,
                goes_round: false,
                pages: 0,
                records: 0,
                cursor_found: false,
            },
            Some(text) => serde_json::from_str(&text)
                .map_err(|e| Failure::State(format!("the kept position is {text}: {e}")))?,
        };
        Ok(Self {
            run,
            api: api.clone(),
            pages,
            client,
            limit,
            place,
            seen: Seen::default(),
            failures: 0,
        })
    }

    /// Reads until the end, a stop or a failure. True at the end.
    pub(crate) async fn read(mut self, out: Giver<Batch>) -> bool {
        match self.read_all(&out).await {
            Ok(is_end) => is_end,
            Err(failure) => {
                self.run.control.fail(failure);
                false
            }
        }
    }

    async fn read_all(&mut self, out: &Giver<Batch>) -> Result<bool, Failure> {
        if !self.give_unsettled(out).await? {
            return Ok(false);
        }
        loop {
            if self.is_at_end() {
                self.check_cursor().await?;
                self.note_end().await?;
                return Ok(true);
            }
            self.check_next()?;
            tokio::select! {
                () = out.wanted() => {}
                () = self.run.control.stop.cancelled() => return Ok(false),
            }
            let Some(page) = self.request().await? else {
                return Ok(false);
            };
            let next = if page.records.is_empty() {
                self.empty_page(page).await?
            } else {
                self.accept(page, out).await?
            };
            match next {
                Next::Request => {}
                Next::End => return Ok(true),
                Next::Stop => return Ok(false),
            }
        }
    }

    /// A cursor that no page ever had is a mistake in its path, and no end: the pages behind the
    /// first one would be missed in silence. The next run asks for the same page again.
    async fn check_cursor(&mut self) -> Result<(), Failure> {
        if self.place.cursor_found || self.is_at_count() {
            return Ok(());
        }
        let Paging::Cursor { cursor, .. } = &self.api.paging else {
            return Ok(());
        };
        let hint = match cursor.contains('.') && !cursor.starts_with('$') && !cursor.contains('[') {
            true => format!(
                " (a key with a dot in it is written {})",
                forebay_record::path::quoted(cursor)
            ),
            false => String::new(),
        };
        let text = format!(
            "no page has a value at `{cursor}` (source.paging.cursor), so nothing says whether there are more: correct the path{hint}, or set until.pages to 1 where one page is all"
        );
        self.place.no_next = false;
        (self.place.pages, self.place.records) = (0, 0);
        self.keep(Vec::new()).await?;
        Err(Failure::Source(text))
    }

    /// Whether there is a page to ask for.
    fn check_next(&self) -> Result<(), Failure> {
        let url = self.url_text();
        if self.place.no_next {
            let at = match &self.api.paging {
                Paging::Cursor { cursor, .. } => format!(" at `{cursor}`"),
                Paging::Offset { .. } | Paging::Page { .. } | Paging::Link => String::new(),
            };
            return Err(Failure::Source(format!(
                "{url} names no next page{at}; set until.noNext to end there"
            )));
        }
        if self.place.goes_round {
            return Err(Failure::Source(format!(
                "the API goes round: the next page would be {url}, which was read before"
            )));
        }
        Ok(())
    }

    /// Records that an earlier run has taken and not settled.
    async fn give_unsettled(&self, out: &Giver<Batch>) -> Result<bool, Failure> {
        let mut after = 0;
        loop {
            let records = self.run.state.unsettled(after).await;
            let records = records.map_err(self.run.state_failed())?;
            let Some((last, _)) = records.last() else {
                return Ok(true);
            };
            after = *last;
            if !self.give(records, out).await {
                return Ok(false);
            }
        }
    }

    async fn give(&self, records: Vec<(u64, Bytes)>, out: &Giver<Batch>) -> bool {
        let mut records = records.into_iter().map(|(seq, body)| Record {
            position: Position(seq),
            origin: Origin::Api(seq),
            body,
        });
        loop {
            let batch: Vec<Record> = records.by_ref().take(self.run.unit).collect();
            if batch.is_empty() {
                return true;
            }
            // What is not given stays in the inbox, for the next run.
            if self.run.control.stop.is_cancelled() || !out.give(Batch::Records(batch)).await {
                return false;
            }
        }
    }

    /// The next page, tried until it is there. Nothing when the run ends.
    async fn request(&mut self) -> Result<Option<Page>, Failure> {
        loop {
            let url = self.pages.url(&self.place.at).map_err(Failure::Source)?;
            let Some(answer) = self.answer(url).await else {
                return Ok(None);
            };
            let page = answer.and_then(|answer| {
                let page = self.pages.read(&self.place.at, answer);
                page.map_err(CallError::without_answer)
            });
            let error = match page {
                Ok(page) => {
                    self.failures = 0;
                    return Ok(Some(page));
                }
                Err(error) => error,
            };
            if !self.wait_after(&error).await? {
                return Ok(None);
            }
        }
    }

    /// What the API answers, behind redirects: each is a request, and waits for its turn as one.
    /// Nothing when the run ends.
    async fn answer(&self, url: Url) -> Option<Result<Answer, CallError>> {
        let mut call = self.client.page(url);
        loop {
            let permit = tokio::select! {
                permit = self.limit.acquire() => permit,
                () = self.run.control.stop.cancelled() => return None,
            };
            self.run.progress.requests.fetch_add(1, Ordering::Relaxed);
            let answer = tokio::select! {
                answer = call.hop(self.run.clock.now()) => answer,
                () = self.run.control.stop.cancelled() => return None,
            };
            drop(permit);
            if let Some(answer) = answer.transpose() {
                return Some(answer);
            }
        }
    }

    /// Waits after a failed request. False when the run ends meanwhile.
    async fn wait_after(&mut self, error: &CallError) -> Result<bool, Failure> {
        self.failures = self.failures.saturating_add(1);
        add(&self.run.progress.retries, 1);
        let url = self.url_text();
        if self.api.give_up_after.is_some_and(|n| self.failures >= n) {
            let (n, text) = (self.failures, &error.text);
            return Err(Failure::Source(format!(
                "{url} failed {n} times in a row: {text}"
            )));
        }
        let (first, max) = (self.api.error_wait.0, self.api.error_wait_max.0);
        let wait = match error.retry_after {
            Some(asked) => {
                let asked = asked.min(RETRY_AFTER_MAX);
                // Whoever else asks this API waits too.
                self.limit.pause(asked);
                asked.max(first)
            }
            None => retry::wait(first, max, self.failures, None),
        };
        let is_limited = error.status == Some(StatusCode::TOO_MANY_REQUESTS);
        tracing::warn!(
            url,
            error = error.text,
            failures = self.failures,
            ?wait,
            is_limited,
            "a request failed"
        );
        Ok(self.run.control.wait(wait).await)
    }

    /// A page without records.
    async fn empty_page(&mut self, page: Page) -> Result<Next, Failure> {
        let until = self.api.until;
        self.place.cursor_found |= page.has_cursor;
        self.place.no_next = page.next.is_none() && until.no_next;
        if until.empty_page || self.place.no_next {
            self.note_end().await?;
            return Ok(Next::End);
        }
        if let Some(next) = page.next
            && next != self.place.at
        {
            self.place.at = next;
            self.keep(Vec::new()).await?;
        }
        let waited = self.run.control.wait(self.api.empty_page_wait.0).await;
        Ok(if waited { Next::Request } else { Next::Stop })
    }

    /// Takes a page and gives its records.
    async fn accept(&mut self, page: Page, out: &Giver<Batch>) -> Result<Next, Failure> {
        let count = page.records.len();
        self.place.cursor_found |= page.has_cursor;
        self.place.pages += 1;
        self.place.records += count as u64;
        match page.next {
            Some(next) => {
                let here = std::mem::replace(&mut self.place.at, next);
                self.place.goes_round = self.seen.note(here, &self.place.at);
            }
            None => self.place.no_next = true,
        }
        let first = self.keep(page.records.clone()).await?;
        add(&self.run.progress.read, count);
        let records = (first..).zip(page.records).collect();
        let given = self.give(records, out).await;
        Ok(if given { Next::Request } else { Next::Stop })
    }

    async fn keep(&self, records: Vec<Bytes>) -> Result<u64, Failure> {
        let place = serde_json::to_string(&self.place).unwrap_or_default();
        let kept = self.run.state.accept_page(place, records).await;
        kept.map_err(self.run.state_failed())
    }

    fn is_at_end(&self) -> bool {
        (self.api.until.no_next && self.place.no_next) || self.is_at_count()
    }

    /// As many pages or records were read as are wanted.
    fn is_at_count(&self) -> bool {
        let until = self.api.until;
        until.pages.is_some_and(|n| self.place.pages >= n)
            || until.records.is_some_and(|n| self.place.records >= n)
    }

    /// The next run goes on behind the last page; from the start when there is nothing behind it.
    async fn note_end(&mut self) -> Result<(), Failure> {
        if self.place.no_next {
            self.place.at = At::Start;
        }
        self.place = Place {
            at: self.place.at.clone(),
            no_next: false,
            goes_round: self.place.goes_round,
            pages: 0,
            records: 0,
            cursor_found: self.place.cursor_found,
        };
        self.keep(Vec::new()).await.map(drop)
    }

    fn url_text(&self) -> String {
        let url = self.pages.url(&self.place.at);
        url.map_or_else(|e| e, |u| u.to_string())
    }
}

/// The last pages that were read, bounded.
#[derive(Default)]
struct Seen {
    set: HashSet<At>,
    order: VecDeque<At>,
}

impl Seen {
    /// Notes a page that was read. True when the next one was read before.
    fn note(&mut self, here: At, next: &At) -> bool {
        if self.set.insert(here.clone()) {
            self.order.push_back(here);
        }
        if self.order.len() > CURSORS_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        self.set.contains(next)
    }
}
