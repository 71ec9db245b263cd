//! Workers that post records to an API: the processing stage, and a destination that is one.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Url;

use forebay_record::json::Document;
use forebay_remote::http::KeptPause;

use crate::convert::not_json;
use crate::definition::HttpStage;
use crate::engine::Run;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::{Giver, Taker};
use crate::http::{Answer, CallError, Client, quote};
use crate::limit::RateLimit;
use crate::record::{Batch, Dead, Record, Stage};

/// An answer of a processing API is at most this long.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Of an answer of a storage API so much is read; what comes behind it changes nothing.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// An API that records are posted to.
pub(crate) struct Poster {
    run: Arc<Run>,
    config: HttpStage,
    client: Client,
    url: Url,
    stage: Stage,
    /// No limit, only the waits that the API asks for: of all workers, and over restarts.
    limit: RateLimit,
    pause: KeptPause,
}

/// What has become of a record.
enum Posted {
    Answered(Bytes),
    GivenUp(CallError, u32),
    /// The run ends; the record stays where it was.
    Stopped,
}

impl Poster {
    pub(crate) fn new(run: Arc<Run>, config: &HttpStage, stage: Stage) -> Result<Self, Failure> {
        let refuse = |text: String| match stage {
            Stage::Parse | Stage::Processing => Failure::Source(text),
            Stage::Storage => Failure::Destination(text),
        };
        let answer_max = match stage {
            Stage::Parse | Stage::Processing => RECORD_BYTES_MAX,
            Stage::Storage => ANSWER_BYTES_MAX,
        };
        let client = Client::new(
            config.auth.as_ref(),
            &config.headers,
            config.timeout.0,
            answer_max,
        )
        .map_err(refuse)?;
        let url = Url::parse(&config.url).map_err(|e| refuse(format!("{}: {e}", config.url)))?;
        let file = run.state.dir().join(format!("pause-{}", stage.name()));
        let clock = Arc::clone(&run.clock);
        let pause = KeptPause::new(file, &url, config.retry.wait_max.0, clock);
        let limit = RateLimit::new(None);
        if let Some(left) = pause.left() {
            limit.pause(left);
        }
        Ok(Self {
            limit,
            pause,
            run,
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
    pub(crate) async fn work(self: Arc<Self>, records: Taker<Batch>, next: Option<Giver<Batch>>) {
        while let Some(batch) = records.take().await {
            for record in batch.into_records() {
                let answer = match self.post(&record).await {
                    Posted::Answered(answer) => answer,
                    Posted::GivenUp(error, attempts) => {
                        self.run.dead(self.dead(record, error, attempts)).await;
                        continue;
                    }
                    Posted::Stopped => continue,
                };
                match &next {
                    None => {
                        add(&self.run.progress.written, 1);
                        self.run.done(record.position).await;
                    }
                    Some(next) => {
                        add(&self.run.progress.processed, 1);
                        let processed = Record {
                            body: answer,
                            ..record
                        };
                        // All takers are gone only when the run has failed: the record is read again.
                        next.give(Batch::Records(vec![processed])).await;
                    }
                }
            }
        }
    }

    async fn post(&self, record: &Record) -> Posted {
        let key = self.run.idempotency_key(&record.origin);
        let mut attempt = 1;
        loop {
            let permit = tokio::select! {
                // What was begun is tried once more at a stop, unless it would have to wait.
                biased;
                permit = self.limit.acquire() => permit,
                () = self.run.control.stop.cancelled() => return Posted::Stopped,
            };
            let now = self.run.clock.now();
            let body = record.body.clone();
            let answer = self.client.post(self.url.clone(), body, &key, now).await;
            drop(permit);
            let error = match answer.and_then(|answer| self.check(answer)) {
                Ok(body) => return Posted::Answered(body),
                Err(error) => error,
            };
            if let Some(asked) = error.retry_after {
                self.limit.pause(self.pause.begin(asked));
            }
            if attempt >= self.config.retry.attempts {
                return Posted::GivenUp(error, attempt);
            }
            let wait = self.config.retry.wait_after(attempt, error.retry_after);
            if !self.run.control.wait(wait).await {
                return Posted::Stopped;
            }
            attempt += 1;
            add(&self.run.progress.retries, 1);
        }
    }

    /// An answer of a processing API is the record from then on, so it has to be one.
    fn check(&self, answer: Answer) -> Result<Bytes, CallError> {
        if self.stage == Stage::Storage {
            return Ok(answer.body);
        }
        let body = self.client.whole(answer)?.body;
        match Document::parse(body.clone()) {
            Ok(_) => Ok(body),
            Err(e) => {
                let text = format!("the answer is {}{}", not_json(&e), quote(&body));
                Err(CallError::without_answer(text))
            }
        }
    }

    fn dead(&self, record: Record, error: CallError, attempts: u32) -> Dead {
        Dead {
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
