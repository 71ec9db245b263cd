//! `forebay log`: inspects the log. All commands but `deliver` work next to a running server: they lock
//! nothing and write nothing.

mod deliver;

use std::path::PathBuf;

use clap::Subcommand;
use forebay_log::inspect::LogInspection;
use forebay_log::{ReadItem, SegmentDamage, StreamStats};
use forebay_model::words::counted;
use forebay_model::{BlockCompression, Clock, HumanDuration, Timestamp};
use serde_json::{Value, json};

use super::common::ConfigArgs;
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::data_dir::LOG_FOLDER;
use crate::query::TextTable;
use crate::terminal::{self, human_bytes};

/// Inspects the log of a data directory, also next to a running server.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  forebay log ls --data-dir ./data
  forebay log cat 1/1/my-events/events/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z
  forebay log verify --data-dir ./data && echo all there
  forebay log deliver --all --data-dir ./data")]
pub(crate) enum LogCommand {
    /// Lists the streams: one per slice of a sink, with records, blocks, bytes and age.
    #[command(visible_alias = "list")]
    Ls(LogViewArgs),
    Cat(LogCatArgs),
    /// Reads every block and checks its checksum. Exit code 1 when acknowledged data is damaged.
    Verify(LogViewArgs),
    /// Shows sizes of the volume and its segment files.
    Stat(LogViewArgs),
    Deliver(deliver::LogDeliverArgs),
}

/// Prints the rows of a stream.
///
/// Lost rows are reported on standard error; then the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct LogCatArgs {
    /// Name of the stream, as `forebay log ls` shows it
    stream: String,
    /// Print the blocks as stored, compressed
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    place: ConfigArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogViewArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: ConfigArgs,
}

pub(crate) fn run(command: &LogCommand, env: Environment) -> Result<(), CliError> {
    match command {
        LogCommand::Ls(args) => ls(&open(&args.place, env)?, args.json),
        LogCommand::Cat(cat) => print(&open(&cat.place, env)?, cat),
        LogCommand::Verify(args) => verify(&open(&args.place, env)?, args.json),
        LogCommand::Stat(args) => stat(&open(&args.place, env)?, args.json),
        LogCommand::Deliver(deliver) => deliver.run(env),
    }
}

fn open(config_args: &ConfigArgs, env: Environment) -> Result<LogInspection, CliError> {
    let loaded = config_args.load(env, Vec::new())?;
    let dir: PathBuf = loaded.config.data_dir.join(LOG_FOLDER);
    LogInspection::open_dir(&dir).map_err(|e| {
        CliError::new(e).hint("is it the right data directory? --data-dir sets another one")
    })
}

fn timestamp(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_millis)
}

fn ls(log: &LogInspection, as_json: bool) -> Result<(), CliError> {
    let streams = log.streams();
    if as_json {
        let streams: Vec<Value> = streams.iter().map(stream_json).collect();
        return terminal::line(format_args!("{:#}", Value::Array(streams)));
    }
    if streams.is_empty() {
        terminal::note("no streams: nothing is waiting for import");
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = TextTable::new(&[
        "records", "lost", "blocks", "stored", "oldest", "state", "stream",
    ]);
    for s in &streams {
        let age = timestamp(s.first_at_ms)
            .map(|at| rounded(HumanDuration(now.since(at))))
            .unwrap_or_default();
        let state = if s.closed { "closed" } else { "open" };
        let numbers = [
            s.records.to_string(),
            s.lost_records.to_string(),
            s.blocks.to_string(),
        ];
        let size = human_bytes(s.stored_bytes);
        table.row(&[
            &numbers[0],
            &numbers[1],
            &numbers[2],
            &size,
            &age,
            state,
            &s.name,
        ]);
    }
    terminal::data(table)
}

fn stream_json(s: &StreamStats) -> Value {
    json!({
        "name": s.name,
        "records": s.records,
        "lostRecords": s.lost_records,
        "blocks": s.blocks,
        "rawBytes": s.raw_bytes,
        "storedBytes": s.stored_bytes,
        "firstRecordAt": timestamp(s.first_at_ms),
        "lastRecordAt": timestamp(s.last_at_ms),
        "firstSequence": s.first_seq,
        "nextSequence": s.next_seq,
        "closed": s.closed,
    })
}

fn print(log: &LogInspection, args: &LogCatArgs) -> Result<(), CliError> {
    let Some(stream) = log.find(&args.stream) else {
        return Err(
            CliError::new(format_args!("stream \"{}\" does not exist", args.stream))
                .hint("`forebay log ls` lists them; imported streams are no longer in the log"),
        );
    };
    let reader = log.reader(stream.id, 0).map_err(CliError::new)?;
    let mut lost = 0;
    for item in reader {
        match item.map_err(CliError::new)? {
            ReadItem::Gap(gap) => {
                lost += gap.records;
                terminal::note(format_args!(
                    "lost: {} from {} on",
                    counted(gap.records, "record"),
                    gap.first_seq
                ));
            }
            ReadItem::Block(block) if args.raw => terminal::bytes(&block.payload)?,
            ReadItem::Block(block) => {
                let compression = compression(block.codec)?;
                let rows = forebay_record::block::decode(
                    &block.payload,
                    compression,
                    block.raw_len as usize,
                );
                terminal::bytes(&rows.map_err(CliError::new)?)?;
            }
        }
    }
    match lost {
        0 => Ok(()),
        n => Err(CliError::new(format_args!(
            "the stream lost {}",
            counted(n, "record")
        ))),
    }
}

/// Codec numbers of the log.
fn compression(codec: u8) -> Result<BlockCompression, CliError> {
    match codec {
        0 => Ok(BlockCompression::None),
        1 => Ok(BlockCompression::Gzip { level: 1 }),
        2 => Ok(BlockCompression::Zstd { level: 1 }),
        other => Err(
            CliError::new(format_args!("a block has the unknown compression {other}"))
                .hint("--raw prints blocks as they are stored"),
        ),
    }
}

fn verify(log: &LogInspection, as_json: bool) -> Result<(), CliError> {
    let bar = progress();
    let report = log.verify(|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let opening = log.report();
    let sound = report.is_sound() && opening.is_clean();
    if as_json {
        terminal::line(format_args!(
            "{:#}",
            json!({
                "sound": sound,
                "segments": report.segments,
                "soundBlocks": report.sound_blocks,
                "soundBytes": report.sound_bytes,
                "damage": report.damage.iter().map(damage_json).collect::<Vec<_>>(),
                "unreadable": report.unreadable,
                "missingSegments": opening.missing_segments,
                "foreignSegments": opening.foreign_segments,
            })
        ))?;
    } else {
        for damage in &report.damage {
            terminal::line(damage_text(damage))?;
        }
        for problem in &report.unreadable {
            terminal::line(format_args!("unreadable: {problem}"))?;
        }
        for segment in &opening.missing_segments {
            terminal::line(format_args!("segment {segment} is missing"))?;
        }
        for segment in &opening.foreign_segments {
            terminal::line(format_args!("segment {segment} belongs to another volume"))?;
        }
        let size = human_bytes(report.sound_bytes);
        let (blocks, segments) = (report.sound_blocks, report.segments);
        terminal::line(format_args!(
            "{}, {size}, in {}",
            counted(blocks, "sound block"),
            counted(segments, "segment")
        ))?;
    }
    if sound {
        Ok(())
    } else {
        Err(CliError::new(
            "acknowledged data is damaged or missing; see above",
        ))
    }
}

fn damage_text(damage: &SegmentDamage) -> String {
    let location = format!(
        "segment {} from byte {} on, {} bytes",
        damage.segment, damage.offset, damage.len
    );
    let what = match &damage.block {
        Some(b) if !b.name.is_empty() => format!(
            ": {} from {} on of {}",
            counted(b.records, "record"),
            b.first_seq,
            b.name
        ),
        _ => String::new(),
    };
    let kind = if damage.acknowledged {
        "damaged"
    } else {
        "torn write (never acknowledged)"
    };
    format!("{kind}: {location}{what}")
}

fn damage_json(damage: &SegmentDamage) -> Value {
    json!({
        "segment": damage.segment,
        "offset": damage.offset,
        "bytes": damage.len,
        "acknowledged": damage.acknowledged,
        "stream": damage.block.as_ref().map(|b| &b.name),
        "firstSequence": damage.block.as_ref().map(|b| b.first_seq),
        "records": damage.block.as_ref().map(|b| b.records),
    })
}

fn stat(log: &LogInspection, as_json: bool) -> Result<(), CliError> {
    let (stats, segments) = (log.stats(), log.segments());
    if as_json {
        let segment = |s: &forebay_log::SegmentStats| {
            json!({
                "id": s.id, "fileBytes": s.file_bytes, "usedBytes": s.used_bytes,
                "liveBytes": s.live_bytes, "liveBlocks": s.live_blocks, "sealed": s.sealed,
            })
        };
        return terminal::line(format_args!(
            "{:#}",
            json!({
                "volume": stats.volume.map(|v| format!("{v:016x}")),
                "streams": stats.streams,
                "spareSegments": stats.spare_segments,
                "fileBytes": stats.file_bytes,
                "usedBytes": stats.used_bytes,
                "liveBytes": stats.live_bytes,
                "segments": segments.iter().map(segment).collect::<Vec<_>>(),
            })
        ));
    }
    let volume = stats
        .volume
        .map_or_else(|| "unknown".to_owned(), |v| format!("{v:016x}"));
    let (files, used, live) = (
        human_bytes(stats.file_bytes),
        human_bytes(stats.used_bytes),
        human_bytes(stats.live_bytes),
    );
    terminal::line(format_args!("volume    {volume}"))?;
    terminal::line(format_args!("streams   {}", stats.streams))?;
    terminal::line(format_args!(
        "files     {files} in {} and {}",
        counted(stats.segments, "segment"),
        counted(stats.spare_segments, "spare")
    ))?;
    terminal::line(format_args!("blocks    {used}, of which {live} are live\n"))?;
    let mut table = TextTable::new(&["segment", "file", "used", "live", "blocks", "sealed"]);
    for s in &segments {
        let sealed = if s.sealed { "yes" } else { "no" };
        let (file, used, live) = (
            human_bytes(s.file_bytes),
            human_bytes(s.used_bytes),
            human_bytes(s.live_bytes),
        );
        table.row(&[
            &s.id.to_string(),
            &file,
            &used,
            &live,
            &s.live_blocks.to_string(),
            sealed,
        ]);
    }
    terminal::data(table)
}

/// A bar on a terminal, otherwise hidden.
fn progress() -> indicatif::ProgressBar {
    if !terminal::is_attended() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(0);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {percent}%");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Without fractions above one second.
fn rounded(span: HumanDuration) -> String {
    match span.0.as_secs() {
        0 => HumanDuration::millis(u64::from(span.0.subsec_millis())).to_string(),
        n => HumanDuration::secs(n).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_human_readable() {
        assert_eq!(rounded(HumanDuration::millis(3_700)), "3s");
        assert_eq!(rounded(HumanDuration::millis(70)), "70ms");
    }
}
