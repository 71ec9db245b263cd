//! Files of JSON lines as a source.
//!
//! A few readers cut files, and pieces of large ones, into parts of whole lines; parts are parsed by
//! as many tasks as there are cores; and they are given on in their order, so that of two lines with
//! the same key the later one stays. How far each file is done is noted as its parts are settled, so
//! a killed job reads at most the last parts again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;

use crate::convert::Reader;
use crate::definition::Files;
use crate::engine::outcome::{Failure, Progress, add};
use crate::engine::queue::Giver;
use crate::engine::settle::FileBook;
use crate::engine::{Run, Surroundings};
use crate::record::{Batch, Dead, Lines, Origin, Position, Settled, Stage};
use crate::state::FilePoint;

pub(crate) mod buffers;
mod chunk;
mod encoding;
mod list;
mod local;
mod name;
mod objects;
mod parse;
mod problems;
mod readers;
mod unpack;

use buffers::Buffers;
use chunk::{Chunk, Job, Kind, Limits};
use list::{FileRef, Listing};
use parse::{Bad, Parsed, parsed};
use problems::Problems;
use readers::Readers;

/// Files as a source.
pub(crate) struct FileSource {
    pub(crate) run: Arc<Run>,
    pub(crate) files: Files,
    pub(crate) book: Arc<FileBook>,
    /// Makes rows already here, where nothing comes between.
    pub(crate) reader: Reader,
    pub(crate) concurrency: usize,
}

/// Where the sequence of parts is.
struct Place {
    part: u64,
    /// Lines of the file before the next part.
    lines: u64,
    bad: u64,
    buffers: Buffers,
    problems: Problems,
}

impl FileSource {
    /// Reads until the end, a stop or a failure. True at the end.
    pub(crate) async fn read(self, around: &Surroundings, out: Giver<Batch>) -> bool {
        match self.read_all(around, &out).await {
            Ok(is_end) => is_end,
            Err(failure) => {
                self.run.control.fail(failure);
                false
            }
        }
    }

    async fn read_all(&self, around: &Surroundings, out: &Giver<Batch>) -> Result<bool, Failure> {
        let Some((jobs, problems)) = self.jobs(around).await? else {
            return Ok(false);
        };
        let limits = Limits {
            chunk: usize::try_from(self.files.chunk_size.0).unwrap_or(usize::MAX),
            line: usize::try_from(self.files.max_line_size.0).unwrap_or(usize::MAX),
        };
        let progress = Arc::clone(&self.run.progress);
        let buffers = Buffers::new(limits.chunk.saturating_add(chunk::READ));
        let count = self.files.readers as usize;
        let readers = Readers::new(jobs, count, limits, progress, buffers.clone());
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
        let mut place = Place {
            part: 0,
            lines: 0,
            bad: 0,
            buffers,
            problems,
        };
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
        match place.problems.text() {
            Some(text) => Err(Failure::Source(text)),
            None => Ok(true),
        }
    }

    /// What is left to read of each file; nothing when the run ends.
    async fn jobs(&self, around: &Surroundings) -> Result<Option<(Vec<Job>, Problems)>, Failure> {
        let stop = &self.run.control.stop;
        let listing = list::list(&self.files, &around.variable, stop).await;
        let listing = listing.map_err(Failure::Source)?;
        let known = self
            .run
            .state
            .files()
            .await
            .map_err(self.run.state_failed())?;
        let total = listing.files.iter().map(|f| f.size).sum();
        self.run
            .progress
            .bytes_total
            .store(total, Ordering::Relaxed);
        let (progress, stopped) = (Arc::clone(&self.run.progress), stop.clone());
        // Looks into each file: where blocking is allowed.
        let looking = tokio::task::spawn_blocking(move || {
            jobs(listing, &known, &progress, &|| stopped.is_cancelled())
        });
        let looked = tokio::select! {
            looked = looking => looked,
            () = stop.cancelled() => return Ok(None),
        };
        let jobs = looked.map_err(|e| Failure::Source(format!("looking has ended: {e}")))?;
        Ok(Some(jobs).filter(|_| !stop.is_cancelled()))
    }

    /// Gives a part's records, and sets its bad lines aside. False when the run ends.
    async fn give(
        &self,
        part: Parsed,
        place: &mut Place,
        out: &Giver<Batch>,
    ) -> Result<bool, Failure> {
        let chunk = part.chunk;
        if let Kind::Encoding(encoding) = chunk.kind {
            let name = &chunk.file.name;
            place.problems.add(format!(
                "{name} is {encoding}, which has to be UTF-8 (`iconv -f {encoding} -t UTF-8`)"
            ));
            return Ok(true);
        }
        place.part += 1;
        place.lines = chunk.first_line.unwrap_or(place.lines);
        let before = place.lines;
        place.lines += part.lines;
        let point = FilePoint {
            name: chunk.file.name.to_string(),
            identity: chunk.identity.to_string(),
            offset: chunk.end,
            lines: place.lines,
            done: chunk.is_last,
        };
        let position = Position(place.part);
        let count = part.good.len() + part.bad.len();
        self.book.begin(position, count, point);
        add(&self.run.progress.read, count);
        let file = Arc::clone(&chunk.file.name);
        let dead = |bad| dead(bad, position, before, &file);
        let bad = Settled {
            done: Vec::new(),
            dead: part.bad.into_iter().map(dead).collect(),
        };
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
        let is_typed = part.table.is_some();
        let lines = Lines {
            position,
            file,
            before,
            bytes: match chunk.kind {
                Kind::Lines(bytes) => bytes,
                Kind::LongLine(..) | Kind::Damage(_) | Kind::Encoding(_) => Bytes::new(),
            },
            lines: part.good,
            table: part.table.unwrap_or_default(),
            buffers: place.buffers.clone(),
        };
        if !is_typed {
            return Ok(self.give_each(&lines, out).await);
        }
        let is_over = self.run.control.stop.is_cancelled();
        let is_empty = lines.lines.is_empty();
        Ok(is_empty || !is_over && out.give(Batch::Lines(Arc::new(lines))).await)
    }

    /// Gives records one by one, for whom that is how they are taken. False when the run ends.
    async fn give_each(&self, lines: &Lines, out: &Giver<Batch>) -> bool {
        for place in 0..lines.lines.len() {
            let Some(record) = lines.record(place) else {
                continue;
            };
            let record = Batch::Records(vec![record]);
            if self.run.control.stop.is_cancelled() || !out.give(record).await {
                return false;
            }
        }
        true
    }
}

/// The dead letter of a bad line.
fn dead(bad: Bad, position: Position, before: u64, file: &Arc<str>) -> Dead {
    Dead {
        position,
        origin: Origin::Line(Arc::clone(file), before + bad.number + 1, bad.value),
        stage: Stage::Parse,
        body: bad.body,
        request: "parse".to_owned(),
        status: None,
        error: bad.error,
        attempts: 1,
    }
}

/// What is left to read of each file; of one that can't be looked into, the problem.
fn jobs(
    listing: Listing,
    known: &HashMap<String, FilePoint>,
    progress: &Progress,
    is_stopped: &dyn Fn() -> bool,
) -> (Vec<Job>, Problems) {
    let Listing {
        files,
        mut problems,
    } = listing;
    let mut jobs = Vec::new();
    for file in files {
        if is_stopped() {
            break;
        }
        let noted = known.get(&*file.name).filter(|p| file.is(&p.identity));
        let (offset, lines, identity) = match noted {
            Some(p) if p.done && is_all(&file, p) => {
                let size = usize::try_from(file.size).unwrap_or(0);
                add(&progress.bytes, size);
                continue;
            }
            Some(p) => (p.offset, p.lines, p.identity.clone()),
            None => match file.identity() {
                Ok(identity) => (0, 0, identity),
                Err(problem) => {
                    problems.add(problem);
                    continue;
                }
            },
        };
        jobs.push(Job {
            file,
            identity,
            offset,
            lines,
        });
    }
    (jobs, problems)
}

/// A plain file may have grown since; a packed one would be another file.
fn is_all(file: &FileRef, point: &FilePoint) -> bool {
    file.packing != list::Packing::Plain || file.size <= point.offset
}
