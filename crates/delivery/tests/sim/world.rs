//! A run: draws steps from the seed, executes them, and checks the results.

mod acts;
mod definitions;
mod end;
mod plan;
mod requests;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_log::{Env, MemEnv};
use forebay_test_support::SeededRandom;

use crate::disk::NeverSyncs;
use crate::gate::{Gates, Verdict};
use crate::lies;
use crate::model::{Missing, Model};
use crate::node::{Around, Node, SimClock};
use crate::staging::SimStaging;
use crate::store;
use crate::table::{self, SimTable};

use definitions::{SINKS, define, table_id};
use plan::Weather;
pub(crate) use plan::{Broken, Done, Plan};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    PowerCut,
    Killed,
    Stopped,
}

const ENDS: [End; 3] = [End::PowerCut, End::Killed, End::Stopped];

pub(crate) struct World {
    plan: Plan,
    random: SeededRandom,
    weather: Weather,
    disk: MemEnv,
    around: Around,
    models: Arc<Mutex<BTreeMap<&'static str, Model>>>,
    /// Incremented with each event.
    moment: Arc<AtomicU64>,
    next_record: u64,
    steps_left: u64,
    trace: DefaultHasher,
    lines: Arc<Mutex<Vec<String>>>,
    defined: bool,
    has_lied: bool,
    /// The table has rejected input: later files may have passed earlier ones.
    has_rejected: bool,
    /// The table has lost what it had confirmed.
    has_rolled_back: bool,
    /// The log has reported damage without knowing the records.
    has_uncounted: bool,
    /// Records that the log has reported as damaged, and that were perhaps never acknowledged.
    named_only: u64,
    done: Done,
}

/// Runs the seed. An error describes what is wrong.
pub(crate) fn run(plan: Plan) -> Result<Done, String> {
    let mut world = World::new(plan);
    while world.steps_left > 0 {
        world.live()?;
    }
    world.settle_all()?;
    Ok(world.finish())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Runs everything until it waits for a gate or for time to pass.
async fn settle() {
    // Time moves only when nothing else can, threads included.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = SeededRandom::new(plan.seed);
        let weather = Weather::draw(&mut random, &plan);
        let disk = MemEnv::new(random.next_u64());
        let gates = Gates::default();
        let env: Arc<dyn Env> = match plan.broken {
            Broken::Disk => Arc::new(NeverSyncs(disk.clone())),
            _ => Arc::new(disk.clone()),
        };
        let fault = match plan.broken {
            Broken::Table(fault) => fault,
            _ => table::Fault::None,
        };
        let around = Around {
            disk: env,
            meta: store::Disk::default(),
            staging: SimStaging::new(gates.clone()),
            table: SimTable::new(gates.clone(), fault),
            gates,
            clock: SimClock::new(),
            acknowledges_early: plan.broken == Broken::Acknowledgement,
        };
        // A deliberate bug has to be found by a few runs, so they are longer.
        let longer = if plan.broken == Broken::Nothing { 1 } else { 3 };
        let steps_left = longer * (30 + random.index(110) as u64);
        let models = SINKS.map(|s| (s, Model::default()));
        Self {
            plan,
            random,
            weather,
            disk,
            around,
            models: Arc::new(Mutex::new(models.into())),
            moment: Arc::default(),
            next_record: 0,
            steps_left,
            trace: DefaultHasher::new(),
            lines: Arc::default(),
            defined: false,
            has_lied: false,
            has_rejected: false,
            has_rolled_back: false,
            has_uncounted: false,
            named_only: 0,
            done: Done::default(),
        }
    }

    fn trace(&mut self, line: &str) {
        line.hash(&mut self.trace);
        if self.plan.loud {
            println!("{:5} {line}", self.done.steps);
        }
    }

    /// Traces what others have recorded since.
    fn trace_all(&mut self) {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        for line in lines {
            self.trace(&line);
        }
    }

    /// Runs a process, from its start to its end.
    fn live(&mut self) -> Result<(), String> {
        let runtime = runtime();
        let end = runtime.block_on(async {
            if self.random.percent(self.weather.disk * 10) {
                // One of the calls that open the log fails, or one soon after.
                self.break_disk();
            }
            let mut node = self.start().await;
            let end = match &mut node {
                Some(node) => self.drive(node).await,
                None => *self.random.pick(&[End::PowerCut, End::Killed]),
            };
            self.end(node, end).await;
            end
        });
        // Whatever is in progress ends where it stands; the disk is cut off already.
        drop(runtime);
        self.around.gates.clear();
        self.trace_all();
        self.trace(&format!("the process has ended: {end:?}"));
        for model in self.models.lock().unwrap().values_mut() {
            model.end_process();
        }
        self.check_tables().map(drop)
    }

    async fn end(&mut self, node: Option<Node>, end: End) {
        match (end, node) {
            (End::Stopped, Some(node)) => {
                let stopped = self.stop(node).await;
                self.trace(&format!("stopped in order: {stopped}"));
                self.disk.kill();
            }
            // The disk goes first: a log that is dropped writes what is queued.
            (End::PowerCut, _) => {
                self.disk.crash();
                if self.plan.broken == Broken::Store {
                    self.around.meta.lose_the_last();
                }
                if self.weather.lies
                    && self.random.percent(50)
                    && let Some(lie) = lies::lie(&self.disk, &mut self.random)
                {
                    self.has_lied = true;
                    self.trace(&lie);
                }
                if self.weather.lies && self.random.percent(15) {
                    let (what, records) = lies::lose(&self.disk, &mut self.random);
                    self.has_lied |= records;
                    self.has_uncounted |= records;
                    self.trace(what);
                }
            }
            (End::Killed | End::Stopped, _) => self.disk.kill(),
        }
        if self.weather.rolls_back
            && !self.has_rolled_back
            && !self.has_rejected
            && self.random.percent(50)
            && let Some(import) = self.around.table.lose_the_last()
        {
            self.has_rolled_back = true;
            self.trace(&format!("the table has lost {import}"));
        }
        self.around.clock.end();
    }

    /// Stops in order, with all steps passed in order. A process that can't stop is killed after a
    /// while.
    async fn stop(&mut self, node: Node) -> bool {
        let stopping = tokio::spawn(node.stop());
        for _ in 0..1000 {
            settle().await;
            self.trace_all();
            if stopping.is_finished() {
                return true;
            }
            if !self.let_first_through() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        false
    }

    /// Passes the step that has waited longest, if there is one.
    fn let_first_through(&mut self) -> bool {
        let Some(&(id, _)) = self.around.gates.waiting().first() else {
            return false;
        };
        let what = self.around.gates.release(id, Verdict::Pass);
        self.trace(&what.unwrap_or_default());
        true
    }

    /// Starts a process; `None` if its environment prevents that.
    async fn start(&mut self) -> Option<Node> {
        self.done.lives += 1;
        self.around.gates.set_open(true);
        let node = match Node::start(&self.around).await {
            Ok(node) => node,
            Err(error) => {
                self.trace(&format!("no start: {error}"));
                self.heal();
                return None;
            }
        };
        self.read_report(&node);
        if !self.defined {
            define(&node).await;
            self.defined = true;
        }
        self.around.gates.set_open(false);
        Some(node)
    }

    /// Reads the losses that the log reports.
    fn read_report(&mut self, node: &Node) {
        let lost: u64 = node.report.lost.iter().map(|l| l.records).sum();
        self.trace(&format!("a process starts; the log misses {lost} records"));
        // Where a header is lost, the log knows the position, and not the records.
        let report = &node.report;
        self.has_uncounted |= report.damage.iter().any(|d| d.block.is_none())
            || !report.missing_segments.is_empty()
            || !report.unnamed_streams.is_empty();
        // Whether the last batch was ever acknowledged is unknown: it is reported, and not counted
        // as lost.
        let named = report.damage.iter().filter(|d| !d.acknowledged);
        let named = named.filter_map(|d| d.block.as_ref());
        self.named_only += named.map(|b| b.records).sum::<u64>();
        if self.plan.loud {
            println!("      {:?}", node.report);
        }
    }

    /// Restores everything.
    fn heal(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.disk.set_read_only(false);
        self.around.meta.set_outage(false);
        self.around.staging.set_outage(false);
        self.around.table.set_outage(false);
        self.around.table.set_rejects(false);
    }

    /// Executes drawn steps until the process ends.
    async fn drive(&mut self, node: &mut Node) -> End {
        while self.steps_left > 0 {
            settle().await;
            self.trace_all();
            self.steps_left -= 1;
            self.done.steps += 1;
            self.moment.fetch_add(1, Ordering::SeqCst);
            if let Some(why) = node.failed() {
                self.trace(&why);
                return End::Stopped;
            }
            if let Some(end) = self.step(node).await {
                return end;
            }
        }
        *self.random.pick(&ENDS)
    }

    /// Checks what is true at any time.
    fn check_tables(&mut self) -> Result<Vec<Missing>, String> {
        let models = self.models.lock().unwrap();
        let ordered = !self.has_rejected && !self.has_rolled_back;
        let check = |sink: &&'static str| {
            let rows = self.around.table.rows(&table_id(sink));
            let checked = models[sink].check_rows(&rows, ordered);
            checked.map_err(|e| format!("sink {sink}: {e}"))
        };
        SINKS.iter().map(check).collect()
    }
}

/// Name that the log gives a stream whose declaration was torn by a power cut, while a block of it
/// was not: neither was acknowledged.
fn is_unnamed(stream: &str) -> bool {
    stream.starts_with("unknown-")
}
