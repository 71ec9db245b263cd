//! Serializability: concurrent operations of the repository have the effect of some sequential
//! order.
//!
//! For many states, and each pair of the repository's operations: the second runs just before the
//! n-th call that the first makes to the store, for each n. The stored content and both results
//! must equal those of the two in one order or the other. So any fact that a transaction relies on
//! without a precondition is found. The same with two interleaved operations, for a sample. In
//! addition, the invariants of `repo/files.rs` hold after each case.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "interleave/memory.rs"]
mod memory;
#[path = "interleave/ops.rs"]
mod ops;
#[path = "interleave/perform.rs"]
mod perform;
#[path = "interleave/states.rs"]
mod states;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use forebay_meta::Repo;
use forebay_meta::kv::store::Store;
use forebay_model::{FileState, SinkKey, SinkSettings, SliceState};

use memory::{Content, InterleavingStore, Look, Memory};
use ops::{Op, Targets};
use perform::perform;

/// Clock of each actor.
const CLOCKS: [i64; 3] = [1_000, 2_000, 3_000];
/// Sampled triples in each state.
const TRIPLES: usize = 400;

type Outcome = Result<String, String>;

fn repo(store: Arc<dyn Store>) -> Repo {
    Repo::new(store, SinkSettings::default())
}

/// An initial state and the targets of the operations.
struct Case<'s> {
    state: &'static str,
    start: &'s Content,
    targets: &'s Targets,
    /// Number of interleavings that were judged.
    judged: &'s AtomicUsize,
}

/// Final content, and the result of each actor.
struct End {
    content: Content,
    outcomes: Vec<Outcome>,
}

impl End {
    /// Whether the two are indistinguishable. Two errors count as equal, since their reasons may be
    /// of different moments.
    fn same(&self, other: &Self) -> bool {
        let alike = |(a, b): (&Outcome, &Outcome)| a == b || (a.is_err() && b.is_err());
        self.outcomes.iter().zip(&other.outcomes).all(alike)
            && self.content.values() == other.content.values()
    }

    /// Describes the differences.
    fn against(&self, other: &Self) -> String {
        let mut text = format!(
            "actual   {:?}\nexpected {:?}\n",
            self.outcomes, other.outcomes
        );
        for key in self.content.differing(&other.content) {
            text += &format!("  {key}\n");
            for content in [&self.content, &other.content] {
                let value = content.values().get(key.as_str()).copied();
                let value = value.map_or("-".into(), String::from_utf8_lossy);
                text += &format!("    {value}\n");
            }
        }
        text
    }
}

/// Writes and reads of an operation that runs alone.
struct Alone {
    changes: Vec<String>,
    looks: Vec<Look>,
    calls: usize,
}

impl Case<'_> {
    /// Runs the operations sequentially; `outcomes` is by actor, whatever the order.
    async fn in_order(&self, acts: &[Op], order: &[usize]) -> End {
        let memory = Arc::new(Memory::with(self.start.clone()));
        let repo = repo(Arc::<Memory>::clone(&memory));
        let mut outcomes = vec![Ok(String::new()); acts.len()];
        for actor in order {
            outcomes[*actor] = perform(&repo, acts[*actor], self.targets, CLOCKS[*actor]).await;
        }
        let content = memory.content();
        check(&content, self.state, acts).await;
        End { content, outcomes }
    }

    async fn alone(&self, act: Op) -> Alone {
        let (end, store) = self.interleaved(&[act], &[]).await;
        Alone {
            changes: self.start.differing(&end.content),
            looks: store.looked_at(),
            calls: store.calls(),
        }
    }

    async fn each_alone(&self) -> Vec<(Op, Alone)> {
        let mut all = Vec::new();
        for op in Op::ALL {
            all.push((op, self.alone(op).await));
        }
        all
    }

    /// Runs the first operation, with the others interleaved: each after that many calls of the
    /// first.
    async fn interleaved(&self, acts: &[Op], after: &[usize]) -> (End, Arc<InterleavingStore>) {
        let memory = Arc::new(Memory::with(self.start.clone()));
        let plain = repo(Arc::<Memory>::clone(&memory));
        let interleaving = Arc::new(InterleavingStore::new(Arc::clone(&memory)));
        let outcomes = Arc::new(Mutex::new(vec![Ok(String::new()); acts.len()]));
        for (i, calls) in after.iter().enumerate() {
            let (actor, plain, outcomes) = (i + 1, plain.clone(), Arc::clone(&outcomes));
            let (act, targets) = (acts[actor], self.targets.clone());
            let act = async move {
                let outcome = perform(&plain, act, &targets, CLOCKS[actor]).await;
                outcomes.lock().unwrap()[actor] = outcome;
            };
            interleaving.after(*calls, Box::pin(act));
        }
        let first = repo(Arc::<InterleavingStore>::clone(&interleaving));
        let outcome = perform(&first, acts[0], self.targets, CLOCKS[0]).await;
        outcomes.lock().unwrap()[0] = outcome;
        let (content, outcomes) = (memory.content(), outcomes.lock().unwrap().clone());
        (End { content, outcomes }, interleaving)
    }

    /// Returns a description if the result matches none of the sequential orders.
    fn judge(&self, acts: &[Op], after: &[usize], end: &End, orders: &[End]) -> Option<String> {
        self.judged.fetch_add(1, Relaxed);
        if orders.iter().any(|order| order.same(end)) {
            return None;
        }
        let nearest = orders.iter().map(|order| end.against(order));
        let nearest = nearest.min_by_key(String::len).unwrap_or_default();
        Some(format!(
            "{}: {acts:?}, the others after {after:?} calls:\n{nearest}",
            self.state
        ))
    }
}

/// Checks the invariants of files, on a copy whose sinks are settled.
async fn check(content: &Content, state: &str, acts: &[Op]) {
    let repo = &repo(Arc::new(Memory::with(content.clone())));
    for key in [ops::sink(), ops::other(), common::sink_key("src", "new")] {
        repo.settle_sink(&key, &ops::volumes(), &common::stamp(9_000))
            .await
            .unwrap();
    }
    let source = repo.source(&ops::source()).await.ok();
    for key in [ops::sink(), ops::other(), common::sink_key("src", "new")] {
        let sink = repo.sink(&key).await.ok();
        let takes = |sink: &forebay_model::Sink| sink.is_active() && sink.target.table().is_some();
        let is_active = source.as_ref().is_some_and(|s| s.is_active())
            && sink.as_ref().is_some_and(|s| takes(s));
        assert!(
            source.is_some() || sink.is_none(),
            "{state}: {acts:?}: {key}"
        );
        check_files(repo, &key, is_active, &format!("{state}: {acts:?}")).await;
    }
}

async fn check_files(repo: &Repo, sink: &SinkKey, is_active: bool, what: &str) {
    let active = repo.active_files(Some(sink)).await.unwrap();
    let mut writing = 0;
    for file in &active {
        let state = file.file.state;
        let mut volumes = Vec::new();
        for slice in &file.slices {
            let slice = &slice.slice;
            assert!(state.allows(slice.state), "{what}: {}", slice.key);
            if slice.state == SliceState::Writing {
                volumes.push(slice.key.volume.clone());
            }
        }
        let is_writing = state == FileState::Writing;
        writing += usize::from(is_writing);
        let expected = if is_writing {
            ops::volumes()
        } else {
            Vec::new()
        };
        assert_eq!(volumes, expected, "{what}: {}", file.file.key);
    }
    assert_eq!(writing, usize::from(is_active), "{what}: {sink}");
}

/// Runs all pairs in one state; returns the failures. Skips pairs of which the first doesn't read
/// what the second writes: their order makes no difference.
async fn pairs(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = case.each_alone().await;
    for (first, looks) in all.iter().filter(|(op, _)| op.is_one_moment()) {
        for (second, changes) in &all {
            if !may_disturb(changes, looks) {
                continue;
            }
            let acts = [*first, *second];
            let mut orders = Vec::new();
            for order in [[0, 1], [1, 0]] {
                orders.push(case.in_order(&acts, &order).await);
            }
            for calls in 1.. {
                let (end, store) = case.interleaved(&acts, &[calls]).await;
                if store.calls() <= calls {
                    break;
                }
                if let Some(text) = case.judge(&acts, &[calls], &end, &orders) {
                    wrong.push(text);
                    break;
                }
            }
        }
    }
    wrong
}

fn may_disturb(second: &Alone, first: &Alone) -> bool {
    let seen = |key: &String| first.looks.iter().any(|look| look.sees(key));
    second.changes.iter().any(seen)
}

/// Runs a sample of triples in one state; returns the failures.
async fn triples(case: &Case<'_>, seed: u64) -> Vec<String> {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut wrong = Vec::new();
    let all = case.each_alone().await;
    let mut numbers = Numbers(seed);
    for _ in 0..TRIPLES {
        let drawn = [(); 3].map(|()| &all[numbers.below(all.len())]);
        let acts = drawn.map(|(op, _)| *op);
        let [(_, first), (_, second), _] = drawn;
        let disturbed = acts[0].is_one_moment() && may_disturb(second, first);
        if !disturbed || first.calls < 2 {
            continue;
        }
        let mut after = [(); 2].map(|()| numbers.below(first.calls - 1) + 1);
        after.sort_unstable();
        let (end, store) = case.interleaved(&acts, &after).await;
        if store.calls() <= after[1] {
            // The first ended before the last one started.
            continue;
        }
        let mut orders = Vec::new();
        for order in ORDERS {
            orders.push(case.in_order(&acts, &order).await);
        }
        wrong.extend(case.judge(&acts, &after, &end, &orders));
    }
    wrong
}

/// Deterministic pseudo-random numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Runs all states, on two threads. Fewer cases than `at_least` would mean that hardly any
/// operation was disturbed.
fn in_all_states(at_least: usize, judge: impl AsyncFn(&Case<'_>, u64) -> Vec<String> + Sync) {
    let runtime = || {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    };
    let states = runtime().block_on(states::all());
    let next = Mutex::new(states.iter().enumerate());
    let wrong: Mutex<Vec<String>> = Mutex::default();
    let judged = AtomicUsize::default();
    let work = || {
        let take = || next.lock().unwrap().next();
        while let Some((number, (name, start))) = take() {
            let found = runtime().block_on(async {
                let plain = repo(Arc::new(Memory::with(start.clone())));
                let case = Case {
                    state: name,
                    start,
                    targets: &Targets::of(&plain).await,
                    judged: &judged,
                };
                judge(&case, number as u64).await
            });
            wrong.lock().unwrap().extend(found);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let judged = judged.into_inner();
    assert!(judged >= at_least, "{judged}");
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn pairs_of_operations_are_serializable() {
    in_all_states(1_000, async |case, _| pairs(case).await);
}

#[test]
fn triples_of_operations_are_serializable() {
    in_all_states(200, async |case, seed| triples(case, seed).await);
}

#[test]
fn a_write_without_a_precondition_is_detected() {
    let acts = [Op::Careless; 2];
    in_all_states(1, async |case, _| {
        let orders = [case.in_order(&acts, &[0, 1]).await];
        let (before, _) = case.interleaved(&acts, &[0]).await;
        let (amid, _) = case.interleaved(&acts, &[1]).await;
        assert_eq!(case.judge(&acts, &[0], &before, &orders), None);
        assert!(case.judge(&acts, &[1], &amid, &orders).is_some());
        Vec::new()
    });
}
