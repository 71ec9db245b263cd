//! A run: what is drawn from the seed, done, and checked.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_flow::dispatch::{self, Batch, SinkResult};
use forebay_log::{Call, Env, MemEnv};
use forebay_meta::{ActiveFile, SinkContent, SourceContent};
use forebay_model::{
    Balance, By, Clock, Column, ColumnKind, Mapping, PathColumn, SinkKey, SliceState, SourceKey, SourceKind,
    Stamp, TableBackend, TableSink,
};
use forebay_record::headers::Headers;
use forebay_record::{RecordContext, RequestInfo};

use crate::disk::NeverSyncs;
use crate::gate::{Gates, Step, Verdict};
use crate::lies;
use crate::model::{Fate, Missing, Model, Record};
use crate::node::{Around, Node, SimClock};
use crate::random::Random;
use crate::staging::SimStaging;
use crate::store;
use crate::table::{self, Row, SimTable};

const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL";
const SINKS: [&str; 2] = ["a", "b"];
const DAY_MS: i64 = 86_400_000;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Steps after which everything must have arrived once all is healed; what a run needs is a tenth.
const ROUNDS_MAX: u32 = 4000;

/// A part that is broken on purpose, so that it is seen that the checks find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nothing,
    /// The disk's syncs do nothing.
    Disk,
    /// The log's tickets are not waited for.
    Acknowledgement,
    /// The metadata store loses what it has committed.
    Store,
    /// The table.
    Table(table::Fault),
}

/// What a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) broken: Broken,
    /// Print each step.
    pub(crate) loud: bool,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Of all steps and their outcomes.
    pub(crate) trace: u64,
    pub(crate) steps: u64,
    pub(crate) lives: u64,
    pub(crate) sent: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Steps until everything had arrived at the end.
    pub(crate) rounds: u64,
    /// Named as lost on a disk that lied.
    pub(crate) lost: u64,
}

impl Done {
    pub(crate) fn add(&mut self, other: &Self) {
        self.trace ^= other.trace;
        self.steps += other.steps;
        self.lives += other.lives;
        self.sent += other.sent;
        self.stored += other.stored;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.rounds = self.rounds.max(other.rounds);
        self.lost += other.lost;
    }
}

/// How often what happens, in a hundred steps; drawn once a run, so that runs differ in kind.
struct Weather {
    send: u32,
    pass: u32,
    /// Of steps that are let through: how many fail.
    fail: u32,
    disk: u32,
    outage: u32,
    end: u32,
    jump: u32,
    /// Staged objects that are damaged.
    staging: u32,
    /// The disk loses what it has synced.
    lies: bool,
}

impl Weather {
    fn draw(random: &mut Random, plan: &Plan) -> Self {
        let mut upto = |n: u32| random.below(n as usize + 1) as u32;
        let mut weather = Self {
            send: 10 + upto(20),
            pass: 5 + upto(10),
            fail: upto(1) * upto(15),
            disk: upto(1) * upto(4),
            outage: upto(1) * upto(3),
            end: upto(4),
            jump: upto(1) * upto(2),
            staging: upto(1) * upto(2),
            lies: upto(9) == 0,
        };
        if plan.broken != Broken::Nothing {
            weather.lies = false;
            weather.end = weather.end.max(1);
        }
        weather
    }
}

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
        let steps_left = 40 + random.below(160) as u64;
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
            let mut node = self.start().await?;
            let end = match &mut node {
                Some(node) => self.drive(node).await,
                None => End::Killed,
            };
            self.end(node, end).await;
            Ok::<_, String>(end)
        });
        // Whatever is under way ends where it stands; the disk is cut off already.
        drop(runtime);
        self.around.gates.clear();
        self.note_all();
        let end = end?;
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
            }
            (End::Killed | End::Stopped, _) => self.disk.kill(),
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
    async fn start(&mut self) -> Result<Option<Node>, String> {
        self.done.lives += 1;
        self.around.gates.set_open(true);
        let node = Node::start(&self.around).await;
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                self.note(&format!("no start: {error}"));
                self.heal();
                return Ok(None);
            }
        };
        let lost: u64 = node.report.lost.iter().map(|l| l.records).sum();
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
        if !self.defined {
            define(&node).await;
            self.defined = true;
        }
        self.around.gates.set_open(false);
        self.note(&format!("the process has started; the log misses {lost} records"));
        Ok(Some(node))
    }

    /// Everything works again.
    fn heal(&mut self) {
        self.disk.heal();
        self.disk.set_capacity(None);
        self.disk.set_read_only(false);
        self.around.meta.set_outage(false);
        self.around.staging.set_outage(false);
        self.around.table.set_outage(false);
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

    /// One thing.
    async fn step(&mut self, node: &mut Node) -> Option<End> {
        let w = &self.weather;
        let shares = [w.send, w.pass, w.disk, w.outage, w.end, w.jump, w.staging];
        let mut drawn = self.random.below(100) as u32;
        let which = shares.iter().position(|share| {
            let hit = drawn < *share;
            drawn = drawn.saturating_sub(*share);
            hit
        });
        match which {
            Some(0) => self.send(node),
            Some(1) => self.pass_time().await,
            Some(2) => self.break_disk(),
            Some(3) => self.outage(),
            Some(4) => return Some(*self.random.pick(&ENDS)),
            Some(5) => self.jump(),
            Some(6) => {
                if let Some(what) = self.around.staging.damage(&mut self.random).await {
                    self.note(&what);
                }
            }
            _ => self.let_one_through(),
        }
        None
    }

    fn let_one_through(&mut self) {
        let waiting = self.around.gates.waiting();
        if waiting.is_empty() {
            return;
        }
        let (id, step) = *self.random.pick(&waiting);
        // Only what can fail.
        let can_fail = !matches!(step, Step::Sync | Step::Close);
        let verdict = if can_fail && self.random.percent(self.weather.fail) {
            Verdict::Fail
        } else {
            Verdict::Pass
        };
        if let Some(what) = self.around.gates.release(id, verdict) {
            self.note(&format!("{verdict:?} {what}"));
        }
    }

    async fn pass_time(&mut self) {
        let ms = *self.random.pick(&[5, 100, 1000, 1000, 5000, 11_000, 40_000]);
        self.note(&format!("{ms} ms pass"));
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn jump(&mut self) {
        let ms = *self.random.pick(&[DAY_MS, -DAY_MS, 7000, -7000]);
        self.note(&format!("the clock jumps by {ms} ms"));
        self.around.clock.jump(ms);
    }

    fn break_disk(&mut self) {
        let calls = [Call::Write, Call::Sync, Call::Open, Call::SetLen, Call::Rename, Call::SyncDir];
        match self.random.below(8) {
            0 => {
                let used: usize = self.disk.files().iter().map(|(_, b)| b.len()).sum();
                let left = self.random.below(20_000);
                self.note(&format!("the disk has {left} bytes left"));
                self.disk.set_capacity(Some((used + left) as u64));
            }
            1 => {
                self.note("the disk has room");
                self.disk.set_capacity(None);
            }
            2 => {
                let read_only = self.random.percent(30);
                self.note(&format!("read only: {read_only}"));
                self.disk.set_read_only(read_only);
            }
            _ => {
                let call = *self.random.pick(&calls);
                let after = self.random.below(6) as u64;
                let errno = *self.random.pick(&[EIO, EIO, ENOSPC]);
                self.note(&format!("{call:?} number {after} will fail with {errno}"));
                self.disk.fail(Some(call), after, errno);
            }
        }
    }

    fn outage(&mut self) {
        let out = self.random.percent(40);
        let which = self.random.below(3);
        self.note(&format!("outage of {which}: {out}"));
        match which {
            0 => self.around.meta.set_outage(out),
            1 => self.around.staging.set_outage(out),
            _ => self.around.table.set_outage(out),
        }
    }

    /// Sends a request of some records.
    fn send(&mut self, node: &mut Node) {
        if self.plan.broken == Broken::Store && self.random.percent(10) {
            self.around.meta.remember();
        }
        let request = Arc::new(RequestInfo {
            received: self.around.clock.now(),
            client_ip: [127, 0, 0, 1].into(),
            headers: Headers::from(http::HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/json"),
            )])),
        });
        let count = 1 + self.random.below(3);
        let first = self.next_record;
        let mut records = Vec::new();
        for _ in 0..count {
            let body = self.record();
            records.push(RecordContext::new(Arc::clone(&request), body.into()));
        }
        self.done.sent += count as u64;
        self.note(&format!("records {first} to {} are sent", first + count as u64 - 1));
        let batch = Batch {
            records,
            broken: Vec::new(),
            charge: node.budget.charge(0),
        };
        let ids: Vec<u64> = (first..self.next_record).collect();
        let (models, moment) = (Arc::clone(&self.models), Arc::clone(&self.moment));
        let lines = Arc::clone(&self.lines);
        let dispatcher = Arc::clone(&node.dispatcher);
        // It ends with the process, as a connection does.
        drop(tokio::spawn(async move {
            let results = match dispatcher.find(1, "s", SECRET) {
                Some(target) => dispatcher.dispatch(&target, batch).await,
                None => Vec::new(),
            };
            let now = moment.fetch_add(1, Ordering::SeqCst);
            let mut models = models.lock().unwrap();
            for (sink, result) in SINKS.iter().zip(padded(results)) {
                let model = models.get_mut(sink).unwrap();
                answer(model, &ids, result.as_ref(), now);
            }
            let fates: Vec<_> = SINKS.iter().map(|s| models[s].records[&ids[0]].fate).collect();
            lines.lock().unwrap().push(format!("answer to {}: {fates:?}", ids[0]));
        }));
    }

    /// A new record; what each sink makes of it is noted.
    fn record(&mut self) -> Vec<u8> {
        let id = self.next_record;
        self.next_record += 1;
        let pieces = ["x", "\"", ",", "\n", "ž", "value", "\r\n", ";"];
        let mut text: String = (0..self.random.below(12))
            .map(|_| *self.random.pick(&pieces))
            .collect();
        if self.random.percent(3) {
            // More than is joined with others on the way to staging, and hard to compress.
            let more = (0..1300).map(|_| format!("{:016x}", self.random.next()));
            text.extend(more);
        }
        let body = if self.random.percent(15) {
            format!("{{\"id\":{id}}}")
        } else {
            format!("{{\"id\":{id},\"v\":{}}}", serde_json::to_string(&text).unwrap())
        };
        let sent = self.moment.load(Ordering::SeqCst);
        let mut models = self.models.lock().unwrap();
        let row: [Row; 2] = [
            vec![body.clone().into_bytes()],
            vec![id.to_string().into_bytes(), text.into_bytes()],
        ];
        for (sink, row) in SINKS.iter().zip(row) {
            let fate = Fate::Pending;
            let record = Record { sent, fate, row };
            models.get_mut(sink).unwrap().records.insert(id, record);
        }
        body.into_bytes()
    }

    /// What is true at any time.
    fn check_tables(&mut self) -> Result<Vec<Missing>, String> {
        let models = self.models.lock().unwrap();
        let check = |sink: &&'static str| {
            let rows = self.around.table.rows(&table_id(sink));
            let checked = models[sink].check_rows(&rows);
            checked.map_err(|e| format!("sink {sink}: {e}"))
        };
        SINKS.iter().map(check).collect()
    }

    /// Heals everything, lets all of it arrive, and checks what is true then.
    fn settle_all(&mut self) -> Result<(), String> {
        self.heal();
        self.around.clock.catch_up();
        let runtime = runtime();
        let result = runtime.block_on(async {
            let mut node = None;
            for _ in 0..3 {
                node = self.start().await?;
                if node.is_some() {
                    break;
                }
            }
            let node = node.ok_or("no start with everything healed")?;
            self.drain(&node).await?;
            self.check_end(&node).await
        });
        self.disk.kill();
        drop(runtime);
        result
    }

    /// Lets everything through in its order until nothing is on its way.
    async fn drain(&mut self, node: &Node) -> Result<(), String> {
        let mut quiet = 0;
        for round in 0..ROUNDS_MAX {
            settle().await;
            self.note_all();
            if self.let_first_through() {
                continue;
            }
            quiet += 1;
            // Often enough that all statistics were reported, too.
            if quiet % 5 == 0 && self.has_arrived(node).await {
                self.done.rounds = self.done.rounds.max(round.into());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let active = self.open_gates(node.repo.active_files(None)).await;
        let mut why = String::from("not all has arrived");
        for file in active.map_err(|e| e.to_string())? {
            let f = &file.file;
            why += &format!("\n  file {} {:?}: {:?}", f.key, f.state, f.retry.reason);
            for slice in &file.slices {
                let (s, held) = (&slice.slice, slice.statistics.records);
                let reason = &s.retry.reason;
                why += &format!("\n    {} {:?} {held}: {reason:?}", s.key, s.state);
            }
        }
        for stream in node.log.streams() {
            why += &format!("\n  stream {} {}", stream.name, stream.records);
        }
        Err(why)
    }

    /// Asks the store something with open gates.
    async fn open_gates<T>(&self, ask: impl Future<Output = T>) -> T {
        self.around.gates.set_open(true);
        let answer = ask.await;
        self.around.gates.set_open(false);
        answer
    }

    /// Nothing is left in the log, but where a person is called for after a disk has lied: a slice
    /// or file is parked then, and holds back the later ones of its sink.
    async fn has_arrived(&self, node: &Node) -> bool {
        let Ok(files) = self.open_gates(node.repo.active_files(None)).await else {
            return false;
        };
        let is_parked = |file: &&ActiveFile| {
            let slices = &file.slices;
            file.file.retry.parked || slices.iter().any(|s| s.slice.retry.parked)
        };
        let parked = files.iter().filter(|f| self.has_lied && is_parked(f));
        let stuck: Vec<String> = parked.map(|f| format!("{}/", f.file.key.sink)).collect();
        let mut slices = files.iter().flat_map(|f| &f.slices).map(|s| &s.slice);
        let mut streams = node.log.streams().into_iter();
        let is_stuck = |name: &str| stuck.iter().any(|sink| name.starts_with(sink));
        slices.all(|s| s.state == SliceState::Writing || is_stuck(&s.key.to_string()))
            && streams.all(|s| s.records == 0 || is_unnamed(&s.name) || is_stuck(&s.name))
    }

    async fn check_end(&mut self, node: &Node) -> Result<(), String> {
        let missing = self.check_tables()?;
        let (mut gone, mut named) = (0, self.named_only);
        for (sink, missing) in SINKS.iter().zip(missing) {
            let key = sink_key(sink);
            let balance = self.open_gates(node.repo.balance(&key)).await;
            let balance = balance.map_err(|e| e.to_string())?;
            self.note(&format!("sink {sink}: {balance:?} {missing:?}"));
            self.check_sink(sink, &balance, missing)
                .map_err(|what| format!("sink {sink}: {what}: {balance:?}, {missing:?}"))?;
            gone += missing.stored;
            named += balance.lost + balance.in_flight;
            self.done.lost += balance.lost;
        }
        if gone > named && !self.has_uncounted {
            return Err(format!(
                "{gone} acknowledged records are missing, {named} are called lost or still to be read, and no damage was reported"
            ));
        }
        Ok(())
    }

    fn check_sink(&self, sink: &str, balance: &Balance, missing: Missing) -> Result<(), &'static str> {
        if !balance.holds() {
            return Err("the balance does not hold");
        }
        let models = self.models.lock().unwrap();
        let model = &models[sink];
        let rows = self.around.table.rows(&table_id(sink)).len() as u64;
        if balance.imported != rows {
            return Err("the table has another number of rows than were imported");
        }
        let stored = model.count(|f| matches!(f, Fate::Stored(_)));
        let unknown = model.count(|f| *f == Fate::Unknown);
        if balance.accepted > stored + unknown {
            return Err("more was accepted than was sent");
        }
        // What was never acknowledged may be torn by a power cut, and is counted then.
        if balance.lost > missing.stored + missing.unknown {
            return Err("records are called lost that are in the table");
        }
        if self.has_lied {
            return Ok(());
        }
        if missing.stored > 0 {
            return Err("acknowledged records are missing");
        }
        if balance.accepted < stored || balance.in_flight > 0 {
            return Err("not all has arrived");
        }
        Ok(())
    }

    fn finish(mut self) -> Done {
        let models = self.models.lock().unwrap();
        for model in models.values() {
            self.done.stored += model.count(|f| matches!(f, Fate::Stored(_)));
            self.done.refused += model.count(|f| *f == Fate::Refused);
            self.done.unknown += model.count(|f| *f == Fate::Unknown);
        }
        drop(models);
        self.done.trace = self.trace.finish();
        self.done
    }
}

fn padded(results: Vec<SinkResult>) -> impl Iterator<Item = Option<SinkResult>> {
    results.into_iter().map(Some).chain(std::iter::repeat_with(|| None))
}

/// Notes what the sender was told.
fn answer(model: &mut Model, ids: &[u64], result: Option<&SinkResult>, now: u64) {
    for (i, id) in ids.iter().enumerate() {
        let record = model.records.get_mut(id).unwrap();
        record.fate = match result {
            None => Fate::Refused,
            Some(r) if r.refused.indices.contains(&i) => Fate::Refused,
            Some(r) => match &r.fate {
                dispatch::Fate::Processed => Fate::Stored(now),
                dispatch::Fate::Accepted | dispatch::Fate::Unknown(_) => Fate::Unknown,
                dispatch::Fate::Nothing | dispatch::Fate::Failed(_) => Fate::Refused,
            },
        };
    }
}

/// What the log calls a stream whose declaration was torn by a power cut, while a block of it was
/// not: of neither anybody was told that it is stored.
fn is_unnamed(stream: &str) -> bool {
    stream.starts_with("unknown-")
}

fn sink_key(sink: &str) -> SinkKey {
    format!("1/2/s/{sink}").parse().unwrap()
}

fn table_id(sink: &str) -> String {
    format!("in.c-b.{sink}")
}

fn column(name: &str, kind: ColumnKind) -> Column {
    Column {
        name: name.to_owned(),
        primary_key: false,
        kind,
    }
}

fn path(path: &str) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: None,
        raw_string: true,
    })
}

/// A source with two sinks: one takes everything, one refuses records without `v`.
async fn define(node: &Node) {
    let stamp = Stamp {
        at: forebay_model::Timestamp::from_millis(1_790_000_000_000),
        by: By::system(),
    };
    let key: SourceKey = "1/2/s".parse().unwrap();
    node.repo.ensure_branch(&key.branch, true, &stamp).await.unwrap();
    let source = SourceContent {
        kind: SourceKind::Http {
            secret: SECRET.to_owned(),
        },
        name: "s".to_owned(),
        description: String::new(),
        settings: [].into(),
    };
    node.repo.create_source(&key, source, "New source.", &stamp).await.unwrap();
    let columns = [
        vec![column("body", ColumnKind::Body)],
        vec![column("id", path("id")), column("v", path("v"))],
    ];
    for (sink, columns) in SINKS.iter().zip(columns) {
        let content = SinkContent {
            name: (*sink).to_owned(),
            description: String::new(),
            table: TableSink {
                backend: TableBackend::Sqlite,
                table: table_id(sink).parse().unwrap(),
                mapping: Mapping { columns },
            },
            settings: [].into(),
        };
        let volumes = std::slice::from_ref(&node.volume);
        let key = sink_key(sink);
        let made = node.repo.create_sink(&key, content, "New sink.", volumes, &stamp);
        made.await.unwrap();
    }
}
