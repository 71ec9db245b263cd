//! Log lines on standard error.

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::cli_error::CliError;
use crate::config::{LogFormat, LogOutput};
use crate::terminal;

mod stderr;

pub(crate) use stderr::FlushGuard;

/// Records spans beside the log.
pub(crate) type TraceLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Writes log lines and panics to standard error through a queue that the guard flushes: a standard
/// error that is full, closed or not read never blocks the process.
pub(crate) fn start_log(
    output: &LogOutput,
    traces: Option<TraceLayer>,
) -> Result<LogLines, CliError> {
    let filter = EnvFilter::builder()
        .parse(&output.level)
        .map_err(|e| CliError::usage(format_args!("telemetry.log.level: {e}")))?;
    let is_json = match output.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal::is_attended(),
    };
    let failed =
        |e: &dyn std::fmt::Display| CliError::new(format_args!("can't start logging: {e}"));
    let (queue, guard) = stderr::queue(std::io::stderr()).map_err(|e| failed(&e))?;
    let lines = tracing_subscriber::fmt::layer()
        // Its report of a failed write would panic if standard error is closed.
        .log_internal_errors(false)
        .with_writer(queue);
    let lines = if is_json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.compact().with_ansi(terminal::is_colored()).boxed()
    };
    let (filter, level) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(traces)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|e| failed(&e))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, %backtrace, "panic: {text}");
    }));
    Ok(LogLines {
        flush: guard,
        level: LogLevel(Arc::new(move |filter| level.reload(filter))),
    })
}

pub(crate) struct LogLines {
    /// Flushes queued lines on drop.
    pub(crate) flush: FlushGuard,
    pub(crate) level: LogLevel,
}

type SetFilter = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// Filter of log lines that can change at run time.
#[derive(Clone)]
pub(crate) struct LogLevel(Arc<SetFilter>);

impl LogLevel {
    pub(crate) fn set(&self, level: &str) -> Result<(), String> {
        let filter = EnvFilter::builder().parse(level);
        let filter = filter.map_err(|e| format!("telemetry.log.level: {e}"))?;
        (self.0)(filter).map_err(|e| e.to_string())
    }
}
