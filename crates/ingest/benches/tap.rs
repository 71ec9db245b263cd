//! `cargo bench -p forebay-ingest --bench tap`: CPU time of a record with and without an open tap.
//!
//! Both are measured alternately in one run, as CPU time of the thread that dispatches records and reads
//! the tap. Fails if the tap costs more than 1 % of a record. Linux only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use forebay_ingest::dispatch::{
    BranchRoute, Dispatcher, RecordBatch, RequestProgress, RouteTable, SinkRoute, SourceRoute,
    WriteOutcome,
};
use forebay_ingest::memory_limiter::MemoryLimiter;
use forebay_ingest::pipeline::{Appender, LocalLog, Pipeline, PipelineShared};
use forebay_ingest::tap::{TapSelection, TapStage};
use forebay_log::{Log, LogConfig, StdEnv};
use forebay_model::{
    BlockCompression, ColumnKind, HandshakeSettings, Mapping, MappingColumn, PathColumn,
    SinkSettings, SourceKey, Timestamp, VolumeId,
};
use forebay_record::{CompiledMapping, RecordContext, RequestHeaders, RequestInfo, RowLimits};

const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL";
const NOW: &str = "2026-11-21T05:01:49.120Z";
/// Records of a request.
const BATCH: usize = 50;
/// Requests of a measurement.
const REQUESTS: usize = 400;
const ROUNDS: usize = 15;
const LIMIT: f64 = 1.01;
/// Other work on the machine disturbs single tries.
const TRIES: usize = 5;

fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = stat.split(' ').filter_map(|n| n.parse().ok());
    numbers.next().unwrap_or(0)
}

fn mapping() -> Mapping {
    let path = |path: &str| {
        ColumnKind::Path(PathColumn {
            path: path.to_owned(),
            default_value: None,
            raw_string: true,
        })
    };
    let kinds = [
        ColumnKind::Uuid,
        ColumnKind::Datetime,
        path("user.name"),
        path("props.price"),
        path("event"),
        ColumnKind::Body,
    ];
    let columns = kinds
        .into_iter()
        .enumerate()
        .map(|(i, kind)| MappingColumn::new(format!("c{i}"), kind));
    Mapping {
        columns: columns.collect(),
    }
}

struct Bench {
    dispatcher: Arc<Dispatcher>,
    limiter: Arc<MemoryLimiter>,
    route: Arc<SourceRoute>,
    request: Arc<RequestInfo>,
    bodies: Vec<Bytes>,
}

impl Bench {
    fn new(dir: &std::path::Path) -> Self {
        let (log, _) = Log::open(Arc::new(StdEnv::new()), dir, LogConfig::default()).unwrap();
        let appender: Arc<dyn Appender> = Arc::new(LocalLog::new(log, VolumeId("vol".to_owned())));
        let counter = AtomicU64::new(0);
        let random = Arc::new(move || u128::from(counter.fetch_add(1, Ordering::Relaxed)));
        let dispatcher = Dispatcher::new(None, random);
        let limiter = MemoryLimiter::new(256 << 20);
        let taps = Arc::clone(dispatcher.taps());
        let shared = PipelineShared::with_taps(Arc::clone(&limiter), taps);
        let key: SourceKey = "1/2/s".parse().unwrap();
        let sink = SinkRoute::new(format!("{key}/k").parse().unwrap());
        let pipeline = Pipeline::open(
            format!("{key}/k/{NOW}/vol/{NOW}").parse().unwrap(),
            BlockCompression::None,
            &SinkSettings::default(),
            Arc::new(CompiledMapping::compile_checked(
                &mapping(),
                &RowLimits::default(),
            )),
            &appender,
            shared,
        );
        sink.set_pipeline(Some(pipeline.unwrap()));
        let branch = BranchRoute {
            key,
            disabled: false,
            handshakes: HandshakeSettings::default(),
            verifier: None,
            sinks: vec![sink],
        };
        dispatcher.set_table(RouteTable::new([(SECRET.to_owned(), branch)]));
        let received: Timestamp = NOW.parse().unwrap();
        let body = |i: usize| {
            Bytes::from(format!(
                r#"{{"id":{i},"user":{{"name":"user {i}","tags":["a","b"]}},"event":"view","props":{{"url":"https://example.com/{i}","price":{i}.25}},"text":"{}"}}"#,
                "lorem ipsum dolor sit amet ".repeat(30)
            ))
        };
        Self {
            route: dispatcher.find(1, "s", SECRET).unwrap(),
            dispatcher,
            limiter,
            request: Arc::new(RequestInfo {
                received,
                client_ip: [192, 0, 2, 1].into(),
                headers: RequestHeaders::default(),
            }),
            bodies: (0..BATCH).map(body).collect(),
        }
    }

    /// CPU nanoseconds of a record.
    async fn measure(&self) -> f64 {
        let start = cpu_ns();
        for _ in 0..REQUESTS {
            let bodies = self.bodies.iter().cloned();
            let records = bodies.map(|b| RecordContext::new(Arc::clone(&self.request), b));
            let batch = RecordBatch {
                records: records.collect(),
                broken: Vec::new(),
                memory_permit: self.limiter.acquire_unchecked(0),
            };
            let progress = RequestProgress::default();
            let results = self
                .dispatcher
                .dispatch(&self.route, batch, &progress)
                .await;
            assert!(
                matches!(results[0].outcome, WriteOutcome::Processed),
                "{results:?}"
            );
        }
        (cpu_ns() - start) as f64 / (REQUESTS * BATCH) as f64
    }

    /// The same with an open tap that is read.
    async fn measure_tapped(&self, stage: TapStage) -> f64 {
        let selection = TapSelection {
            source: "1/2/s".parse().unwrap(),
            sink: None,
            stage,
            every: 1,
            per_second: 200,
        };
        let mut reader = self.dispatcher.taps().open(selection, 1).unwrap();
        let reading = tokio::spawn(async move { while reader.next().await.is_some() {} });
        let measured = self.measure().await;
        reading.abort();
        _ = reading.await;
        measured
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn ratio(bench: &Bench, stage: TapStage) -> f64 {
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        off.push(bench.measure().await);
        on.push(bench.measure_tapped(stage).await);
    }
    let (off, on) = (median(off), median(on));
    println!(
        "{stage:?}: {off:.0} ns a record without a tap, {on:.0} ns with one: {:+.2} %",
        100.0 * (on / off - 1.0)
    );
    on / off
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let bench = Bench::new(dir.path());
        bench.measure().await;
        for stage in [TapStage::Received, TapStage::Row] {
            let mut best = f64::INFINITY;
            for _ in 0..TRIES {
                best = best.min(ratio(&bench, stage).await);
                if best <= LIMIT {
                    break;
                }
            }
            assert!(best <= LIMIT, "a tap costs more than 1 % of a record");
        }
    });
}
