//! Steps of a run.

use std::time::Duration;

use forebay_log::DiskCall;

use super::{ENDS, End, World};
use crate::gate::{Step, Verdict};
use crate::node::Node;

const EIO: i32 = 5;

const ENOSPC: i32 = 28;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;

const DAY_MS: i64 = 86_400_000;

impl World {
    /// Executes one step.
    pub(super) async fn step(&mut self, node: &mut Node) -> Option<End> {
        let w = &self.weather;
        let shares = [w.send, w.pass, w.disk, w.outage, w.end, w.jump, w.staging];
        let mut drawn = self.random.index(100);
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
                    self.trace(&what);
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
        // Only kinds that can fail.
        let can_fail = !matches!(step, Step::Sync | Step::Close);
        let verdict = if can_fail && self.random.percent(self.weather.fail) {
            Verdict::Fail
        } else {
            Verdict::Pass
        };
        if let Some(what) = self.around.gates.release(id, verdict) {
            self.trace(&format!("{verdict:?} {what}"));
        }
    }

    async fn pass_time(&mut self) {
        let ms = *self
            .random
            .pick(&[5, 100, 1000, 1000, 5000, 11_000, 40_000]);
        self.trace(&format!("{ms} ms pass"));
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn jump(&mut self) {
        let ms = *self.random.pick(&[DAY_MS, -DAY_MS, 7000, -7000]);
        self.trace(&format!("the clock jumps by {ms} ms"));
        self.around.clock.jump(ms);
    }

    pub(super) fn break_disk(&mut self) {
        let calls = [
            DiskCall::Write,
            DiskCall::Sync,
            DiskCall::Open,
            DiskCall::SetLen,
            DiskCall::Rename,
            DiskCall::SyncDir,
        ];
        match self.random.index(8) {
            0 => {
                let used: usize = self.disk.files().iter().map(|(_, b)| b.len()).sum();
                let left = self.random.index(20_000);
                self.trace(&format!("the disk has {left} bytes left"));
                self.disk.set_capacity(Some((used + left) as u64));
            }
            1 => {
                self.trace("the disk has room");
                self.disk.set_capacity(None);
            }
            2 => {
                let read_only = self.random.percent(30);
                self.trace(&format!("read only: {read_only}"));
                self.disk.set_read_only(read_only);
            }
            _ => {
                let call = *self.random.pick(&calls);
                let after = self.random.index(6) as u64;
                let errno = *self.random.pick(&[EIO, EIO, ENOSPC, EMFILE, ENOMEM]);
                self.trace(&format!("{call:?} number {after} will fail with {errno}"));
                self.disk.fail(Some(call), after, errno);
            }
        }
    }

    fn outage(&mut self) {
        let out = self.random.percent(40);
        let which = self.random.index(4);
        self.trace(&format!("outage of {which}: {out}"));
        match which {
            0 => self.around.meta.set_outage(out),
            1 => self.around.staging.set_outage(out),
            2 => self.around.table.set_outage(out),
            _ => {
                self.has_rejected |= out;
                self.around.table.set_rejects(out);
            }
        }
    }
}
