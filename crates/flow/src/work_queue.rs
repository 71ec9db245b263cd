//! What upload and import share: due things are looked for whenever something changes, some of
//! them are worked on at once, each of them by one worker.

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

/// What both need of the node.
#[derive(Clone)]
pub struct DeliveryContext {
    /// The store.
    pub repo: Repo,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the jitter of retries.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long to wait between attempts.
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
    /// A failure to be noted with a file or slice.
    pub(crate) fn failure(&self, error: AttemptError) -> StepFailure {
        StepFailure {
            reason: error.reason,
            terminal: error.terminal,
            backoff: self.backoff,
            random: (self.random)(),
        }
    }
}

/// How slices go to staging, or files into their tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkConfig {
    /// How often what waits after a failure is looked for. 100ms to 30s.
    pub check_interval: HumanDuration,
    /// How long one attempt may take before it is broken off and tried again. 30s to 60m.
    pub timeout: HumanDuration,
    /// How many are worked on at once; files, of different sinks. 1 to 64.
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
    /// Everything that is out of range: name, given value, what is allowed.
    #[must_use]
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

    /// What an attempt comes to, if it does not take too long.
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

/// What went wrong with an attempt.
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

    /// With what led to it before it.
    pub(crate) fn with_context(self, before: &str) -> Self {
        Self {
            reason: format!("{before}: {}", self.reason),
            terminal: self.terminal,
        }
    }

    /// Whether only a person can mend it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }
}

/// A thing to work on: what it is, and its version, so that a view that is not the newest does not
/// have it done again.
pub(crate) type DueItem<K> = (K, Revision);

/// Works until `stop`, then lets what is under way end.
///
/// `due` lists what there is to do now, most urgent first, without the keys that are being worked
/// on. `changed` resolves when that may have changed.
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
    // What was done as of which version: the view still shows that one for a moment afterwards.
    let mut done: HashMap<K, Revision> = HashMap::new();
    let mut queue: VecDeque<DueItem<K>> = VecDeque::new();
    // Looking costs as much as there is to look through, so it is not done for each worker's end.
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
                // It has changed while it is being worked on.
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
            // One whose outcome could not be noted is done again.
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
                    // Whose it was is not known: nothing is under way any more once all have ended.
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
