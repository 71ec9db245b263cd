//! Against a stream that is stepped by hand: sealing is deterministic.

use std::collections::VecDeque;
use std::time::Duration;

use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_model::{ByteSize, HumanDuration, Mapping, SinkKey, Statistics, VolumeId};
use forebay_record::RowLimits;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::*;
use crate::memory_limiter::MemoryLimiter;

/// A stream whose disk responds when the test says so.
#[derive(Debug, Default)]
struct Disk {
    blocks: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<oneshot::Sender<AppendOutcome>>>,
    broken: Mutex<Option<BlockAppendError>>,
}

impl Disk {
    fn blocks(&self) -> Vec<String> {
        self.blocks.lock().clone()
    }

    fn answer(&self, outcome: AppendOutcome) {
        let next = self.answers.lock().pop_front();
        next.expect("a block is in flight").send(outcome).unwrap();
    }
}

impl BlockStream for Disk {
    fn append(&self, block: BlockToAppend) -> Result<BlockTicket, BlockAppendError> {
        if let Some(error) = self.broken.lock().clone() {
            return Err(error);
        }
        let text = String::from_utf8(block.sealed.payload).unwrap();
        self.blocks.lock().push(text);
        let (sender, receiver) = oneshot::channel();
        self.answers.lock().push_back(sender);
        Ok(receiver.map(|r| r.unwrap()).boxed())
    }
}

#[derive(Debug)]
struct Volume(Arc<Disk>);

impl Appender for Volume {
    fn open(&self, _: &SliceKey) -> Result<Arc<dyn BlockStream>, BlockAppendError> {
        Ok(Arc::<Disk>::clone(&self.0))
    }
    fn dead_letters(&self, _: &SinkKey) -> Arc<dyn BlockStream> {
        Arc::<Disk>::clone(&self.0)
    }
    fn dead_letter_bytes(&self, _: &SinkKey) -> u64 {
        0
    }
    fn dead_letter_counts(&self) -> Vec<(SinkKey, VolumeId, DeadLetterCounts)> {
        Vec::new()
    }
    fn statistics(&self, _: &SliceKey) -> Option<Statistics> {
        None
    }
    fn close(&self, _: &SliceKey) -> BoxFuture<'static, Result<Statistics, BlockAppendError>> {
        unreachable!("the reconciler closes streams")
    }
}

struct World {
    disk: Arc<Disk>,
    limiter: Arc<MemoryLimiter>,
    pipeline: Arc<Pipeline>,
}

fn world(change: impl FnOnce(&mut SinkSettings)) -> World {
    let disk = Arc::new(Disk::default());
    let limiter = MemoryLimiter::new(1 << 30);
    let mut settings = SinkSettings::default();
    change(&mut settings);
    let slice = "1/2/s/k/2026-11-21T05:01:49.120Z/v/2026-11-21T05:01:50.000Z";
    let mapping = Mapping {
        columns: Vec::new(),
    };
    let mapping = CompiledMapping::compile_checked(&mapping, &RowLimits::default());
    let appender: Arc<dyn Appender> = Arc::new(Volume(Arc::clone(&disk)));
    let pipeline = Pipeline::open(
        slice.parse().unwrap(),
        BlockCompression::None,
        &settings,
        Arc::new(mapping),
        &appender,
        PipelineShared::new(Arc::clone(&limiter)),
    );
    World {
        disk,
        limiter,
        pipeline: pipeline.unwrap(),
    }
}

impl World {
    fn put(&self, row: &str) -> AppendTicket {
        match self
            .pipeline
            .append(row.as_bytes(), 1, Timestamp::from_millis(5))
        {
            AppendAttempt::Taken(wait) => wait,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs tasks until they wait.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_block_is_sealed_when_the_one_before_it_ends() {
    let w = world(|_| {});
    let a = w.put("a");
    assert_eq!(w.disk.blocks(), ["a"], "nothing is in flight: at once");
    let (b, c) = (w.put("b"), w.put("c"));
    settle().await;
    assert_eq!(w.disk.blocks(), ["a"], "rows gather while the disk is busy");
    assert_eq!(w.limiter.held(), 3);
    w.disk.answer(AppendOutcome::Stored);
    assert_eq!(a.await, AppendOutcome::Stored);
    settle().await;
    assert_eq!(w.disk.blocks(), ["a", "bc"], "no timer has passed");
    assert_eq!(b.try_outcome(), None);
    w.disk.answer(AppendOutcome::Stored);
    assert_eq!(
        (b.await, c.await),
        (AppendOutcome::Stored, AppendOutcome::Stored)
    );
    settle().await;
    assert_eq!(w.limiter.held(), 0);
    let d = w.put("d");
    w.disk.answer(AppendOutcome::Stored);
    assert_eq!(d.await, AppendOutcome::Stored);
}

#[tokio::test]
async fn triggers_seal_rows_although_the_disk_is_busy() {
    let w = world(|s| s.sync.count = 3);
    let first = w.put("a");
    let waits: Vec<_> = ["b", "c", "d", "e"].map(|r| w.put(r)).into();
    assert_eq!(w.disk.blocks(), ["a", "bcd"]);
    for _ in 0..3 {
        w.disk.answer(AppendOutcome::Stored);
        settle().await;
    }
    for wait in waits {
        assert_eq!(wait.await, AppendOutcome::Stored);
    }
    assert_eq!(first.await, AppendOutcome::Stored);
    assert_eq!(w.disk.blocks(), ["a", "bcd", "e"]);

    let w = world(|s| s.sync.uncompressed = ByteSize(4));
    let _a = w.put("a");
    let _b = w.put("bb");
    let _c = w.put("ccc");
    assert_eq!(
        w.disk.blocks(),
        ["a", "bb"],
        "a block does not outgrow its size"
    );
    let _d = w.put("d");
    assert_eq!(w.disk.blocks(), ["a", "bb", "cccd"]);
}

#[tokio::test(start_paused = true)]
async fn rows_are_sealed_within_the_interval() {
    let w = world(|s| s.sync.interval = HumanDuration::millis(50));
    let _a = w.put("a");
    let _b = w.put("b");
    settle().await;
    assert_eq!(w.disk.blocks(), ["a"]);
    tokio::time::sleep(Duration::from_millis(51)).await;
    settle().await;
    assert_eq!(w.disk.blocks(), ["a", "b"]);
}

#[tokio::test]
async fn blocks_in_flight_are_bounded_and_freed_capacity_is_signalled() {
    let w = world(|s| s.sync.uncompressed = ByteSize(2));
    let _waits: Vec<_> = (0..state::SEALED_MAX).map(|_| w.put("xx")).collect();
    let _open = w.put("yy");
    let changed = w.pipeline.changed();
    let at = Timestamp::from_millis(5);
    assert!(matches!(
        w.pipeline.append(b"zz", 1, at),
        AppendAttempt::Full
    ));
    w.disk.answer(AppendOutcome::Stored);
    changed.await;
    assert!(matches!(
        w.pipeline.append(b"zz", 1, at),
        AppendAttempt::Taken(_)
    ));
}

#[tokio::test]
async fn a_retired_pipeline_accepts_nothing_and_completes_its_rows() {
    let w = world(|_| {});
    let (_a, b) = (w.put("a"), w.put("b"));
    let mut retired = Box::pin(w.pipeline.drain());
    assert!(futures::poll!(&mut retired).is_pending());
    let at = Timestamp::from_millis(5);
    assert!(matches!(
        w.pipeline.append(b"c", 1, at),
        AppendAttempt::Retired
    ));
    w.disk.answer(AppendOutcome::Stored);
    settle().await;
    assert!(futures::poll!(&mut retired).is_pending());
    w.disk.answer(AppendOutcome::Stored);
    retired.await;
    assert_eq!(b.try_outcome(), Some(AppendOutcome::Stored));
    assert_eq!(w.disk.blocks(), ["a", "b"]);
    w.pipeline.drain().await;
}

#[tokio::test]
async fn each_failure_reaches_the_requests_whose_rows_it_concerns() {
    let w = world(|_| {});
    let (a, b) = (w.put("a"), w.put("b"));
    let lost = AppendOutcome::Unknown("the disk failed".into());
    let error = BlockAppendError::Failed("latched".into());
    *w.disk.broken.lock() = Some(error.clone());
    w.disk.answer(lost.clone());
    assert_eq!(a.await, lost);
    assert_eq!(b.await, AppendOutcome::Rejected(error.clone()));
    assert_eq!(
        w.put("c").try_outcome(),
        Some(AppendOutcome::Rejected(error))
    );
    w.pipeline.drain().await;
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn an_idle_pipeline_holds_no_buffer_and_no_task() {
    let w = world(|_| {});
    let waits: Vec<_> = (0..3).map(|_| w.put("a row")).collect();
    for _ in 0..2 {
        w.disk.answer(AppendOutcome::Stored);
        settle().await;
    }
    drop(waits);
    settle().await;
    assert!(w.pipeline.lock().is_idle());
    assert_eq!(w.pipeline.lock().buffered(), 0);
    assert_eq!(w.pipeline.shared.tasks.len(), 0);
    assert!(size_of::<Pipeline>() < 1024, "{}", size_of::<Pipeline>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_lose_nothing_and_blocks_are_whole_and_in_order() {
    let w = world(|s| s.sync.uncompressed = ByteSize(64));
    let disk = Arc::clone(&w.disk);
    let answering = tokio::spawn(async move {
        loop {
            let next = disk.answers.lock().pop_front();
            match next {
                Some(sender) => sender.send(AppendOutcome::Stored).unwrap(),
                None => tokio::task::yield_now().await,
            }
        }
    });
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let pipeline = Arc::clone(&w.pipeline);
            tokio::spawn(async move {
                for n in 0..500 {
                    let row = format!("{writer}:{n}\n");
                    loop {
                        let changed = pipeline.changed();
                        match pipeline.append(row.as_bytes(), 1, Timestamp::from_millis(n)) {
                            AppendAttempt::Taken(wait) => {
                                assert_eq!(wait.await, AppendOutcome::Stored);
                                break;
                            }
                            AppendAttempt::Full => changed.await,
                            AppendAttempt::Retired => panic!("it was not retired"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    w.pipeline.drain().await;
    answering.abort();
    let rows = w.disk.blocks().concat();
    for writer in 0..8 {
        let prefix = format!("{writer}:");
        let own = rows.lines().filter_map(|r| r.strip_prefix(&prefix));
        let own: Vec<usize> = own.map(|n| n.parse().unwrap()).collect();
        assert_eq!(
            own,
            (0..500).collect::<Vec<_>>(),
            "each row once, in its writer's order"
        );
    }
}
