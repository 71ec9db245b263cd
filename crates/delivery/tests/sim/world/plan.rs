//! Parameters of a run, and how often things happen in it.

use crate::table;
use forebay_test_support::SeededRandom;

/// Deliberate bug, which the checks have to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    Nothing,
    /// The disk's syncs do nothing.
    Disk,
    /// The log's tickets are not awaited.
    Acknowledgement,
    /// The metadata store loses committed transactions.
    Store,
    /// The table has this fault.
    Table(table::Fault),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) broken: Broken,
    /// Print each step.
    pub(crate) loud: bool,
}

/// Summary of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Hash of all steps and their outcomes.
    pub(crate) trace: u64,
    pub(crate) steps: u64,
    pub(crate) lives: u64,
    pub(crate) sent: u64,
    pub(crate) stored: u64,
    pub(crate) rejected: u64,
    pub(crate) unknown: u64,
    /// Steps until everything had arrived at the end.
    pub(crate) rounds: u64,
    /// Reported as lost after silent corruption.
    pub(crate) lost: u64,
}

impl Done {
    pub(crate) fn add(&mut self, other: &Self) {
        self.trace ^= other.trace;
        self.steps += other.steps;
        self.lives += other.lives;
        self.sent += other.sent;
        self.stored += other.stored;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.rounds = self.rounds.max(other.rounds);
        self.lost += other.lost;
    }
}

/// How often things happen, in a hundred steps; drawn once a run, so that runs differ in kind.
pub(super) struct Weather {
    pub(super) send: usize,
    pub(super) pass: usize,
    /// Steps that are passed: how many fail.
    pub(super) fail: usize,
    pub(super) disk: usize,
    pub(super) outage: usize,
    pub(super) end: usize,
    pub(super) jump: usize,
    /// Staged objects that are damaged.
    pub(super) staging: usize,
    /// The disk loses what it has synced.
    pub(super) lies: bool,
    /// The table loses the last import that it has confirmed, once.
    pub(super) rolls_back: bool,
}

impl Weather {
    pub(super) fn draw(random: &mut SeededRandom, plan: &Plan) -> Self {
        let mut upto = |n: usize| random.index(n + 1);
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
            rolls_back: upto(9) == 0,
        };
        if plan.broken != Broken::Nothing {
            weather.lies = false;
            weather.rolls_back = false;
            weather.end = weather.end.max(1);
            weather.fail = weather.fail.max(8);
        }
        weather
    }
}
