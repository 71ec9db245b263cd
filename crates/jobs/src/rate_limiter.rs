//! The rate limit of an API: at most N requests in any window of a length.
//!
//! A slot is taken before the request is sent and freed one period after its response. The server has
//! received the request between those two moments, so of any N + 1 requests the first and the last are a
//! period apart wherever they are counted, and all N of a period can be used. A limiter that refills
//! continuously (a token bucket) would allow nearly 2 N in a window.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Clock, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// A limit shared by all clones.
#[derive(Clone)]
pub struct ApiRateLimiter {
    shared: Arc<ApiLimiterShared>,
}

struct ApiLimiterShared {
    /// `None`: no limit, only the pauses that the API asks for.
    limit: Option<(usize, Duration)>,
    inner: Mutex<ApiLimiterState>,
    /// Notified when a slot or the pause changes.
    changed: Notify,
    journal: Option<RequestJournal>,
}

#[derive(Default)]
struct ApiLimiterState {
    /// End times of the requests of the last period, in order.
    ended: VecDeque<Instant>,
    in_flight: usize,
    /// The API asked for no request before this moment.
    paused_until: Option<Instant>,
    /// Number of requests so far; determines the next slot of the journal.
    begun: u64,
}

/// A file with the times of the last requests, so that a job that is killed and restarted does not begin
/// with a full allowance. Written without a sync: it must survive the process, not the machine.
struct RequestJournal {
    file: File,
    slots: u64,
    clock: Arc<dyn Clock>,
}

/// Permit for one request; dropping it marks the end of the request.
pub struct RequestPermit {
    shared: Arc<ApiLimiterShared>,
    slot: u64,
}

impl ApiRateLimiter {
    /// At most this many requests in any window of this length; `None` for no limit.
    pub fn new(limit: Option<(u32, Duration)>) -> Self {
        Self::with(limit, ApiLimiterState::default(), None)
    }

    /// Like [`Self::new`], with a journal: requests of an earlier process count.
    pub fn open(
        limit: (u32, Duration),
        file: &Path,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(file)?;
        let journal = RequestJournal {
            file,
            slots: u64::from(limit.0),
            clock,
        };
        let (ended, begun) = journal.read(limit.1)?;
        let inner = ApiLimiterState {
            ended,
            begun,
            ..ApiLimiterState::default()
        };
        Ok(Self::with(Some(limit), inner, Some(journal)))
    }

    fn with(
        limit: Option<(u32, Duration)>,
        inner: ApiLimiterState,
        journal: Option<RequestJournal>,
    ) -> Self {
        Self {
            shared: Arc::new(ApiLimiterShared {
                limit: limit.map(|(n, period)| (n as usize, period)),
                inner: Mutex::new(inner),
                changed: Notify::new(),
                journal,
            }),
        }
    }

    /// Waits until a request is allowed.
    pub async fn acquire(&self) -> RequestPermit {
        loop {
            let changed = self.shared.changed.notified();
            let wait = match self.try_acquire() {
                Ok(permit) => return permit,
                Err(until) => until,
            };
            match wait {
                Some(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = changed => {}
                    }
                }
                // All slots are in flight: wait until one ends.
                None => changed.await,
            }
        }
    }

    /// Delays all requests by `wait`, as an API asks for with 429 and `Retry-After`.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut inner = self.shared.lock();
        inner.paused_until = Some(inner.paused_until.map_or(until, |p| p.max(until)));
        drop(inner);
        self.shared.changed.notify_waiters();
    }

    /// A permit, or the earliest moment of the next one.
    fn try_acquire(&self) -> Result<RequestPermit, Option<Instant>> {
        let now = Instant::now();
        let mut inner = self.shared.lock();
        match inner.paused_until {
            Some(until) if until > now => return Err(Some(until)),
            Some(_) => inner.paused_until = None,
            None => {}
        }
        if let Some((limit, period)) = self.shared.limit {
            while inner.ended.front().is_some_and(|e| *e + period <= now) {
                inner.ended.pop_front();
            }
            if inner.ended.len() + inner.in_flight >= limit {
                return Err(inner.ended.front().map(|e| *e + period));
            }
        }
        inner.in_flight += 1;
        inner.begun += 1;
        let slot = inner.begun;
        drop(inner);
        self.shared.record(slot);
        Ok(RequestPermit {
            shared: Arc::clone(&self.shared),
            slot,
        })
    }
}

impl ApiLimiterShared {
    fn lock(&self) -> MutexGuard<'_, ApiLimiterState> {
        self.inner.lock()
    }

    fn record(&self, slot: u64) {
        if let Some(journal) = &self.journal {
            journal.record(slot);
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.shared.record(self.slot);
        let mut inner = self.shared.lock();
        inner.in_flight -= 1;
        if self.shared.limit.is_some() {
            inner.ended.push_back(Instant::now());
        }
        drop(inner);
        self.shared.changed.notify_waiters();
    }
}

impl RequestJournal {
    /// The requests less than a period ago, in order, and the slot of the newest: the next one is written
    /// after it, over the oldest.
    fn read(&self, period: Duration) -> std::io::Result<(VecDeque<Instant>, u64)> {
        let length = self.file.metadata()?.len().min(self.slots * 8);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        let wall = self.clock.now();
        let recorded: Vec<i64> = bytes
            .chunks_exact(8)
            .filter_map(|c| Some(i64::from_le_bytes(c.try_into().ok()?)))
            .collect();
        let newest = (0u64..).zip(&recorded).max_by_key(|(_, millis)| **millis);
        let mut ages: Vec<Duration> = recorded
            .iter()
            .filter(|millis| **millis > 0)
            .map(|millis| wall.since(Timestamp::from_millis(*millis)))
            .filter(|age| *age < period)
            .collect();
        ages.sort_unstable();
        let now = Instant::now();
        let ended = ages.iter().rev();
        let ended = ended.map(|age| now.checked_sub(*age).unwrap_or(now));
        Ok((ended.collect(), newest.map_or(0, |(slot, _)| slot)))
    }

    fn record(&self, slot: u64) {
        let millis = self.clock.now().as_millis();
        let at = (slot % self.slots) * 8;
        if let Err(e) = self.file.write_all_at(&millis.to_le_bytes(), at) {
            tracing::warn!(error = %e, "write to the rate limit journal failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_model::ManualClock;

    const PERIOD: Duration = Duration::from_secs(60);

    /// Start and end times of the requests of some workers, with varying durations.
    async fn requests(limit: &ApiRateLimiter, workers: u64, each: u64) -> Vec<(Instant, Instant)> {
        let tasks = (0..workers).map(|worker| {
            let limit = limit.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for n in 0..each {
                    let permit = limit.acquire().await;
                    let begin = Instant::now();
                    let takes = (worker * 37 + n * 101) % 900;
                    tokio::time::sleep(Duration::from_millis(takes)).await;
                    drop(permit);
                    seen.push((begin, Instant::now()));
                }
                seen
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all.sort_unstable();
        all
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_exceeds_the_limit_and_all_of_it_is_used() {
        let limit = ApiRateLimiter::new(Some((120, PERIOD)));
        let start = Instant::now();
        let seen = requests(&limit, 4, 150).await;
        // Worst case: the server counts an early request late and a late one early.
        for pair in seen.windows(121) {
            let (first, last) = (pair[0].1, pair[120].0);
            let others_end = pair[..120].iter().map(|p| p.1).min().unwrap();
            assert!(last >= others_end + PERIOD, "{first:?} {last:?}");
        }
        // 600 requests are five allowances: four periods plus the duration of the requests.
        let took = start.elapsed();
        assert!(took >= PERIOD * 4, "{took:?}");
        assert!(took < PERIOD * 4 + Duration::from_secs(200), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_delays_all_workers() {
        let limit = ApiRateLimiter::new(None);
        drop(limit.acquire().await);
        let start = Instant::now();
        limit.pause(Duration::from_secs(7));
        limit.pause(Duration::from_secs(2));
        requests(&limit, 3, 1).await;
        assert!(start.elapsed() >= Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_before_a_restart_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("requests");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000)));
        let open = || ApiRateLimiter::open((3, PERIOD), &file, clock.clone()).unwrap();
        let first = open();
        drop(first.acquire().await);
        // Killed while a request is in flight: it never ends.
        std::mem::forget(first.acquire().await);
        drop(first);
        clock.advance(Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        let second = open();
        let start = Instant::now();
        drop(second.acquire().await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(second.acquire().await);
        assert_eq!(start.elapsed(), Duration::from_secs(50));
    }
}
