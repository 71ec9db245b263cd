//! What a run is, and what kind of weather it has.

use crate::random::Random;
use crate::table;

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
pub(super) struct Weather {
    pub(super) send: usize,
    pub(super) pass: usize,
    /// Of steps that are let through: how many fail.
    pub(super) fail: usize,
    pub(super) disk: usize,
    pub(super) outage: usize,
    pub(super) end: usize,
    pub(super) jump: usize,
    /// Staged objects that are damaged.
    pub(super) staging: usize,
    /// The disk loses what it has synced.
    pub(super) lies: bool,
    /// The table loses what it has confirmed last, once.
    pub(super) rolls_back: bool,
}

impl Weather {
    pub(super) fn draw(random: &mut Random, plan: &Plan) -> Self {
        let mut upto = |n: usize| random.below(n + 1);
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
