//! Status of a sink: what an operator needs to know, from its definition and its statistics. Metrics,
//! the API and the command line all show this.

use forebay_meta::{FileError, FileStatistics, Repo, SinkReport};
use forebay_model::{
    FileState, Reconciliation, RetryState, Sink, SliceState, Timestamp, TopicState, TopicStatistics,
};

use crate::api::TopicService;

/// The step of delivery that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryStep {
    /// Draining a closed slice, before its upload.
    Close,
    /// Writing a slice to staging storage.
    Upload,
    /// Importing a file into its table.
    Import,
    /// Sending messages to the provider of a topic.
    Deliver,
}

impl DeliveryStep {
    pub const ALL: [Self; 4] = [Self::Close, Self::Upload, Self::Import, Self::Deliver];

    pub fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Upload => "upload",
            Self::Import => "import",
            Self::Deliver => "deliver",
        }
    }
}

/// Failure that keeps records of a sink from their target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFailure {
    pub step: DeliveryStep,
    /// Error of the last attempt.
    pub cause: String,
    pub since: Option<Timestamp>,
    pub next_attempt: Option<Timestamp>,
    /// Failed attempts.
    pub attempts: u64,
    /// The target rejected the data: only an operator can fix that.
    pub parked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkHealth {
    /// Everything is delivered, or on its way.
    Ok,
    /// A step fails and is retried.
    Failing,
    /// A file was rejected by its table and waits for an operator.
    Parked,
    /// Delivery of the topic is paused.
    Paused,
    /// The sink or its source is disabled.
    Disabled,
}

impl SinkHealth {
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Failing,
        Self::Parked,
        Self::Paused,
        Self::Disabled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SinkStatus {
    pub sink: Sink,
    pub health: SinkHealth,
    pub failure: Option<DeliveryFailure>,
    pub reconciliation: Reconciliation,
    /// Uncompressed bytes of all accepted records; unknown for topics.
    pub bytes: Option<u64>,
    /// Bytes not delivered yet.
    pub pending_bytes: u64,
    /// Receipt time of the oldest record that is not delivered yet.
    pub oldest_pending_at: Option<Timestamp>,
    /// Receipt time of the newest record.
    pub last_record_at: Option<Timestamp>,
}

impl SinkStatus {
    /// Status of a sink with a table.
    pub fn of_table(report: &SinkReport) -> Self {
        let statistics = &report.statistics;
        let pending = statistics.local.plus(statistics.staging);
        let failure = report.files.iter().filter_map(failure).min_by_key(urgency);
        Self {
            health: health(&report.sink, failure.as_ref()),
            failure,
            reconciliation: statistics.reconciliation(),
            bytes: Some(statistics.total().uncompressed_bytes),
            pending_bytes: pending.uncompressed_bytes,
            oldest_pending_at: pending.first_record_at.filter(|_| pending.records > 0),
            last_record_at: statistics.total().last_record_at,
            sink: report.sink.clone(),
        }
    }

    /// Status of a topic.
    pub fn of_topic(sink: &Sink, statistics: &TopicStatistics) -> Self {
        let failure = match &statistics.state {
            TopicState::Down { error, since } => Some(DeliveryFailure {
                step: DeliveryStep::Deliver,
                cause: error.clone(),
                since: Some(*since),
                next_attempt: None,
                attempts: statistics.retries,
                parked: false,
            }),
            _ => None,
        };
        Self {
            health: health(sink, failure.as_ref()),
            failure,
            reconciliation: Reconciliation {
                accepted: statistics.accepted,
                imported: statistics.delivered,
                dead: statistics.dead,
                expired: statistics.discarded,
                lost: statistics.lost,
                in_flight: statistics.waiting,
            },
            bytes: None,
            pending_bytes: statistics.waiting_bytes,
            oldest_pending_at: statistics.oldest_at,
            last_record_at: None,
            sink: sink.clone(),
        }
    }

    /// Whether an operator should look at it.
    pub fn needs_attention(&self) -> bool {
        matches!(self.health, SinkHealth::Failing | SinkHealth::Parked)
            || !self.reconciliation.holds()
    }
}

/// Reads the status of all sinks, in the order of their keys.
pub async fn sink_statuses(
    repo: &Repo,
    topics: &dyn TopicService,
) -> Result<Vec<SinkStatus>, FileError> {
    let report = repo.catalog_report().await?;
    let statuses = report
        .sinks
        .iter()
        .map(|report| match report.sink.target.topic() {
            Some(_) => SinkStatus::of_topic(&report.sink, &topics.statistics(&report.sink)),
            None => SinkStatus::of_table(report),
        });
    Ok(statuses.collect())
}

fn health(sink: &Sink, failure: Option<&DeliveryFailure>) -> SinkHealth {
    match failure {
        Some(failure) if failure.parked => SinkHealth::Parked,
        Some(_) => SinkHealth::Failing,
        None if sink.disabled.is_some() => SinkHealth::Disabled,
        None if sink.paused.is_some() => SinkHealth::Paused,
        None => SinkHealth::Ok,
    }
}

/// The earliest failure first, a cause before its consequence.
fn urgency(failure: &DeliveryFailure) -> (bool, Option<Timestamp>) {
    (!failure.parked, failure.since)
}

/// Failure of a file. A slice that can't be uploaded is the cause, the file that waits for it the
/// consequence.
fn failure(entry: &FileStatistics) -> Option<DeliveryFailure> {
    if let Some(slice) = &entry.failed_slice {
        let step = match slice.state {
            SliceState::Writing | SliceState::Closing => DeliveryStep::Close,
            SliceState::Uploading | SliceState::Uploaded | SliceState::Imported => {
                DeliveryStep::Upload
            }
        };
        return Some(of_retry(step, &slice.retry));
    }
    let file = &entry.file;
    let step = match file.state {
        FileState::Writing | FileState::Closing => DeliveryStep::Close,
        FileState::Importing | FileState::Imported => DeliveryStep::Import,
    };
    (file.retry.attempt > 0).then(|| of_retry(step, &file.retry))
}

fn of_retry(step: DeliveryStep, retry: &RetryState) -> DeliveryFailure {
    DeliveryFailure {
        step,
        cause: retry.reason.clone().unwrap_or_default(),
        since: retry.first_failed_at,
        next_attempt: retry.retry_after,
        attempts: u64::from(retry.attempt),
        parked: retry.parked,
    }
}
