//! Supervises one worker process and its evaluations.
//!
//! Evaluations are sent ahead and answered in order. When the process ends, the reason decides
//! about those it has not answered:
//! - it reported that the first of them exceeded its time: that one fails, the others go to a new
//!   process;
//! - it sent goodbye, because it had grown: all go to a new process;
//! - it sent nothing (out of memory, killed): which one was the cause is unknown, because answers
//!   may have been lost with it. They go to a new process one by one, and the one that ends that,
//!   too, is the cause.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use forebay_record::TemplateError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frame;
use super::process::{ProcessEvent, WorkerProcess};
use super::shared::PoolShared;
use super::task::EvaluationTask;

/// Records that a worker may have unanswered: enough to keep it busy between our wake-ups, few
/// enough that little is repeated when it ends.
const WINDOW_RECORDS: usize = 64;
const WINDOW_BYTES: usize = 1 << 20;

/// A process that has not sent hello by then never will.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);

/// Failed starts in a row before evaluations fail for it.
const STARTS_MAX: u32 = 3;

/// Pause after that, in which evaluations fail at once.
const START_PAUSE: Duration = Duration::from_secs(1);

/// Reason for replacing a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProcessEnd {
    /// Its first unanswered evaluation exceeded its time.
    Timeout,
    /// It had grown too large.
    Goodbye,
    /// It has ended, or sent a malformed frame.
    Lost,
    /// It is silent although an answer is due.
    Hung,
}

pub(super) struct WorkerSupervisor {
    shared: Arc<PoolShared>,
    is_quarantine: bool,
    tasks: mpsc::Receiver<Vec<EvaluationTask>>,
    waiting: VecDeque<EvaluationTask>,
    sent: VecDeque<EvaluationTask>,
    sent_bytes: usize,
    /// Tasks of which one may have ended a process: evaluated before others, one evaluation at a
    /// time.
    suspects: VecDeque<EvaluationTask>,
    /// An evaluation of the first suspect has been sent.
    probing: bool,
    /// Processes killed from outside during that probe.
    probe_kills: u32,
    process: Option<WorkerProcess>,
    failed_starts: u32,
    paused_until: Option<Instant>,
}

/// Result of a wait.
enum SupervisorEvent {
    Tasks(Option<Vec<EvaluationTask>>),
    Wrote,
    Read(io::Result<usize>),
    Deadline,
}

impl WorkerSupervisor {
    pub(super) fn new(
        shared: Arc<PoolShared>,
        quarantine: bool,
        tasks: mpsc::Receiver<Vec<EvaluationTask>>,
    ) -> Self {
        Self {
            shared,
            is_quarantine: quarantine,
            tasks,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            sent_bytes: 0,
            suspects: VecDeque::new(),
            probing: false,
            probe_kills: 0,
            process: None,
            failed_starts: 0,
            paused_until: None,
        }
    }

    /// Runs until the pool is closed and all that it was sent is answered.
    pub(super) async fn run(mut self) {
        let mut open = true;
        while open || self.has_work() {
            self.send_ahead();
            let event = self.wait(open).await;
            let end = match event {
                SupervisorEvent::Tasks(Some(tasks)) => {
                    self.waiting.extend(tasks);
                    None
                }
                SupervisorEvent::Tasks(None) => {
                    open = false;
                    None
                }
                // A process that reads no more may have reported why.
                SupervisorEvent::Wrote => None,
                SupervisorEvent::Read(Ok(n)) if n > 0 => self.read_frames(),
                SupervisorEvent::Read(_) => Some(ProcessEnd::Lost),
                SupervisorEvent::Deadline => Some(ProcessEnd::Hung),
            };
            if let Some(end) = end {
                self.on_process_end(end).await;
            }
        }
        if let Some(process) = self.process.take() {
            process.end().await;
        }
    }

    fn has_work(&self) -> bool {
        !(self.waiting.is_empty() && self.sent.is_empty() && self.suspects.is_empty())
    }

    async fn wait(&mut self, open: bool) -> SupervisorEvent {
        let deadline = self.deadline();
        let Some(process) = &mut self.process else {
            // Without a process there is no work either: it would have been started.
            return SupervisorEvent::Tasks(self.tasks.recv().await);
        };
        let has_capacity = open && self.waiting.len() < 2 * WINDOW_RECORDS;
        tokio::select! {
            tasks = self.tasks.recv(), if has_capacity => SupervisorEvent::Tasks(tasks),
            event = process.exchange() => match event {
                ProcessEvent::Wrote => SupervisorEvent::Wrote,
                ProcessEvent::Read(result) => SupervisorEvent::Read(result),
            },
            () = sleep_until(deadline), if deadline.is_some() => SupervisorEvent::Deadline,
        }
    }

    /// When silence means that the process hangs. Its own watchdog measures evaluations; this is
    /// for a process that is stopped, so it may be late.
    fn deadline(&self) -> Option<Instant> {
        let process = self.process.as_ref()?;
        if !process.ready {
            return Some(process.last_received + HELLO_TIMEOUT);
        }
        let idle = self.sent.is_empty() && !self.probing;
        let silence_limit = self.shared.config.time_limit * 10 + Duration::from_secs(10);
        (!idle).then(|| process.last_received + silence_limit)
    }

    /// Sends the process as much as it may have, starting one if there is none.
    fn send_ahead(&mut self) {
        let now = Instant::now();
        if !self.has_work() || !self.start(now) {
            return;
        }
        let Some(process) = &mut self.process else {
            return;
        };
        if self.sent.is_empty() && !self.probing {
            process.last_received = now;
        }
        // Suspects come first, and alone.
        while !self.probing && self.sent.is_empty() {
            let Some(task) = self.suspects.pop_front() else {
                break;
            };
            if let Some(task) = task.admit(&self.shared.breakers, now) {
                process.send(task.open().take(1), &task.record);
                self.suspects.push_front(task);
                self.probing = true;
            }
        }
        if self.probing || !self.suspects.is_empty() {
            return;
        }
        while self.sent.len() < WINDOW_RECORDS && self.sent_bytes < WINDOW_BYTES {
            let Some(task) = self.waiting.pop_front() else {
                break;
            };
            if let Some(task) = task.admit(&self.shared.breakers, now) {
                process.send(task.open(), &task.record);
                self.sent_bytes += task.record.len();
                self.sent.push_back(task);
            }
        }
    }

    /// Ensures that a process runs. `false`: there is none, and nothing left to do.
    fn start(&mut self, now: Instant) -> bool {
        if self.process.is_some() {
            return true;
        }
        let paused = self.paused_until.is_some_and(|until| until > now);
        if !paused {
            match WorkerProcess::start(&self.shared.command, &self.shared.config, now) {
                Ok(process) => {
                    self.shared.count_start();
                    self.process = Some(process);
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "starting a template worker failed");
                    self.paused_until = Some(now + START_PAUSE);
                }
            }
        }
        let tasks = self.suspects.drain(..).chain(self.sent.drain(..));
        for task in tasks.chain(self.waiting.drain(..)) {
            task.fail(&TemplateError::unavailable(
                "templates can't be evaluated: their worker does not start",
            ));
        }
        self.sent_bytes = 0;
        self.probing = false;
        false
    }

    /// Handles the frames that the process sent.
    fn read_frames(&mut self) -> Option<ProcessEnd> {
        let mut process = self.process.take()?;
        process.last_received = Instant::now();
        let mut end = None;
        while end.is_none() {
            end = match process.next_frame() {
                Ok(None) => break,
                Ok(Some((frame::HELLO, _))) => {
                    process.ready = true;
                    self.failed_starts = 0;
                    None
                }
                Ok(Some((frame::RESULT, payload))) => match frame::read_result(payload) {
                    Ok(result) => self.on_result(result),
                    Err(_) => Some(ProcessEnd::Lost),
                },
                Ok(Some((frame::TIMEOUT, _))) => Some(ProcessEnd::Timeout),
                Ok(Some((frame::GOODBYE, _))) => Some(ProcessEnd::Goodbye),
                Ok(Some(_)) | Err(_) => Some(ProcessEnd::Lost),
            };
        }
        self.process = Some(process);
        end
    }

    /// The evaluation that is answered next.
    fn current(&mut self) -> Option<&mut EvaluationTask> {
        if self.probing {
            self.suspects.front_mut()
        } else {
            self.sent.front_mut()
        }
    }

    fn on_result(&mut self, result: Result<Vec<u8>, TemplateError>) -> Option<ProcessEnd> {
        let Some(task) = self.current() else {
            return Some(ProcessEnd::Lost);
        };
        let id = task.set_result(result);
        let done = task.is_done();
        if let Some(id) = id.filter(|_| self.is_quarantine || self.probing) {
            self.shared.breakers.on_success(id);
        }
        self.probe_kills = 0;
        self.complete_task(done);
        None
    }

    /// Removes a task that has all of its answers.
    fn complete_task(&mut self, done: bool) {
        let was_probing = std::mem::take(&mut self.probing);
        if !done {
            return;
        }
        let task = if was_probing {
            self.suspects.pop_front()
        } else {
            self.sent.pop_front()
        };
        if let Some(task) = task {
            if !was_probing {
                self.sent_bytes = self.sent_bytes.saturating_sub(task.record.len());
            }
            task.finish();
        }
    }

    /// Fails the evaluation that is answered next, and trips its template.
    fn attribute(&mut self, message: &str) {
        let Some(task) = self.current() else {
            return;
        };
        let id = task.set_result(Err(TemplateError::limit(message)));
        let done = task.is_done();
        if let Some(id) = id {
            tracing::warn!(template = ?id, message, "template was stopped");
            self.shared.breakers.trip(id, Instant::now());
            self.shared.count_trip();
        }
        self.probe_kills = 0;
        self.complete_task(done);
    }

    /// Handles the evaluations of a process that is no longer used.
    async fn on_process_end(&mut self, end: ProcessEnd) {
        let Some(process) = self.process.take() else {
            return;
        };
        let ready = process.ready;
        let killed = process.end().await;
        match end {
            ProcessEnd::Timeout => {
                let limit = self.shared.config.time_limit;
                self.attribute(&format!("the template took longer than {limit:?}"));
            }
            ProcessEnd::Goodbye => {}
            ProcessEnd::Lost | ProcessEnd::Hung if !ready => {
                self.failed_starts += 1;
                if self.failed_starts >= STARTS_MAX {
                    self.failed_starts = 0;
                    tracing::error!("template workers exit before they are ready");
                    self.paused_until = Some(Instant::now() + START_PAUSE);
                }
            }
            ProcessEnd::Lost | ProcessEnd::Hung if self.probing => {
                // It may have been killed from outside, not by its evaluation; that is assumed
                // once.
                self.probe_kills += 1;
                if end == ProcessEnd::Hung || !killed || self.probe_kills > 1 {
                    self.attribute("the template took too much memory, or ended its process");
                }
            }
            ProcessEnd::Lost | ProcessEnd::Hung => {
                self.sent_bytes = 0;
                self.suspects.append(&mut self.sent);
            }
        }
        self.probing = false;
        self.sent_bytes = 0;
        while let Some(task) = self.sent.pop_back() {
            self.waiting.push_front(task);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
