//! `forebay log`: what is in the log, for people on call. All but `deliver` works beside a running
//! server: nothing is locked and nothing is written.

mod deliver;

use std::path::PathBuf;

use clap::Subcommand;
use forebay_log::inspect::Inspection;
use forebay_log::{Damage, Item, StreamStats};
use forebay_model::words::counted;
use forebay_model::{Clock, Compression, Span, Timestamp};
use serde_json::{Value, json};

use super::common::Place;
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::failure::Failure;
use crate::query::TextTable;
use crate::terminal::{self, human};

/// Folder of the log in the data directory.
pub(crate) const FOLDER: &str = "log";

/// Looks into the log of a data directory, also beside a running server.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  forebay log ls --data-dir ./data
  forebay log cat 1/1/my-events/events/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z
  forebay log verify --data-dir ./data && echo all there
  forebay log deliver --all --data-dir ./data")]
pub(crate) enum Command {
    /// Lists the streams: a slice of a sink each, with its records, blocks, bytes and age.
    #[command(visible_alias = "list")]
    Ls(Look),
    Cat(Cat),
    /// Reads every block and checks its checksum. Exit code 1 when acknowledged data is damaged.
    Verify(Look),
    /// Shows sizes: of the volume and of its segment files.
    Stat(Look),
    Deliver(deliver::Deliver),
}

/// Prints the rows of a stream.
///
/// Places where rows are lost are named on standard error; then the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// Name of the stream, as `forebay log ls` shows it
    stream: String,
    /// The blocks as they are stored, compressed
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs it.
pub(crate) fn run(command: &Command, env: Environment) -> Result<(), Failure> {
    match command {
        Command::Ls(look) => ls(&open(&look.place, env)?, look.json),
        Command::Cat(cat) => print(&open(&cat.place, env)?, cat),
        Command::Verify(look) => verify(&open(&look.place, env)?, look.json),
        Command::Stat(look) => stat(&open(&look.place, env)?, look.json),
        Command::Deliver(deliver) => deliver.run(env),
    }
}

fn open(place: &Place, env: Environment) -> Result<Inspection, Failure> {
    let loaded = place.load(env, Vec::new())?;
    let dir: PathBuf = loaded.config.data_dir.join(FOLDER);
    Inspection::open_dir(&dir).map_err(|e| {
        Failure::new(e).hint("is it the right data directory? --data-dir names another one")
    })
}

fn moment(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_millis)
}

fn ls(log: &Inspection, as_json: bool) -> Result<(), Failure> {
    let streams = log.streams();
    if as_json {
        let streams: Vec<Value> = streams.iter().map(stream_json).collect();
        return terminal::line(format_args!("{:#}", Value::Array(streams)));
    }
    if streams.is_empty() {
        terminal::note("there is no stream: nothing waits to be imported");
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = TextTable::new(&[
        "records", "lost", "blocks", "stored", "oldest", "state", "stream",
    ]);
    for s in &streams {
        let age = moment(s.first_at_ms)
            .map(|at| rounded(Span(now.since(at))))
            .unwrap_or_default();
        let state = if s.closed { "closed" } else { "open" };
        let numbers = [
            s.records.to_string(),
            s.lost_records.to_string(),
            s.blocks.to_string(),
        ];
        let size = human(s.stored_bytes);
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
        "firstRecordAt": moment(s.first_at_ms),
        "lastRecordAt": moment(s.last_at_ms),
        "firstSequence": s.first_seq,
        "nextSequence": s.next_seq,
        "closed": s.closed,
    })
}

fn print(log: &Inspection, args: &Cat) -> Result<(), Failure> {
    let Some(stream) = log.find(&args.stream) else {
        return Err(
            Failure::new(format_args!("there is no stream \"{}\"", args.stream))
                .hint("`forebay log ls` lists them; what was imported is not in the log any more"),
        );
    };
    let reader = log.reader(stream.id, 0).map_err(Failure::new)?;
    let mut lost = 0;
    for item in reader {
        match item.map_err(Failure::new)? {
            Item::Gap(gap) => {
                lost += gap.records;
                terminal::note(format_args!(
                    "lost: {} from {} on",
                    counted(gap.records, "record"),
                    gap.first_seq
                ));
            }
            Item::Block(block) if args.raw => terminal::bytes(&block.payload)?,
            Item::Block(block) => {
                let compression = compression(block.codec)?;
                let rows = forebay_record::block::decode(
                    &block.payload,
                    compression,
                    block.raw_len as usize,
                );
                terminal::bytes(&rows.map_err(Failure::new)?)?;
            }
        }
    }
    match lost {
        0 => Ok(()),
        n => Err(Failure::new(format_args!(
            "the stream has lost {}",
            counted(n, "record")
        ))),
    }
}

/// By agreement of all who write and read the log.
fn compression(codec: u8) -> Result<Compression, Failure> {
    match codec {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Gzip { level: 1 }),
        2 => Ok(Compression::Zstd { level: 1 }),
        other => Err(
            Failure::new(format_args!("a block has the unknown compression {other}"))
                .hint("--raw prints blocks as they are stored"),
        ),
    }
}

fn verify(log: &Inspection, as_json: bool) -> Result<(), Failure> {
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
            terminal::line(format_args!("segment {segment} is of another volume"))?;
        }
        let size = human(report.sound_bytes);
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
        Err(Failure::new(
            "acknowledged data is damaged or missing; it is named above",
        ))
    }
}

fn damage_text(damage: &Damage) -> String {
    let place = format!(
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
        "cut short (was never acknowledged)"
    };
    format!("{kind}: {place}{what}")
}

fn damage_json(damage: &Damage) -> Value {
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

fn stat(log: &Inspection, as_json: bool) -> Result<(), Failure> {
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
        human(stats.file_bytes),
        human(stats.used_bytes),
        human(stats.live_bytes),
    );
    terminal::line(format_args!("volume    {volume}"))?;
    terminal::line(format_args!("streams   {}", stats.streams))?;
    terminal::line(format_args!(
        "files     {files} in {} and {}",
        counted(stats.segments, "segment"),
        counted(stats.spare_segments, "spare")
    ))?;
    terminal::line(format_args!(
        "blocks    {used}, of which {live} can still be read\n"
    ))?;
    let mut table = TextTable::new(&["segment", "file", "used", "live", "blocks", "sealed"]);
    for s in &segments {
        let sealed = if s.sealed { "yes" } else { "no" };
        let (file, used, live) = (
            human(s.file_bytes),
            human(s.used_bytes),
            human(s.live_bytes),
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

/// On a terminal a bar, otherwise nothing.
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

/// Without fractions of a second above one.
fn rounded(span: Span) -> String {
    match span.0.as_secs() {
        0 => Span::millis(u64::from(span.0.subsec_millis())).to_string(),
        n => Span::secs(n).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_for_people() {
        assert_eq!(rounded(Span::millis(3_700)), "3s");
        assert_eq!(rounded(Span::millis(70)), "70ms");
    }
}
