//! Progress of a job on a terminal.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use forebay_jobs::JobProgress;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::terminal;

const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// A bar with bytes, rows per second and remaining time; for an API without the bar.
pub(super) struct JobProgressBar {
    bar: ProgressBar,
    progress: Arc<JobProgress>,
    begin: Instant,
}

impl JobProgressBar {
    pub(super) fn new(progress: &Arc<JobProgress>) -> Self {
        let bar = if terminal::is_attended() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            progress: Arc::clone(progress),
            begin: Instant::now(),
        }
    }

    /// Draws after the interval; to be polled repeatedly.
    pub(super) async fn tick(&self) {
        tokio::time::sleep(REDRAW_INTERVAL).await;
        let summary = self.progress.summary(self.begin.elapsed());
        let (bytes, total) = self.progress.bytes();
        let settled = summary.written + summary.unchanged;
        let rows = format!(
            "{} read, {settled} resolved, {} dead-lettered, {} rows/s",
            summary.read, summary.dead, summary.rows_per_second
        );
        if total > 0 && self.bar.length() != Some(total) {
            self.bar.set_length(total);
            let template = "{bar:30} {bytes}/{total_bytes} {msg} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
        }
        self.bar.set_position(bytes.min(total));
        self.bar.set_message(rows);
        self.bar.tick();
    }

    /// Prints a line above the bar.
    pub(super) fn note(&self, text: fmt::Arguments<'_>) {
        self.bar.suspend(|| terminal::note(text));
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
