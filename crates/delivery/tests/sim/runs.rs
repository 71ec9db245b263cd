//! Many seeds, one seed, and seeds with deliberate bugs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::table;
use crate::world::{Broken, Done, Plan, run};

/// Seeds of a run unless `FOREBAY_SIM_SEEDS` is set.
const SEEDS: u64 = 1000;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is {value:?}, it must be a number")))
}

/// Runs seeds from 0 on, on all cores, until `enough` accepts a seed's outcome.
fn run_all(
    seeds: u64,
    broken: Broken,
    enough: impl Fn(u64, Result<Done, String>) -> bool + Send + Sync,
) {
    let (next, stop) = (AtomicU64::new(0), AtomicU64::new(seeds));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= stop.load(Ordering::SeqCst) {
                return;
            }
            let plan = Plan {
                seed,
                broken,
                loud: false,
            };
            if enough(seed, run(plan)) {
                stop.store(0, Ordering::SeqCst);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

#[test]
fn seeds() {
    if let Some(seed) = variable("FOREBAY_SIM_SEED") {
        let plan = Plan {
            seed,
            broken: Broken::Nothing,
            loud: true,
        };
        println!("{:?}", run(plan).unwrap());
        return;
    }
    let seeds = variable("FOREBAY_SIM_SEEDS").unwrap_or(SEEDS);
    let failed = Mutex::new(Vec::new());
    let sum = Mutex::new(Done::default());
    run_all(seeds, Broken::Nothing, |seed, outcome| {
        match outcome {
            Ok(done) => sum.lock().unwrap().add(&done),
            Err(why) => failed.lock().unwrap().push((seed, why)),
        }
        failed.lock().unwrap().len() >= 5
    });
    let failed = failed.into_inner().unwrap();
    for (seed, why) in &failed {
        println!(
            "seed {seed}: {why}\n  again: FOREBAY_SIM_SEED={seed} cargo test -p forebay-delivery --test sim -- --nocapture seeds"
        );
    }
    let sum = sum.into_inner().unwrap();
    println!("{seeds} seeds: {sum:?}");
    assert!(failed.is_empty(), "{} seeds have failed", failed.len());
    // Each outcome occurs.
    let each = [sum.stored, sum.rejected, sum.unknown, sum.lost];
    assert!(seeds < SEEDS || each.iter().all(|n| *n > 0), "{sum:?}");
}

/// Otherwise a seed could not be reproduced.
#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..30 {
        let plan = Plan {
            seed,
            ..Plan::default()
        };
        assert_eq!(run(plan), run(plan), "seed {seed}");
    }
}

/// A deliberate bug has to be found within so many seeds.
fn found(broken: Broken, within: u64, how: &str) {
    let found = Mutex::new(Vec::new());
    run_all(within, broken, |seed, outcome| {
        let Err(why) = outcome else {
            return false;
        };
        let found = &mut *found.lock().unwrap();
        let is_it = why.contains(how);
        found.push((seed, why));
        is_it
    });
    let found = found.into_inner().unwrap();
    let is_it = found.iter().any(|(_, why)| why.contains(how));
    assert!(is_it, "{broken:?} was not found: {found:?}");
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    found(Broken::Disk, 200, "");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    found(Broken::Acknowledgement, 200, "missing");
}

#[test]
fn a_store_that_forgets_is_found() {
    found(Broken::Store, 500, "");
}

#[test]
fn a_table_without_a_ledger_is_found() {
    found(Broken::Table(table::Fault::ForgetsItsLedger), 500, "twice");
}

#[test]
fn a_table_that_writes_row_by_row_is_found() {
    found(Broken::Table(table::Fault::RowByRow), 500, "twice");
}

#[test]
fn a_table_with_the_ledger_first_is_found() {
    found(Broken::Table(table::Fault::LedgerFirst), 500, "rows");
}

#[test]
fn a_table_that_drops_a_row_is_found() {
    found(Broken::Table(table::Fault::DropsTheLastRow), 100, "rows");
}
