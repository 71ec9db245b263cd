//! Notes what has become of records, many at once in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Run;
use crate::record::{Position, Settled};
use crate::state::{FilePoint, Settle};

/// Messages that go into one transaction.
const TOGETHER: usize = 512;
/// How often it is noted how far files are done: what a killed job reads again.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

/// How a source's records are noted.
#[derive(Clone)]
pub(crate) enum Book {
    Inbox,
    Dead,
    Files(Arc<FileBook>),
}

/// Notes until everything is `drained`: nobody settles anything any more.
pub(crate) async fn settle(
    run: Arc<Run>,
    mut settled: mpsc::Receiver<Settled>,
    book: Book,
    drained: CancellationToken,
) {
    let mut checkpoint = Instant::now();
    let mut is_broken = false;
    loop {
        let first = tokio::select! {
            biased;
            first = settled.recv() => first,
            () = drained.cancelled() => None,
        };
        let is_end = first.is_none();
        let mut all = first.unwrap_or_default();
        for _ in 0..TOGETHER {
            let Ok(more) = settled.try_recv() else { break };
            all.done.extend(more.done);
            all.dead.extend(more.dead);
        }
        let kind = match &book {
            Book::Inbox => Settle::Inbox,
            Book::Dead => Settle::Dead,
            Book::Files(files) => {
                let ended = all.done.iter().copied();
                files.settled(ended.chain(all.dead.iter().map(|d| (d.position, 1))));
                // Dead letters are noted before their lines count as done.
                let is_due = is_end || checkpoint.elapsed() >= CHECKPOINT_EVERY;
                if !is_due && all.dead.is_empty() {
                    continue;
                }
                checkpoint = Instant::now();
                Settle::Files(files.points())
            }
        };
        if !is_broken {
            let now = run.clock.now();
            let noted = run.state.settle(now, kind, all.done, all.dead).await;
            if let Err(e) = noted {
                run.control.fail(run.state_failed()(e));
                is_broken = true;
            }
        }
        if is_end {
            return;
        }
    }
}

/// How far files are done, while their parts are settled in any order.
#[derive(Debug, Default)]
pub(crate) struct FileBook {
    inner: Mutex<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    /// Parts whose predecessors are not all settled, with the records that they still have and the
    /// point behind them.
    open: BTreeMap<Position, (usize, FilePoint)>,
    /// Points that are reached and not noted.
    reached: HashMap<String, FilePoint>,
}

impl FileBook {
    /// A part begins: it has so many records, bad lines included, and ends at a point. Parts are
    /// begun in their order.
    pub(crate) fn begin(&self, part: Position, records: usize, point: FilePoint) {
        let mut parts = self.lock();
        parts.open.insert(part, (records, point));
        parts.advance();
    }

    fn settled(&self, positions: impl Iterator<Item = (Position, usize)>) {
        let mut parts = self.lock();
        for (position, count) in positions {
            if let Some((left, _)) = parts.open.get_mut(&position) {
                *left = left.saturating_sub(count);
            }
        }
        parts.advance();
    }

    fn points(&self) -> Vec<FilePoint> {
        self.lock()
            .reached
            .drain()
            .map(|(_, point)| point)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Parts {
    fn advance(&mut self) {
        while let Some(first) = self.open.first_entry() {
            if first.get().0 > 0 {
                return;
            }
            let (_, point) = first.remove();
            self.reached.insert(point.name.clone(), point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_reached_when_all_before_it_is_settled() {
        let book = FileBook::default();
        let point = |offset| FilePoint {
            name: "a".to_owned(),
            identity: String::new(),
            offset,
            lines: 0,
            done: false,
        };
        book.begin(Position(1), 3, point(10));
        book.begin(Position(2), 1, point(20));
        book.begin(Position(3), 0, point(30));
        book.settled([(Position(2), 1), (Position(1), 2)].into_iter());
        assert!(book.points().is_empty(), "part 1 has a record left");
        book.settled([(Position(1), 1)].into_iter());
        assert_eq!(book.points(), [point(30)]);
        assert!(book.points().is_empty());
    }
}
