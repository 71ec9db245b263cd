//! `forebay buffer ls|stat|watch`: state of a buffer, also while `send` runs.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use forebay_model::words::counted;
use forebay_model::{Clock, HumanDuration};
use serde_json::Value;

use super::BufferArgs;
use super::status::{BufferStatus, PartitionStatus};
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::query::TextTable;
use crate::signals::StopSignals;
use crate::terminal::{self, human_bytes};

#[derive(Debug, clap::Args)]
pub(crate) struct BufferViewArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: BufferArgs,
}

/// Shows the state of the buffer repeatedly: a table on a terminal, lines of JSON otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct BufferWatchArgs {
    /// Refresh interval
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: HumanDuration,
    /// Number of refreshes, then exit
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    place: BufferArgs,
}

fn now_ms() -> i64 {
    SystemClock.now().as_millis()
}

fn read(buffer_args: &BufferArgs) -> Result<BufferStatus, CliError> {
    BufferStatus::read(&buffer_args.dir, now_ms())
}

fn as_json(status: &BufferStatus) -> Result<Value, CliError> {
    serde_json::to_value(status).map_err(CliError::new)
}

pub(super) fn ls(args: &BufferViewArgs) -> Result<(), CliError> {
    let status = read(&args.place)?;
    if args.json {
        let json = as_json(&status)?;
        return terminal::line(format_args!(
            "{:#}",
            json.get("lanes").unwrap_or(&Value::Null)
        ));
    }
    if status.lanes.is_empty() {
        terminal::note("this buffer is empty: no message was ever written");
        return Ok(());
    }
    terminal::data(table(&status))
}

pub(super) fn stat(args: &BufferViewArgs) -> Result<(), CliError> {
    let status = read(&args.place)?;
    if args.json {
        return terminal::line(format_args!("{:#}", as_json(&status)?));
    }
    terminal::data(page(&status))
}

pub(super) fn watch(watch: &BufferWatchArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))?;
    let on_terminal = std::io::stdout().is_terminal();
    runtime.block_on(async {
        let mut signals = StopSignals::catch()?;
        let mut tick = tokio::time::interval(watch.every.0.max(Duration::from_millis(50)));
        let mut shown = 0;
        loop {
            tokio::select! {
                _ = signals.next() => return Ok(()),
                _ = tick.tick() => {}
            }
            let status = read(&watch.place)?;
            if on_terminal {
                terminal::repaint(&page(&status))?;
            } else {
                terminal::line(as_json(&status)?)?;
            }
            shown += 1;
            if watch.count.is_some_and(|count| shown >= count) {
                return Ok(());
            }
        }
    })
}

fn page(status: &BufferStatus) -> String {
    let mut page = String::new();
    let size = human_bytes;
    // Writing to a String can't fail.
    let mut line = |name: &str, text: &dyn std::fmt::Display| {
        _ = writeln!(page, "{name:<10}{text}");
    };
    if status.pid == 0 {
        line("process", &"not running; values are read from disk");
    } else {
        line("process", &status.pid);
        line("provider", &status.provider);
    }
    let bound = if status.max_bytes > 0 {
        format!(" of {}", size(status.max_bytes))
    } else {
        String::new()
    };
    line(
        "waiting",
        &format_args!("{}{bound}", size(status.waiting_bytes)),
    );
    line(
        "files",
        &format_args!("{}, {}", status.files, size(status.file_bytes)),
    );
    line("dead", &counted(status.dead_letters, "dead letter"));
    if let Some(error) = &status.disk_failed {
        line("disk", error);
    }
    if let Some(error) = &status.last_error {
        line("failed", error);
    }
    for partition in &status.lanes {
        if let Some(error) = &partition.error {
            line("down", &format_args!("{}: {error}", partition.lane));
        }
    }
    _ = write!(page, "\n{}", table(status));
    page
}

fn table(status: &BufferStatus) -> TextTable {
    let mut table = TextTable::new(&[
        "waiting",
        "bytes",
        "in flight",
        "oldest",
        "in/s",
        "out/s",
        "delivered",
        "dead",
        "dropped",
        "state",
        "lane",
    ]);
    for partition in &status.lanes {
        table.row(&row(partition, status.at_ms).each_ref().map(String::as_str));
    }
    table
}

fn row(partition: &PartitionStatus, now_ms: i64) -> [String; 11] {
    let age = partition.oldest_at_ms.map_or_else(String::new, |at| {
        let ms = u64::try_from(now_ms.saturating_sub(at)).unwrap_or(0);
        if ms < 1_000 {
            HumanDuration::millis(ms).to_string()
        } else {
            HumanDuration::secs(ms / 1_000).to_string()
        }
    });
    [
        partition.waiting.to_string(),
        human_bytes(partition.waiting_bytes),
        partition.in_flight.to_string(),
        age,
        format!("{:.0}", partition.written_per_second),
        format!("{:.0}", partition.delivered_per_second),
        partition.delivered.to_string(),
        partition.dead.to_string(),
        partition.dropped.to_string(),
        partition.state.clone(),
        partition.lane.clone(),
    ]
}
