//! A run: what is drawn from the seed, done, and checked.

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

use crate::disk::NeverSyncs;
use crate::gate::{Gates, Verdict};
use crate::lies;
use crate::model::{Missing, Model};
use crate::node::{Around, Node, SimClock};
use crate::random::Random;
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
    random: Random,
    weather: Weather,
    disk: MemEnv,
    around: Around,
    models: Arc<Mutex<BTreeMap<&'static str, Model>>>,
    /// Grows with each thing that happens.
    moment: Arc<AtomicU64>,
    next_record: u64,
    steps_left: u64,
    trace: DefaultHasher,
    lines: Arc<Mutex<Vec<String>>>,
    defined: bool,
    has_lied: bool,
    /// The table has refused what it was given: later files may have gone before earlier ones.
    has_refused: bool,
    /// The table has lost what it had confirmed.
    has_rolled_back: bool,
    /// The log has called bytes damaged without knowing of which records.
    has_uncounted: bool,
    /// Records that the log has called damaged, and perhaps never acknowledged.
    named_only: u64,
    done: Done,
}

/// Runs the seed. An error says what was found to be wrong.
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

/// Lets everything run until it waits for a gate or for time to pass.
async fn settle() {
    // Time moves only when nothing else can, threads included.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let weather = Weather::draw(&mut random, &plan);
        let disk = MemEnv::new(random.next());
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
        // A broken part has to be found by a few runs, so they are longer.
        let longer = if plan.broken == Broken::Nothing { 1 } else { 3 };
        let steps_left = longer * (30 + random.below(110) as u64);
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
            has_refused: false,
            has_rolled_back: false,
            has_uncounted: false,
            named_only: 0,
            done: Done::default(),
        }
    }

    fn note(&mut self, line: &str) {
        line.hash(&mut self.trace);
        if self.plan.loud {
            println!("{:5} {line}", self.done.steps);
        }
    }

    /// What others have noted since.
    fn note_all(&mut self) {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        for line in lines {
            self.note(&line);
        }
    }

    /// A process, from its start to its end.
    fn live(&mut self) -> Result<(), String> {
        let runtime = runtime();
        let end = runtime.block_on(async {
            if self.random.percent(self.weather.disk * 10) {
                // One of the calls with which the log is opened, or one soon after.
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
        // Whatever is under way ends where it stands; the disk is cut off already.
        drop(runtime);
        self.around.gates.clear();
        self.note_all();
        self.note(&format!("the process has ended: {end:?}"));
        for model in self.models.lock().unwrap().values_mut() {
            model.end_process();
        }
        self.check_tables().map(drop)
    }

    /// Ends the process.
    async fn end(&mut self, node: Option<Node>, end: End) {
        match (end, node) {
            (End::Stopped, Some(node)) => {
                let stopped = self.stop(node).await;
                self.note(&format!("stopped in order: {stopped}"));
                self.disk.kill();
            }
            // The disk goes first: a log that is dropped writes what waits.
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
                    self.note(&lie);
                }
                if self.weather.lies && self.random.percent(15) {
                    let (what, records) = lies::lose(&self.disk, &mut self.random);
                    self.has_lied |= records;
                    self.has_uncounted |= records;
                    self.note(what);
                }
            }
            (End::Killed | End::Stopped, _) => self.disk.kill(),
        }
        if self.weather.rolls_back
            && !self.has_rolled_back
            && !self.has_refused
            && self.random.percent(50)
            && let Some(import) = self.around.table.lose_the_last()
        {
            self.has_rolled_back = true;
            self.note(&format!("the table has lost {import}"));
        }
        self.around.clock.end();
    }

    /// Stops in order, with everything let through in its order. One that can't is killed after a
    /// while.
    async fn stop(&mut self, node: Node) -> bool {
        let stopping = tokio::spawn(node.stop());
        for _ in 0..1000 {
            settle().await;
            self.note_all();
            if stopping.is_finished() {
                return true;
            }
            if !self.let_first_through() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        false
    }

    /// Lets through what has waited longest, if anything waits.
    fn let_first_through(&mut self) -> bool {
        let Some(&(id, _)) = self.around.gates.waiting().first() else {
            return false;
        };
        let what = self.around.gates.release(id, Verdict::Pass);
        self.note(&what.unwrap_or_default());
        true
    }

    /// A new process; none when its surroundings don't let it begin.
    async fn start(&mut self) -> Option<Node> {
        self.done.lives += 1;
        self.around.gates.set_open(true);
        let node = match Node::start(&self.around).await {
            Ok(node) => node,
            Err(error) => {
                self.note(&format!("no start: {error}"));
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

    /// What the log says that it has lost.
    fn read_report(&mut self, node: &Node) {
        let lost: u64 = node.report.lost.iter().map(|l| l.records).sum();
        self.note(&format!("a process starts; the log misses {lost} records"));
        // Where a header is gone, the log knows the place, and not what was there.
        let report = &node.report;
        self.has_uncounted |= report.damage.iter().any(|d| d.block.is_none())
            || !report.missing_segments.is_empty()
            || !report.unnamed_streams.is_empty();
        // Of the last batch nobody can tell whether it was ever acknowledged: it is named, and not
        // called lost.
        let named = report.damage.iter().filter(|d| !d.acknowledged);
        let named = named.filter_map(|d| d.block.as_ref());
        self.named_only += named.map(|b| b.records).sum::<u64>();
        if self.plan.loud {
            println!("      {:?}", node.report);
        }
    }

    /// Everything works again.
    fn heal(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.disk.set_read_only(false);
        self.around.meta.set_outage(false);
        self.around.staging.set_outage(false);
        self.around.table.set_outage(false);
        self.around.table.set_refuses(false);
    }

    /// Does what is drawn until the process ends.
    async fn drive(&mut self, node: &mut Node) -> End {
        while self.steps_left > 0 {
            settle().await;
            self.note_all();
            self.steps_left -= 1;
            self.done.steps += 1;
            self.moment.fetch_add(1, Ordering::SeqCst);
            if let Some(why) = node.failed() {
                self.note(&why);
                return End::Stopped;
            }
            if let Some(end) = self.step(node).await {
                return end;
            }
        }
        *self.random.pick(&ENDS)
    }

    /// What is true at any time.
    fn check_tables(&mut self) -> Result<Vec<Missing>, String> {
        let models = self.models.lock().unwrap();
        let ordered = !self.has_refused && !self.has_rolled_back;
        let check = |sink: &&'static str| {
            let rows = self.around.table.rows(&table_id(sink));
            let checked = models[sink].check_rows(&rows, ordered);
            checked.map_err(|e| format!("sink {sink}: {e}"))
        };
        SINKS.iter().map(check).collect()
    }
}

/// What the log calls a stream whose declaration was torn by a power cut, while a block of it was
/// not: of neither anybody was told that it is stored.
fn is_unnamed(stream: &str) -> bool {
    stream.starts_with("unknown-")
}
