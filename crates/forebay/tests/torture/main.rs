//! Exactly once, tested with the real binary: several clients post numbered records, single and in
//! batches, to two sinks. Meanwhile the process is killed with SIGKILL at random moments and restarted,
//! connections to PostgreSQL and S3 are cut during imports and uploads, and responses to clients are
//! lost. At the end each acknowledged record is in each table once, records without a response are
//! there at most as often as they were sent, no row has data of another record, and the reconciliation
//! reported by Forebay matches the count.
//!
//! `FOREBAY_TORTURE_SECONDS` (default 14, for each of the four setups) and `FOREBAY_TORTURE_SEED`
//! configure longer runs (`just torture --minutes N --seed S`). Each run prints its seed and a summary.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(
    clippy::print_stderr,
    reason = "what was done is part of the test's output"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test of a real process waits for it with the real clock; each wait is for a condition"
)]

mod client;
#[cfg(feature = "failpoints")]
mod dead_rows;
mod descriptors;
mod disks;
#[cfg(feature = "failpoints")]
mod failpoints;
#[cfg(feature = "failpoints")]
mod kept;
mod losses;
#[cfg(feature = "failpoints")]
mod numbered;
#[cfg(feature = "failpoints")]
mod replay;
#[allow(dead_code, reason = "other test programs use the rest of it")]
mod server;
mod tables;
#[cfg(feature = "failpoints")]
mod vanished;
mod verify;
#[allow(dead_code, reason = "other test programs use the rest of it")]
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Load, Sent};
use forebay_test_support::SeededRandom;
use server::{Launch, Server, wait_for};
use world::{Setup, World};

const CLIENTS: u64 = 6;

/// Two servers and their clients would slow each other down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().expect(name))
}

/// Kills and cuts until the time is over and each kind of cut has occurred.
fn disturb(server: &mut Server, world: &World, seed: u64, seconds: u64) -> u64 {
    let mut random = SeededRandom::new(seed);
    let moments = world.moments();
    let mut kills = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if !moments.is_empty() {
            let choice = usize::try_from(random.below(moments.len() as u64)).unwrap();
            world.arm(moments[choice]);
        }
        std::thread::sleep(Duration::from_millis(100 + random.below(1500)));
        if moments.is_empty() || random.one_in(2) {
            server.kill_and_restart();
            kills += 1;
        }
    }
    for moment in moments {
        if !world.cuts().contains_key(&moment) {
            world.arm(moment);
            wait_for(&format!("a cut {moment:?}"), || {
                world.cuts().get(&moment).copied()
            });
        }
    }
    kills
}

fn torture(setup: Setup, test: &str) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = setting("FOREBAY_TORTURE_SECONDS", 14);
    let seed = setting("FOREBAY_TORTURE_SEED", u64::from(std::process::id()));
    let run = format!("{} (FOREBAY_TORTURE_SEED={seed})", setup.name());
    let root = tempfile::tempdir().unwrap();
    let mut launch = Launch::new(root.path());
    let Some(world) = World::new(setup, test, &mut launch) else {
        return;
    };
    eprintln!("torture: {run}: {seconds} s");
    let mut server = launch.start();
    let path = world::define(&server);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = Load {
        source: server.source,
        path: &path,
        seed,
        stop: &stop,
        pause: Duration::ZERO,
        acknowledged: &acknowledged,
    };
    let (kills, sent) = std::thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || client::run(n, load)))
            .collect();
        // The clients must end in any case.
        let kills = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            disturb(&mut server, &world, seed, seconds)
        }));
        stop.store(true, Ordering::Relaxed);
        let sent: Vec<Sent> = clients.into_iter().map(|c| c.join().unwrap()).collect();
        (kills.unwrap_or_else(|e| std::panic::resume_unwind(e)), sent)
    });
    // The last records are still in flight: they must arrive after a kill, too.
    server.kill_and_restart();
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    let sum = |of: fn(&Sent) -> u64| sent.iter().map(of).sum::<u64>();
    eprintln!(
        "torture: {run}: {kills} kills, cuts {:?}, {acknowledged} records acknowledged, {} requests without an answer, {} sent again, {} sent in half",
        world.cuts(),
        sum(|s| s.answers_lost),
        sum(|s| s.repeated),
        sum(|s| s.half_sent),
    );
    assert!(acknowledged > 0, "{run}: nothing was acknowledged");
    verify::verify(&server, &world.tables, &sent, &run);
}

#[test]
fn exactly_once_from_disk_into_sqlite() {
    let (s3, postgres) = (false, false);
    torture(Setup { s3, postgres }, "exactly_once_from_disk_into_sqlite");
}

#[test]
fn exactly_once_from_disk_into_postgres() {
    let (s3, postgres) = (false, true);
    torture(
        Setup { s3, postgres },
        "exactly_once_from_disk_into_postgres",
    );
}

#[test]
fn exactly_once_from_s3_into_sqlite() {
    let (s3, postgres) = (true, false);
    torture(Setup { s3, postgres }, "exactly_once_from_s3_into_sqlite");
}

#[test]
fn exactly_once_from_s3_into_postgres() {
    let (s3, postgres) = (true, true);
    torture(Setup { s3, postgres }, "exactly_once_from_s3_into_postgres");
}
