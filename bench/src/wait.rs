//! Waiting for a condition of another process, which has to be asked repeatedly.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Time between two questions: below what the benchmarks report.
pub const STEP: Duration = Duration::from_millis(5);
/// A condition that takes longer never comes.
const LONGEST: Duration = Duration::from_secs(300);

/// Asks until there is an answer.
pub async fn wait_for<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if begun.elapsed() > LONGEST {
            bail!("{what}: nothing within {LONGEST:?}");
        }
        tokio::time::sleep(STEP).await;
    }
}
