//! Delay requested by a server (`Retry-After`), persisted in a file: it outlives the process, which
//! may be killed and restarted before the delay ends.
//!
//! The file is written without a sync: it must survive the process, not the machine. It belongs to
//! one server; a delay of another origin is ignored.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Clock, Timestamp};
use reqwest::Url;

/// Longer files are foreign.
const FILE_BYTES_MAX: u64 = 4096;

#[derive(Clone)]
pub struct PersistedRetryAfter {
    file: PathBuf,
    origin: String,
    /// Maximum of a delay.
    max: Duration,
    clock: Arc<dyn Clock>,
}

impl PersistedRetryAfter {
    /// Persists delays of the server of `url` in `file`, limited to `max`.
    pub fn new(file: PathBuf, url: &Url, max: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            file,
            origin: url.origin().ascii_serialization(),
            max,
            clock,
        }
    }

    /// Remaining time of the last delay; `None` when it is over.
    pub fn remaining(&self) -> Option<Duration> {
        if self.file.metadata().ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let text = fs::read_to_string(&self.file).ok()?;
        let (until, origin) = text.trim_end().split_once(' ')?;
        let until = Timestamp::from_millis(until.parse().ok()?);
        let remaining = until
            .as_millis()
            .checked_sub(self.clock.now().as_millis())?;
        let remaining = Duration::from_millis(u64::try_from(remaining).ok()?);
        // A clock that was set back must not extend the delay beyond the maximum.
        (origin == self.origin && !remaining.is_zero()).then_some(remaining.min(self.max))
    }

    /// Stores a requested delay and returns it, limited to the maximum. A delay that can't be
    /// stored is kept in memory only.
    pub fn begin(&self, requested: Duration) -> Duration {
        let wait = requested.min(self.max);
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let until = self.clock.now().as_millis().saturating_add(millis);
        let mut part = self.file.clone().into_os_string();
        part.push(".part");
        let written = fs::write(&part, format!("{until} {}\n", self.origin));
        if let Err(error) = written.and_then(|()| fs::rename(&part, &self.file)) {
            tracing::warn!(%error, file = %self.file.display(), "can't persist Retry-After");
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::ManualClock;

    use super::*;

    #[test]
    fn a_delay_is_restored_by_the_next_process_and_limited() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pause");
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let open = |url: &str| {
            let url = url.parse().unwrap();
            let max = Duration::from_secs(60);
            PersistedRetryAfter::new(file.clone(), &url, max, clock.clone())
        };
        let pause = open("http://api.example/a?b");
        assert_eq!(pause.remaining(), None);
        assert_eq!(pause.begin(Duration::from_secs(6)), Duration::from_secs(6));
        clock.advance(Duration::from_secs(1));
        let again = open("http://api.example/other");
        assert_eq!(again.remaining(), Some(Duration::from_secs(5)));
        assert_eq!(open("http://api.example:81/").remaining(), None);
        clock.advance(Duration::from_secs(5));
        assert_eq!(again.remaining(), None);
        assert_eq!(again.begin(Duration::MAX), Duration::from_secs(60));
        assert_eq!(again.remaining(), Some(Duration::from_secs(60)));
        for damaged in ["", "soon http://api.example", "99999999999999999999 x"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(again.remaining(), None, "{damaged}");
        }
        fs::write(&file, format!("{} http://api.example", i64::MAX)).unwrap();
        assert_eq!(again.remaining(), Some(Duration::from_secs(60)));
    }
}
