//! Work queue of upload and import: due items are looked up whenever something changes, and several
//! are processed at once, each by one worker.

mod recovery;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use forebay_meta::catalog::slices::StepFailure;
use forebay_meta::{Repo, Revision};
use forebay_model::{Backoff, Clock, HumanDuration, out_of_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use recovery::RecoveryTracker;

/// Dependencies of upload and import.
#[derive(Clone)]
pub struct DeliveryContext {
    pub repo: Repo,
    pub clock: Arc<dyn Clock>,
    /// Random bits for the jitter of retries.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Delay between attempts.
    pub backoff: Backoff,
}

impl fmt::Debug for DeliveryContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl DeliveryContext {
    /// Builds the failure to store with a file or slice.
    pub(crate) fn failure(&self, error: AttemptError) -> StepFailure {
        StepFailure {
            reason: error.reason,
            terminal: error.terminal,
            backoff: self.backoff,
            random: (self.random)(),
        }
    }
}

/// How slices are uploaded to staging, or files imported into their tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkConfig {
    /// How often items that wait for a retry are looked up. 100ms to 30s.
    pub check_interval: HumanDuration,
    /// How long one attempt may take before it is aborted and retried. 30s to 60m.
    pub timeout: HumanDuration,
    /// How many slices or files are processed at once; files of different sinks only. 1 to 64.
    pub concurrency: u32,
}

impl Default for WorkConfig {
    fn default() -> Self {
        Self {
            check_interval: HumanDuration::secs(1),
            timeout: HumanDuration::mins(15),
            concurrency: 4,
        }
    }
}

impl WorkConfig {
    /// Returns the settings that are out of range: name, given value, allowed range.
    pub fn violations(&self) -> Vec<String> {
        let check = out_of_range(
            "checkInterval",
            self.check_interval,
            HumanDuration::millis(100),
            HumanDuration::secs(30),
        );
        let timeout = out_of_range(
            "timeout",
            self.timeout,
            HumanDuration::secs(30),
            HumanDuration::mins(60),
        );
        let concurrency = out_of_range("concurrency", self.concurrency, 1, 64);
        [check, timeout, concurrency]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Runs an attempt with the timeout.
    pub(crate) async fn with_timeout<T>(
        &self,
        what: &str,
        attempt: impl Future<Output = Result<T, AttemptError>>,
    ) -> Result<T, AttemptError> {
        timeout(self.timeout.0, attempt).await.unwrap_or_else(|_| {
            let limit = self.timeout;
            Err(AttemptError::retryable(format!(
                "the {what} took longer than {limit}"
            )))
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct AttemptError {
    reason: String,
    terminal: bool,
}

impl AttemptError {
    pub(crate) fn retryable(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            terminal: false,
        }
    }

    pub(crate) fn terminal(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            terminal: true,
        }
    }

    /// Prepends the context of the failure.
    pub(crate) fn with_context(self, before: &str) -> Self {
        Self {
            reason: format!("{before}: {}", self.reason),
            terminal: self.terminal,
        }
    }

    /// Whether only an operator can fix it.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }
}

/// An item of work: its key and its version, so that a stale view does not repeat it.
pub(crate) type DueItem<K> = (K, Revision);

/// Processes items until `stop`, then waits for those in progress.
///
/// `due` lists the current items, most urgent first, without the keys in progress. `changed`
/// resolves when the list may have changed.
pub(crate) async fn run_work_queue<K, D, C, F, A, B>(
    stop: &CancellationToken,
    config: &WorkConfig,
    mut changed: C,
    mut due: D,
    act: A,
) where
    K: Clone + Eq + Hash + Send + 'static,
    D: FnMut(&HashSet<K>) -> Vec<DueItem<K>>,
    C: FnMut() -> F,
    F: Future<Output = bool>,
    A: Fn(K) -> B,
    B: Future<Output = ()> + Send + 'static,
{
    let (check, limit) = (config.check_interval.0, config.concurrency as usize);
    let mut tick = interval_at(Instant::now() + check, check);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut workers: JoinSet<K> = JoinSet::new();
    let mut busy: HashSet<K> = HashSet::new();
    // Versions that were processed: the view still shows them for a moment afterwards.
    let mut done: HashMap<K, Revision> = HashMap::new();
    let mut queue: VecDeque<DueItem<K>> = VecDeque::new();
    // A lookup costs as much as there are items, so it is not done at each worker's end.
    let (mut look, mut skipped) = (true, false);
    loop {
        if std::mem::take(&mut look) {
            queue = due(&busy).into();
            let found: HashMap<&K, &Revision> = queue.iter().map(|(k, r)| (k, r)).collect();
            done.retain(|key, revision| busy.contains(key) || found.get(key) == Some(&&*revision));
        }
        while workers.len() < limit {
            let Some((key, revision)) = queue.pop_front() else {
                break;
            };
            if busy.contains(&key) {
                // It has changed while in progress.
                skipped = true;
                continue;
            }
            if done.contains_key(&key) {
                continue;
            }
            busy.insert(key.clone());
            done.insert(key.clone(), revision);
            let action = act(key.clone());
            workers.spawn(async move {
                action.await;
                key
            });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // An item whose outcome could not be recorded is processed again.
            _ = tick.tick() => {
                done.retain(|key, _| busy.contains(key));
                look = true;
            }
            ended = workers.join_next(), if !workers.is_empty() => match ended {
                Some(Ok(key)) => {
                    busy.remove(&key);
                    look |= std::mem::take(&mut skipped);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "a worker ended before its work was done");
                    // Its item is unknown: nothing is in progress once all workers have ended.
                    if workers.is_empty() {
                        busy.clear();
                        look = true;
                    }
                }
                None => {}
            },
            is_open = changed() => {
                if !is_open {
                    break;
                }
                look = true;
            }
        }
    }
    while workers.join_next().await.is_some() {}
}
