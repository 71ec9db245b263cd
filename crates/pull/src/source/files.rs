//! Files of JSON lines as a source.
//!
//! A few readers cut files, and pieces of large ones, into parts of whole lines; parts are parsed by
//! as many tasks as there are cores; and they are given on in their order, so that of two lines with
//! the same key the later one stays. How far each file is done is noted as its parts are settled, so
//! a killed job reads at most the last parts again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use forebay_remote::keyed::Row;
use futures::StreamExt;

use crate::convert::Reader;
use crate::definition::Files;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Giver;
use crate::engine::settle::FileBook;
use crate::engine::{Run, Surroundings};
use crate::record::{Dead, Origin, Position, Record, Settled, Stage};
use crate::state::FilePoint;

mod chunk;
mod list;
mod readers;

use chunk::{Chunk, Job, Kind, Limits};
use list::FileRef;
use readers::Readers;

/// What is wrong with a line that is too long.
const LONG_LINE: &str = "the line is longer than maxLineSize; its beginning is kept";

/// Files as a source.
pub(crate) struct FileSource {
    pub(crate) run: Arc<Run>,
    pub(crate) files: Files,
    pub(crate) book: Arc<FileBook>,
    /// Makes rows already here, where nothing comes between.
    pub(crate) reader: Reader,
    pub(crate) concurrency: usize,
}

/// A part, parsed.
struct Parsed {
    chunk: Chunk,
    lines: u64,
    records: Vec<Line>,
}

struct Line {
    /// In the part, from 0.
    number: u64,
    body: Bytes,
    row: Result<Option<Row>, String>,
}

/// Where the sequence of parts is.
#[derive(Default)]
struct Place {
    part: u64,
    /// Lines of the file before the next part.
    lines: u64,
    bad: u64,
}

impl FileSource {
    /// Reads until the end, a stop or a failure. True at the end.
    pub(crate) async fn read(self, around: &Surroundings, out: Giver<Vec<Record>>) -> bool {
        match self.read_all(around, &out).await {
            Ok(is_end) => is_end,
            Err(failure) => {
                self.run.control.fail(failure);
                false
            }
        }
    }

    async fn read_all(
        &self,
        around: &Surroundings,
        out: &Giver<Vec<Record>>,
    ) -> Result<bool, Failure> {
        let jobs = self.jobs(around).await?;
        let limits = Limits {
            chunk: usize::try_from(self.files.chunk_size.0).unwrap_or(usize::MAX),
            line: usize::try_from(self.files.max_line_size.0).unwrap_or(usize::MAX),
        };
        let progress = Arc::clone(&self.run.progress);
        let readers = Readers::new(jobs, self.files.readers as usize, limits, progress);
        let chunks = futures::stream::unfold(readers, async |mut readers| {
            let chunk = readers.next().await?;
            Some((chunk, readers))
        });
        let parse = |chunk: Result<Chunk, String>| {
            let reader = self.reader.clone();
            async move {
                let chunk = chunk?;
                tokio::task::spawn_blocking(move || parsed(chunk, &reader, limits.line))
                    .await
                    .map_err(|e| format!("parsing has ended: {e}"))
            }
        };
        let mut parts = std::pin::pin!(chunks.map(parse).buffered(self.concurrency));
        let mut place = Place::default();
        loop {
            let next = tokio::select! {
                next = parts.next() => next,
                () = self.run.control.stop.cancelled() => return Ok(false),
            };
            let Some(part) = next else { break };
            let part = part.map_err(Failure::Source)?;
            if !self.give(part, &mut place, out).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is left to read of each file.
    async fn jobs(&self, around: &Surroundings) -> Result<Vec<Job>, Failure> {
        let files = list::list(&self.files, &*around.variable).await;
        let files = files.map_err(Failure::Source)?;
        let known = self
            .run
            .state
            .files()
            .await
            .map_err(self.run.state_failed())?;
        let total = files.iter().map(|f| f.size).sum();
        self.run
            .progress
            .bytes_total
            .store(total, Ordering::Relaxed);
        let mut jobs = Vec::new();
        for file in files {
            let noted = known.get(&*file.name).filter(|p| file.is(&p.identity));
            let (offset, lines, identity) = match noted {
                Some(p) if p.done && is_all(&file, p) => {
                    add(
                        &self.run.progress.bytes,
                        usize::try_from(file.size).unwrap_or(0),
                    );
                    continue;
                }
                Some(p) => (p.offset, p.lines, p.identity.clone()),
                None => (0, 0, file.identity().map_err(Failure::Source)?),
            };
            jobs.push(Job {
                file,
                identity,
                offset,
                lines,
            });
        }
        Ok(jobs)
    }

    /// Gives a part's records, and sets its bad lines aside. False when the run ends.
    async fn give(
        &self,
        part: Parsed,
        place: &mut Place,
        out: &Giver<Vec<Record>>,
    ) -> Result<bool, Failure> {
        let chunk = part.chunk;
        place.part += 1;
        place.lines = chunk.first_line.unwrap_or(place.lines);
        let before = place.lines;
        place.lines += part.lines;
        let point = FilePoint {
            name: chunk.file.name.to_string(),
            identity: chunk.identity.to_string(),
            offset: chunk.end,
            lines: if matches!(chunk.kind, Kind::LongLine(_)) {
                before
            } else {
                place.lines
            },
            done: chunk.is_last,
        };
        self.book.begin(place.part, part.records.len(), point);
        add(&self.run.progress.read, part.records.len());
        let file = Arc::clone(&chunk.file.name);
        let (good, bad) = divided(part.records, place.part, before, &file);
        place.bad += bad.dead.len() as u64;
        let last = bad
            .dead
            .last()
            .map(|d| format!("{}: {}", d.origin, d.error));
        self.run.settle(bad).await;
        if place.bad > self.files.max_errors {
            return Err(Failure::TooManyErrors(format!(
                "{} bad lines, allowed are {} (maxErrors); the last is {}",
                place.bad,
                self.files.max_errors,
                last.unwrap_or_default()
            )));
        }
        let mut good = good.into_iter();
        let unit = if self.run.unit == 1 { 1 } else { usize::MAX };
        loop {
            let batch: Vec<Record> = good.by_ref().take(unit).collect();
            if batch.is_empty() {
                return Ok(true);
            }
            if self.run.control.stop.is_cancelled() || !out.give(batch).await {
                return Ok(false);
            }
        }
    }
}

/// The good lines of a part, and the bad ones.
fn divided(lines: Vec<Line>, part: u64, before: u64, file: &Arc<str>) -> (Vec<Record>, Settled) {
    let mut good = Vec::with_capacity(lines.len());
    let mut bad = Settled::default();
    for (index, line) in (0u32..).zip(lines) {
        let position = Position { batch: part, index };
        let origin = Origin::Line(Arc::clone(file), before + line.number + 1);
        match line.row {
            Ok(row) => good.push(Record {
                position,
                origin,
                body: line.body,
                row,
            }),
            Err(error) => bad.dead.push(Dead {
                position,
                origin,
                stage: Stage::Parse,
                body: line.body,
                request: "parse".to_owned(),
                status: None,
                error,
                attempts: 1,
            }),
        }
    }
    (good, bad)
}

/// A plain file may have grown since; a packed one would be another file.
fn is_all(file: &FileRef, point: &FilePoint) -> bool {
    file.packing != list::Packing::Plain || file.size <= point.offset
}

fn parsed(chunk: Chunk, reader: &Reader, line_max: usize) -> Parsed {
    let mut lines = 0;
    let mut records = Vec::new();
    match &chunk.kind {
        Kind::Lines(bytes) => {
            let mut from = 0;
            while from < bytes.len() {
                let rest = bytes.get(from..).unwrap_or_default();
                let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                let line = rest.get(..length).unwrap_or(rest);
                let number = lines;
                lines += 1;
                // Empty lines are counted and nothing else.
                if line.len() > line_max {
                    let body = bytes.slice_ref(line.get(..chunk::LONG_KEPT).unwrap_or(line));
                    let row = Err(LONG_LINE.to_owned());
                    records.push(Line { number, body, row });
                } else if !line.trim_ascii().is_empty() {
                    let body = bytes.slice_ref(line.trim_ascii());
                    let row = reader.read(body.clone());
                    records.push(Line { number, body, row });
                }
                from += length + 1;
            }
        }
        Kind::LongLine(start) => {
            lines = 1;
            records.push(Line {
                number: 0,
                body: start.clone(),
                row: Err(LONG_LINE.to_owned()),
            });
        }
        Kind::Damage(text) => records.push(Line {
            number: 0,
            body: Bytes::new(),
            row: Err(text.clone()),
        }),
    }
    Parsed {
        chunk,
        lines,
        records,
    }
}
