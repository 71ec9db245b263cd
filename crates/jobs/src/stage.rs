//! Workers that post records to an API: a processing stage or a destination.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;

use forebay_connect::http::PersistedRetryAfter;
use forebay_record::json::JsonDocument;

use crate::convert::not_json;
use crate::definition::HttpStage;
use crate::engine::execution::JobExecution;
use crate::engine::outcome::{JobFailure, add};
use crate::engine::queue::{QueueReceiver, QueueSender};
use crate::http::{CallError, CallResponse, HttpApiClient, quote};
use crate::rate_limiter::ApiRateLimiter;
use crate::record::{DeadRecord, JobStage, Record, StageBatch};

/// Maximum size of a response of a processing API.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are read of a response of a storage API; the rest is ignored.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

/// An API that records are posted to.
pub(crate) struct RecordPoster {
    execution: Arc<JobExecution>,
    config: HttpStage,
    client: HttpApiClient,
    url: Url,
    stage: JobStage,
    /// No limit, only pauses that the API asks for: shared by all workers and across restarts.
    limit: ApiRateLimiter,
    pause: PersistedRetryAfter,
}

/// Outcome of posting a record.
enum PostOutcome {
    Answered(Bytes),
    GivenUp(CallError, u32),
    /// The run ends; the record is read again.
    Stopped,
}

impl RecordPoster {
    pub(crate) fn new(
        execution: Arc<JobExecution>,
        config: &HttpStage,
        stage: JobStage,
    ) -> Result<Self, JobFailure> {
        let job_failure = |text: String| match stage {
            JobStage::Parse | JobStage::Processing => JobFailure::Source(text),
            JobStage::Storage => JobFailure::Destination(text),
        };
        let response_max = match stage {
            JobStage::Parse | JobStage::Processing => RECORD_BYTES_MAX,
            JobStage::Storage => RESPONSE_BYTES_MAX,
        };
        let client = HttpApiClient::new(
            config.auth.as_ref(),
            &config.headers,
            config.timeout.0,
            response_max,
        )
        .map_err(job_failure)?;
        let url =
            Url::parse(&config.url).map_err(|e| job_failure(format!("{}: {e}", config.url)))?;
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

    pub(crate) fn workers(&self) -> usize {
        self.config.workers as usize
    }

    /// Runs a worker. Accepted records go to the next stage, or are acknowledged if there is none.
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
                        // All receivers are dropped only when the run has failed: the record is read again.
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
                // At a stop, a record in progress is tried once more, unless it would have to wait.
                biased;
                permit = self.limit.acquire() => permit,
                () = self.execution.control.stop.cancelled() => return PostOutcome::Stopped,
            };
            let now = self.execution.clock.now();
            let body = record.body.clone();
            let response = self.client.post(self.url.clone(), body, &key, now).await;
            drop(permit);
            let error = match response.and_then(|response| self.check(response)) {
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

    /// Checks that the response of a processing API is JSON, as it replaces the record.
    fn check(&self, response: CallResponse) -> Result<Bytes, CallError> {
        if self.stage == JobStage::Storage {
            return Ok(response.body);
        }
        let body = self.client.whole(response)?.body;
        match JsonDocument::parse(body.clone()) {
            Ok(_) => Ok(body),
            Err(e) => {
                let text = format!("the response is {}{}", not_json(&e), quote(&body));
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
