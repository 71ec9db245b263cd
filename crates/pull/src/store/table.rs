//! Workers that write rows into a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_remote::keyed::{KeyedTable, Row, Shape};
use forebay_remote::table::TableError;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::known::Known;
use super::route::{Idle, channels};
use crate::convert::Converter;
use crate::definition::TableDestination;
use crate::engine::outcome::{Failure, add};
use crate::engine::queue::Taker;
use crate::engine::{Run, retry};
use crate::record::{Dead, Record, Settled, Stage};

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
    pub(crate) async fn work(self: Arc<Self>, records: Taker<Vec<Record>>) {
        let (senders, receivers) = channels(self.config.writers() as usize);
        let idle = Arc::new(Idle::default());
        let mut workers = tokio::task::JoinSet::new();
        for receiver in receivers {
            workers.spawn(Arc::clone(&self).worker(receiver, Arc::clone(&idle)));
        }
        let converter = Arc::new(Converter::new(&self.config));
        let (run, shape) = (Arc::clone(&self.run), self.shape.clone());
        super::route(run, converter, shape, records, senders, idle).await;
        while let Some(ended) = workers.join_next().await {
            if let Err(e) = ended {
                let text = format!("a worker of the table has ended: {e}");
                self.run.control.fail(Failure::Destination(text));
            }
        }
    }

    async fn worker(self: Arc<Self>, mut records: mpsc::Receiver<Vec<Record>>, idle: Arc<Idle>) {
        let most = self.config.batch as usize;
        let mut waiting: Vec<Record> = Vec::new();
        loop {
            if waiting.is_empty() {
                let _idle = idle.begin();
                match records.recv().await {
                    Some(more) => waiting = more,
                    None => return,
                }
            }
            // What has gathered meanwhile goes with it.
            while waiting.len() < most {
                match records.try_recv() {
                    Ok(more) => waiting.extend(more),
                    Err(_) => break,
                }
            }
            let rest = waiting.split_off(waiting.len().min(most));
            let batch = std::mem::replace(&mut waiting, rest);
            if let Err(failure) = self.write(batch).await {
                self.run.control.fail(failure);
                // The rest is read again by the next run; taken so that nobody waits for us.
                records.close();
                while records.recv().await.is_some() {}
                return;
            }
        }
    }

    /// Writes a batch. Once it returns, each of its records is in the table or dead; or the run
    /// ends and they are read again.
    async fn write(&self, batch: Vec<Record>) -> Result<(), Failure> {
        let mut batch = batch;
        let mut rows: Vec<Row> = batch
            .iter_mut()
            .map(|r| r.row.take().unwrap_or(Row(Vec::new())))
            .collect();
        // The last row of each key, by its place in the batch.
        let mut last: HashMap<Vec<u8>, usize> = HashMap::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            last.insert(self.shape.key_bytes(row), i);
        }
        let mut wanted: Vec<usize> = last.into_values().collect();
        wanted.sort_unstable();
        let progress = &self.run.progress;
        add(&progress.superseded, rows.len() - wanted.len());
        let plan = match &self.known {
            None => None,
            Some(known) => {
                let plan = known.plan(&self.shape, &rows, &wanted).await?;
                add(&progress.unchanged, wanted.len() - plan.wanted.len());
                wanted.clone_from(&plan.wanted);
                Some(plan)
            }
        };
        let mut settled = Settled::default();
        let mut is_dead = vec![false; rows.len()];
        let taken = |i: &usize| rows.get_mut(*i).map(|r| std::mem::take(&mut r.0));
        let chosen: Arc<[Row]> = wanted.iter().filter_map(taken).map(Row).collect();
        let mut parts = vec![(wanted, chosen)];
        while let Some((part, chosen)) = parts.pop() {
            let written = self
                .in_outages(|| self.store.upsert(&self.shape, Arc::clone(&chosen)))
                .await;
            match written {
                Ok(Some(())) => add(&progress.written, part.len()),
                // Stopped during an outage: nothing of the batch is settled.
                Ok(None) => return Ok(()),
                Err(TableError::Retryable(text)) => return Err(Failure::Destination(text)),
                // One of them is refused: halves find out which.
                Err(TableError::Terminal(_)) if part.len() > 1 => {
                    let (a, b) = part.split_at(part.len() / 2);
                    let (first, second) = chosen.split_at(a.len());
                    parts.extend([(b.to_vec(), second.into()), (a.to_vec(), first.into())]);
                }
                Err(TableError::Terminal(text)) => {
                    for i in part {
                        if let (Some(mark), Some(record)) = (is_dead.get_mut(i), batch.get(i)) {
                            *mark = true;
                            settled.dead.push(self.dead(record, &text));
                        }
                    }
                }
            }
        }
        if let (Some(known), Some(plan)) = (&self.known, plan) {
            known.note(plan, &is_dead).await;
        }
        let alive = batch.iter().zip(&is_dead).filter(|(_, dead)| !**dead);
        settled
            .done
            .extend(alive.map(|(record, _)| record.position));
        self.run.settle(settled).await;
        Ok(())
    }

    fn dead(&self, record: &Record, error: &str) -> Dead {
        Dead {
            position: record.position,
            origin: record.origin.clone(),
            stage: Stage::Storage,
            body: record.body.clone(),
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
