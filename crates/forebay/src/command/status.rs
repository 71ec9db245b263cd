//! `forebay status`: all sinks and disks on one screen.

use std::fmt::Write as _;
use std::time::Duration;

use forebay_api::status::{
    DefinitionsStatusView, SinkHealthName, SinkStatusView, StatusResponse, VolumeStatusView,
};
use forebay_model::Timestamp;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::query::TextTable;
use crate::terminal;

/// Path of the status.
pub(super) const STATUS: &str = "/v1/branches/default/status";

/// Shows the state of all sinks and disks.
///
/// For each sink: its state, rates, records that are not imported yet and the age of the oldest one (lag),
/// dead letters; for each one that fails: the step, the cause and the next attempt.
///
/// Exits with 0 when everything is healthy, and with 1 when something fails.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "top")]
pub(crate) struct StatusArgs {
    /// Refresh every two seconds until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Interval of `--watch`.
const REFRESH: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &StatusArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    block_on(async {
        loop {
            let status: StatusResponse = api.get(STATUS).await?;
            if args.json {
                terminal::json(&status)?;
            } else if args.watch {
                terminal::repaint(&screen(&status))?;
                tokio::time::sleep(REFRESH).await;
                continue;
            } else {
                terminal::data(screen(&status))?;
            }
            return match status.healthy {
                true => Ok(()),
                false => Err(CliError::new("something needs attention")),
            };
        }
    })
}

fn screen(status: &StatusResponse) -> String {
    let mut text = String::new();
    let failing = status.sinks.iter().filter(|s| needs_attention(s)).count();
    let verdict = match (status.healthy, failing) {
        (true, _) => "healthy".to_owned(),
        (false, 0) => "NOT HEALTHY".to_owned(),
        (false, 1) => "NOT HEALTHY: 1 sink needs attention".to_owned(),
        (false, n) => format!("NOT HEALTHY: {n} sinks need attention"),
    };
    _ = writeln!(text, "forebay {}  {verdict}\n", status.version);
    if let Some(error) = &status.store_error {
        _ = writeln!(
            text,
            "metadata store failed: {error}; restart the process after the disk is repaired\n"
        );
    }
    if let Some(definitions) = &status.definitions {
        text.push_str(&definitions_line(definitions, status.read_at));
    }
    if status.sinks.is_empty() {
        text.push_str("no sinks yet; `forebay source create` or `forebay apply` creates one\n");
    } else {
        text.push_str(&sinks(status).to_string());
    }
    for sink in status.sinks.iter().filter(|s| needs_attention(s)) {
        text.push_str(&problem(sink, status.read_at));
    }
    text.push('\n');
    for volume in &status.volumes {
        text.push_str(&volume_line(volume));
    }
    text
}

fn definitions_line(definitions: &DefinitionsStatusView, now: Timestamp) -> String {
    let DefinitionsStatusView {
        dir,
        applied_at,
        error,
    } = definitions;
    match (error, applied_at) {
        (Some(error), _) => format!(
            "definitions of {dir} are not applied, the former ones remain in force:\n{error}\n\n"
        ),
        (None, Some(at)) => format!("definitions of {dir} applied {} ago\n\n", age(*at, now)),
        (None, None) => format!("definitions of {dir} are being applied\n\n"),
    }
}

fn sinks(status: &StatusResponse) -> TextTable {
    let mut table = TextTable::new(&[
        "sink", "target", "state", "in/s", "out/s", "pending", "lag", "dead",
    ]);
    for sink in &status.sinks {
        let lag = sink.oldest_pending_at.map(|at| age(at, status.read_at));
        table.row(&[
            &format!("{}/{}", sink.source_id, sink.sink_id),
            &sink.target,
            state(sink.state),
            &rate(sink.accepted_per_second),
            &rate(sink.imported_per_second),
            &sink.pending.to_string(),
            &lag.unwrap_or_default(),
            &sink.dead_letters.to_string(),
        ]);
    }
    table
}

fn needs_attention(sink: &SinkStatusView) -> bool {
    matches!(sink.state, SinkHealthName::Failing | SinkHealthName::Parked) || !sink.balanced
}

fn state(state: SinkHealthName) -> &'static str {
    match state {
        SinkHealthName::Ok => "ok",
        SinkHealthName::Failing => "FAILING",
        SinkHealthName::Parked => "PARKED",
        SinkHealthName::Paused => "paused",
        SinkHealthName::Disabled => "disabled",
    }
}

/// Lines about a failing sink: step, cause, time of the next attempt, and the command that hurries it.
fn problem(sink: &SinkStatusView, now: Timestamp) -> String {
    let (source, id) = (&sink.source_id, &sink.sink_id);
    let mut text = String::new();
    if let Some(failure) = &sink.failure {
        let since = failure.since.map(|at| format!(" for {}", age(at, now)));
        let attempts = match failure.attempts {
            0 | 1 => String::new(),
            n => format!(", {n} attempts"),
        };
        let (step, since) = (&failure.step, since.unwrap_or_default());
        _ = writeln!(text, "\n{source}/{id}: {step} has failed{since}{attempts}");
        _ = writeln!(text, "  cause: {}", failure.cause);
        let next = failure.next_attempt_at.map(|at| match at > now {
            true => format!("in {}", age(now, at)),
            false => "now".to_owned(),
        });
        if let Some(next) = next {
            _ = writeln!(
                text,
                "  next attempt: {next}; now: forebay retry {source}/{id}"
            );
        }
        if sink.state == SinkHealthName::Parked {
            _ = writeln!(
                text,
                "  parked: mend the table or the mapping, then: forebay retry {source} {id}"
            );
        }
    }
    if !sink.balanced {
        _ = writeln!(
            text,
            "\n{source}/{id}: the counts of records do not match, please report this: forebay source show {source}"
        );
    }
    text
}

fn volume_line(volume: &VolumeStatusView) -> String {
    let size = terminal::human_bytes;
    let space = match (volume.free_bytes, volume.size_bytes) {
        (Some(free), Some(all)) => format!("{} free of {}", size(free), size(all)),
        _ => "unknown space".to_owned(),
    };
    let log = size(volume.file_bytes);
    let trouble = match (&volume.error, volume.full) {
        (Some(error), _) => {
            format!("  FAILED: {error}; restart the process after the disk is repaired")
        }
        (None, true) => "  FULL: records are rejected with 503".to_owned(),
        (None, false) => String::new(),
    };
    let id = &volume.volume_id;
    format!("volume {id}: {space}, log {log}{trouble}\n")
}

fn rate(per_second: f64) -> String {
    match per_second {
        r if r < 0.05 => "0".to_owned(),
        r if r < 10.0 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

/// Time between two points, in its two largest units.
fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.since(from).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86_400 => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}
