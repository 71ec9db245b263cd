//! Workers that write rows into a table.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use forebay_remote::cache::Hash;
use forebay_remote::keyed::{Batch, KeyedTable, Shape};
use forebay_remote::table::TableError;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::known::Known;
use super::route::{Idle, Part, channels};
use crate::convert::Converter;
use crate::definition::TableDestination;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Taker;
use crate::engine::{Run, retry};
use crate::record::{self, Dead, Record, Settled, Stage};

/// The first wait after a store was out of reach, and the longest one.
const OUTAGE_WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Writes rows into a table.
pub(crate) struct TableWriter {
    run: Arc<Run>,
    config: TableDestination,
    store: Arc<dyn KeyedTable>,
    shape: Shape,
    known: Option<Known>,
}

impl TableWriter {
    /// Prepares the table; waits for a store that is out of reach as long as the definition says.
    pub(crate) async fn new(run: Arc<Run>, config: &TableDestination) -> Result<Self, Failure> {
        let store = super::open(&config.store).map_err(Failure::Destination)?;
        let mut writer = Self {
            run,
            config: config.clone(),
            store,
            shape: config.shape(),
            known: None,
        };
        let prepared = writer
            .in_outages(|| writer.store.prepare(&writer.shape))
            .await;
        let prepared = match prepared {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Err(Failure::Destination("stopped before it began".to_owned())),
            Err(e) => return Err(Failure::Destination(e.to_string())),
        };
        writer.known = Known::open(&writer.run, &config.cache, &writer.shape, &prepared).await?;
        Ok(writer)
    }

    /// Takes records until there are no more.
    pub(crate) async fn work(self: Arc<Self>, records: Taker<record::Batch>) {
        let (senders, receivers) = channels(self.config.writers() as usize);
        let idle = Arc::new(Idle::default());
        let mut workers = tokio::task::JoinSet::new();
        for receiver in receivers {
            workers.spawn(Arc::clone(&self).worker(receiver, Arc::clone(&idle)));
        }
        let converter = Arc::new(Converter::new(&self.config, &self.run.progress));
        let (run, shape) = (Arc::clone(&self.run), self.shape.clone());
        super::route(run, converter, shape, records, senders, idle).await;
        while let Some(ended) = workers.join_next().await {
            if let Err(e) = ended {
                let text = format!("a worker of the table has ended: {e}");
                self.run.control.fail(Failure::Destination(text));
            }
        }
    }

    async fn worker(self: Arc<Self>, mut parts: mpsc::Receiver<Part>, idle: Arc<Idle>) {
        let most = self.config.batch as usize;
        let mut waiting = Gathered::default();
        loop {
            if waiting.count == 0 {
                let _idle = idle.begin();
                match parts.recv().await {
                    Some(more) => waiting.push(more),
                    None => return,
                }
            }
            // What has gathered meanwhile goes with it.
            while waiting.count < most {
                match parts.try_recv() {
                    Ok(more) => waiting.push(more),
                    Err(_) => break,
                }
            }
            if let Err(failure) = self.write(waiting.take(most)).await {
                self.run.control.fail(failure);
                // The rest is read again by the next run; taken so that nobody waits for us.
                parts.close();
                while parts.recv().await.is_some() {}
                return;
            }
        }
    }

    /// Writes rows. Once it returns, each of their records is in the table or dead; or the run
    /// ends and they are read again.
    async fn write(&self, parts: Vec<Part>) -> Result<(), Failure> {
        let places = || {
            let parts = parts.iter().enumerate();
            parts.flat_map(|(number, part)| part.places.iter().map(move |place| (number, *place)))
        };
        let buffers: Vec<_> = parts.iter().map(|p| Arc::clone(&p.table().rows)).collect();
        let batch = Batch::new(buffers, places());
        let mut wanted = self.shape.last_of_each_key(&batch);
        let progress = &self.run.progress;
        add(&progress.superseded, batch.len() - wanted.len());
        let plan = match &self.known {
            None => None,
            Some(known) => {
                // A row without its hashes must not be taken for another one.
                let hashes = hashes(&parts, &wanted).ok_or_else(|| {
                    Failure::Destination("rows came without the hashes of the cache".to_owned())
                })?;
                let plan = known.plan(&wanted, hashes).await?;
                add(&progress.unchanged, wanted.len() - plan.wanted.len());
                wanted.clone_from(&plan.wanted);
                Some(plan)
            }
        };
        let Some(refused) = self.upsert(&batch, wanted).await? else {
            return Ok(());
        };
        if let (Some(known), Some(plan)) = (&self.known, plan) {
            known
                .note(plan, |place| !refused.contains_key(&place))
                .await;
        }
        self.run.settle(self.settled(&parts, &refused)).await;
        Ok(())
    }

    /// Writes the rows of a batch at some places. Answers those that are refused, and why; nothing
    /// when it was stopped during an outage: then nothing of the batch is settled.
    async fn upsert(
        &self,
        batch: &Batch,
        wanted: Vec<usize>,
    ) -> Result<Option<HashMap<usize, String>>, Failure> {
        let mut refused = HashMap::new();
        let mut left = vec![wanted];
        while let Some(part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            let chosen = batch.chosen(part.iter().copied());
            let written = self
                .in_outages(|| self.store.upsert(&self.shape, &chosen))
                .await;
            match written {
                Ok(Some(())) => add(&self.run.progress.written, part.len()),
                Ok(None) => return Ok(None),
                Err(TableError::Retryable(text)) => return Err(Failure::Destination(text)),
                // One of them is refused: halves find out which.
                Err(TableError::Terminal(_)) if part.len() > 1 => {
                    let (a, b) = part.split_at(part.len() / 2);
                    left.extend([b.to_vec(), a.to_vec()]);
                }
                Err(TableError::Terminal(text)) => {
                    refused.extend(part.into_iter().map(|place| (place, text.clone())));
                }
            }
        }
        Ok(Some(refused))
    }

    /// What has become of the records of a batch, of which some rows were refused.
    fn settled(&self, parts: &[Part], refused: &HashMap<usize, String>) -> Settled {
        let mut settled = Settled::default();
        let mut before = 0;
        for part in parts {
            if refused.is_empty() {
                part.settle(part.places.iter().copied(), &mut settled);
                continue;
            }
            let numbered = || (before..).zip(part.places.iter().copied());
            let good = numbered().filter(|(number, _)| !refused.contains_key(number));
            part.settle(good.map(|(_, place)| place), &mut settled);
            let dead = numbered().filter_map(|(number, place)| {
                let error = refused.get(&number)?;
                Some(self.dead(part.record(place)?, error))
            });
            settled.dead.extend(dead);
            before += part.places.len();
        }
        settled
    }

    fn dead(&self, record: Record, error: &str) -> Dead {
        Dead {
            position: record.position,
            origin: record.origin,
            stage: Stage::Storage,
            body: record.body,
            request: format!("row of table {}", self.shape.table),
            status: None,
            error: error.to_owned(),
            attempts: 1,
        }
    }

    /// Repeats what may succeed later, as long as an outage may last. Nothing when the run ends
    /// meanwhile.
    async fn in_outages<'a, T>(
        &'a self,
        work: impl Fn() -> BoxFuture<'a, Result<T, TableError>> + Send,
    ) -> Result<Option<T>, TableError> {
        let mut failures = 0;
        let begin = Instant::now();
        loop {
            let error = match work().await {
                Ok(done) => return Ok(Some(done)),
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(error);
            }
            failures += 1;
            if begin.elapsed() >= self.config.outage_max.0 {
                return Err(error);
            }
            add(&self.run.progress.retries, 1);
            let wait = retry::wait(OUTAGE_WAITS.0, OUTAGE_WAITS.1, failures, None);
            tracing::warn!(%error, failures, ?wait, "the table can't be written");
            if !self.run.control.wait(wait).await {
                return Ok(None);
            }
        }
    }
}

/// Parts that wait for a worker.
#[derive(Debug, Default)]
struct Gathered {
    parts: VecDeque<Part>,
    /// Rows of all.
    count: usize,
}

impl Gathered {
    fn push(&mut self, part: Part) {
        self.count += part.places.len();
        self.parts.push_back(part);
    }

    /// Takes the first rows, at most so many.
    fn take(&mut self, most: usize) -> Vec<Part> {
        let mut taken = Vec::new();
        let mut left = most;
        while let Some(mut part) = self.parts.pop_front() {
            if part.places.len() > left {
                let mut rest = part.clone();
                rest.places.drain(..left);
                part.places.truncate(left);
                self.parts.push_front(rest);
            }
            left -= part.places.len();
            self.count -= part.places.len();
            if !part.places.is_empty() {
                taken.push(part);
            }
            if left == 0 {
                break;
            }
        }
        taken
    }
}

/// The hashes of the rows at some places of a batch, in their order; nothing when one has none.
fn hashes(parts: &[Part], wanted: &[usize]) -> Option<Vec<(Hash, Hash)>> {
    let of_part = |part: &'_ Part| {
        let hashes = &part.table().hashes;
        let of_place = |place: &usize| hashes.get(*place).copied();
        part.places.iter().map(of_place).collect::<Vec<_>>()
    };
    let all: Vec<_> = parts.iter().flat_map(of_part).collect();
    let wanted = wanted
        .iter()
        .map(|place| all.get(*place).copied().flatten());
    wanted.collect()
}
