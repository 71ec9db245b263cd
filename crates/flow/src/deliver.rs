//! What upload and import share: due things are looked for whenever something changes, some of
//! them are worked on at once, each of them by one worker.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use forebay_meta::repo::slices::Failure;
use forebay_meta::{Repo, Revision};
use forebay_model::{Backoff, Clock};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

/// What both need of the node.
#[derive(Clone)]
pub struct Delivery {
    /// The store.
    pub repo: Repo,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For the jitter of retries.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl Delivery {
    /// A failure to be noted with a file or slice.
    pub(crate) fn failure(&self, reason: String, terminal: bool) -> Failure {
        Failure {
            reason,
            terminal,
            backoff: self.backoff,
            random: (self.random)(),
        }
    }
}

/// A thing to work on: what it is, and its version, so that a view that is not the newest does not
/// have it done again.
pub(crate) type Due<K> = (K, Revision);

/// Works until `stop`, then lets what is under way end.
///
/// `due` lists what there is to do now, most urgent first, without the keys that are being worked
/// on. `changed` resolves when that may have changed.
pub(crate) async fn work<K, D, C, F, A, B>(
    stop: &CancellationToken,
    check: Duration,
    limit: usize,
    mut changed: C,
    mut due: D,
    act: A,
) where
    K: Clone + Eq + Hash + Send + 'static,
    D: FnMut(&HashSet<K>) -> Vec<Due<K>>,
    C: FnMut() -> F,
    F: Future<Output = bool>,
    A: Fn(K) -> B,
    B: Future<Output = ()> + Send + 'static,
{
    let mut tick = interval_at(Instant::now() + check, check);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut workers: JoinSet<K> = JoinSet::new();
    let mut busy: HashSet<K> = HashSet::new();
    // What was done as of which version: the view still shows that one for a moment afterwards.
    let mut done: HashMap<K, Revision> = HashMap::new();
    let mut queue: VecDeque<Due<K>> = VecDeque::new();
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
