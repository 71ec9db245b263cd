//! Workers that post records to an API: the processing stage, and a destination that is one.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;

use forebay_connect::http::PersistedRetryAfter;
use forebay_record::json::JsonDocument;

use crate::convert::not_json;
use crate::definition::HttpStage;
use crate::engine::JobExecution;
use crate::engine::outcome::{JobFailure, add};
use crate::engine::queue::{QueueReceiver, QueueSender};
use crate::http::{CallError, CallResponse, HttpApiClient, quote};
use crate::rate_limiter::ApiRateLimiter;
use crate::record::{DeadRecord, JobStage, Record, StageBatch};

/// An answer of a processing API is at most this long.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Of an answer of a storage API so much is read; what comes behind it changes nothing.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

/// An API that records are posted to.
pub(crate) struct RecordPoster {
    execution: Arc<JobExecution>,
    config: HttpStage,
    client: HttpApiClient,
    url: Url,
    stage: JobStage,
    /// No limit, only the waits that the API asks for: of all workers, and over restarts.
    limit: ApiRateLimiter,
    pause: PersistedRetryAfter,
}

/// What has become of a record.
enum PostOutcome {
    Answered(Bytes),
    GivenUp(CallError, u32),
    /// The run ends; the record stays where it was.
    Stopped,
}

impl RecordPoster {
    pub(crate) fn new(
        execution: Arc<JobExecution>,
        config: &HttpStage,
        stage: JobStage,
    ) -> Result<Self, JobFailure> {
        let refuse = |text: String| match stage {
            JobStage::Parse | JobStage::Processing => JobFailure::Source(text),
            JobStage::Storage => JobFailure::Destination(text),
        };
        let answer_max = match stage {
            JobStage::Parse | JobStage::Processing => RECORD_BYTES_MAX,
            JobStage::Storage => RESPONSE_BYTES_MAX,
        };
        let client = HttpApiClient::new(
            config.auth.as_ref(),
            &config.headers,
            config.timeout.0,
            answer_max,
        )
        .map_err(refuse)?;
        let url = Url::parse(&config.url).map_err(|e| refuse(format!("{}: {e}", config.url)))?;
        let file = execution
            .state
            .dir()
            .join(format!("pause-{}", stage.name()));
        let clock = Arc::clone(&execution.clock);
        let pause = PersistedRetryAfter::new(file, &url, config.retry.wait_max.0, clock);
        let limit = ApiRateLimiter::new(None);
        if let Some(left) = pause.remaining() {
            limit.pause(left);
        }
        Ok(Self {
            limit,
            pause,
            execution,
            config: config.clone(),
            client,
            url,
            stage,
        })
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.config.workers as usize
    }

    /// A worker. Records that the API has answered go to the next stage, or are done when there is
    /// none.
    pub(crate) async fn work(
        self: Arc<Self>,
        records: QueueReceiver<StageBatch>,
        next: Option<QueueSender<StageBatch>>,
    ) {
        while let Some(batch) = records.receive().await {
            for record in batch.into_records() {
                let response = match self.post(&record).await {
                    PostOutcome::Answered(response) => response,
                    PostOutcome::GivenUp(error, attempts) => {
                        self.execution
                            .move_to_dlq(self.dead_record(record, error, attempts))
                            .await;
                        continue;
                    }
                    PostOutcome::Stopped => continue,
                };
                match &next {
                    None => {
                        add(&self.execution.progress.written, 1);
                        self.execution.acknowledge_record(record.position).await;
                    }
                    Some(next) => {
                        add(&self.execution.progress.processed, 1);
                        let processed = Record {
                            body: response,
                            ..record
                        };
                        // All takers are gone only when the run has failed: the record is read again.
                        next.send(StageBatch::Records(vec![processed])).await;
                    }
                }
            }
        }
    }

    async fn post(&self, record: &Record) -> PostOutcome {
        let key = self.execution.idempotency_key(&record.origin);
        let mut attempt = 1;
        loop {
            let permit = tokio::select! {
                // What was begun is tried once more at a stop, unless it would have to wait.
                biased;
                permit = self.limit.acquire() => permit,
                () = self.execution.control.stop.cancelled() => return PostOutcome::Stopped,
            };
            let now = self.execution.clock.now();
            let body = record.body.clone();
            let response = self.client.post(self.url.clone(), body, &key, now).await;
            drop(permit);
            let error = match response.and_then(|answer| self.check(answer)) {
                Ok(body) => return PostOutcome::Answered(body),
                Err(error) => error,
            };
            if let Some(asked) = error.retry_after {
                self.limit.pause(self.pause.begin(asked));
            }
            if attempt >= self.config.retry.attempts {
                return PostOutcome::GivenUp(error, attempt);
            }
            let wait = self.config.retry.wait_after(attempt, error.retry_after);
            if !self.execution.control.wait(wait).await {
                return PostOutcome::Stopped;
            }
            attempt += 1;
            add(&self.execution.progress.retries, 1);
        }
    }

    /// An answer of a processing API is the record from then on, so it has to be one.
    fn check(&self, response: CallResponse) -> Result<Bytes, CallError> {
        if self.stage == JobStage::Storage {
            return Ok(response.body);
        }
        let body = self.client.whole(response)?.body;
        match JsonDocument::parse(body.clone()) {
            Ok(_) => Ok(body),
            Err(e) => {
                let text = format!("the answer is {}{}", not_json(&e), quote(&body));
                Err(CallError::without_response(text))
            }
        }
    }

    fn dead_record(&self, record: Record, error: CallError, attempts: u32) -> DeadRecord {
        DeadRecord {
            position: record.position,
            origin: record.origin,
            stage: self.stage,
            body: record.body,
            request: format!("POST {}", self.url),
            status: error.status.map(|s| s.as_u16()),
            error: error.text,
            attempts,
        }
    }
}
