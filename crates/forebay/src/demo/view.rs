//! Live view: bars on a terminal, a line per second otherwise.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::gauge::ProgressReading;
use crate::terminal;

pub(crate) enum DemoView {
    /// On a terminal.
    Bars(BarView),
    /// Otherwise.
    Lines(LineView),
}

/// A bar per stage.
pub(crate) struct BarView {
    _all: MultiProgress,
    sent: ProgressBar,
    acknowledged: ProgressBar,
    uploaded: ProgressBar,
    imported: ProgressBar,
    rate: RateMeter,
}

/// Periodic lines.
pub(crate) struct LineView {
    last: Option<Instant>,
    rate: RateMeter,
}

/// Events per second since the last reading.
#[derive(Default)]
struct RateMeter {
    last: Option<(Instant, u64)>,
    shown: f64,
}

impl RateMeter {
    /// At most two readings per second, so that the number is legible.
    #[allow(clippy::cast_precision_loss, reason = "display only")]
    fn update(&mut self, sent: u64) -> f64 {
        let now = Instant::now();
        match self.last {
            None => self.last = Some((now, sent)),
            Some((then, before)) if now - then >= Duration::from_millis(500) => {
                self.shown = sent.saturating_sub(before) as f64 / (now - then).as_secs_f64();
                self.last = Some((now, sent));
            }
            Some(_) => {}
        }
        self.shown
    }
}

impl DemoView {
    /// Bars on a terminal, lines otherwise. `all` is the expected number of events.
    pub(crate) fn new(all: u64) -> Self {
        if terminal::is_attended() {
            Self::Bars(BarView::new(all))
        } else {
            Self::Lines(LineView {
                last: None,
                rate: RateMeter::default(),
            })
        }
    }

    /// Shows a reading; `is_last` is shown even right after another.
    pub(crate) fn show(&mut self, reading: &ProgressReading, is_last: bool) {
        match self {
            Self::Bars(bars) => bars.show(reading),
            Self::Lines(lines) => lines.show(reading, is_last),
        }
    }

    /// Keeps the last state on the screen.
    pub(crate) fn finish(self) {
        if let Self::Bars(bars) = self {
            for bar in [bars.sent, bars.acknowledged, bars.uploaded, bars.imported] {
                bar.abandon();
            }
        }
    }
}

impl BarView {
    fn new(all: u64) -> Self {
        let together = MultiProgress::new();
        let bar = |name: &'static str| {
            let template = "{prefix:>22} {bar:40.cyan/blue} {pos:>8} {msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            together
                .add(ProgressBar::new(all))
                .with_style(style)
                .with_prefix(name)
        };
        Self {
            sent: bar("sent"),
            acknowledged: bar("acknowledged, on disk"),
            uploaded: bar("uploaded to staging"),
            imported: bar("in the table"),
            _all: together,
            rate: RateMeter::default(),
        }
    }

    fn show(&mut self, reading: &ProgressReading) {
        let rate = self.rate.update(reading.sent);
        self.sent.set_position(reading.sent);
        self.sent.set_message(format!("{rate:.0}/s"));
        self.acknowledged.set_position(reading.acknowledged);
        self.uploaded.set_position(reading.uploaded);
        self.imported.set_position(reading.imported);
        self.imported
            .set_message(format!("lag {:.1} s", reading.lag.as_secs_f64()));
    }
}

impl LineView {
    fn show(&mut self, reading: &ProgressReading, is_last: bool) {
        let now = Instant::now();
        let rate = self.rate.update(reading.sent);
        if !is_last
            && self
                .last
                .is_some_and(|last| now - last < Duration::from_secs(1))
        {
            return;
        }
        self.last = Some(now);
        let ProgressReading {
            sent,
            acknowledged,
            uploaded,
            imported,
            lag,
        } = reading;
        terminal::note(format_args!(
            "sent {sent} ({rate:.0}/s), on disk {acknowledged}, uploaded {uploaded}, in the table {imported}, lag {:.1} s",
            lag.as_secs_f64()
        ));
    }
}
