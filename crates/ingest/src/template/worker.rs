//! The child process: evaluates templates, one at a time, until its parent has ended.
//!
//! Two threads. One evaluates. The other, the watchdog, ends the process when an evaluation exceeds
//! its time, and when the parent has closed the pipe: an evaluator deep in an endless program could
//! do neither. Memory is bounded by the kernel: an allocation over the limit fails, which aborts
//! the process, and the pool knows what was being evaluated.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use forebay_record::jsonnet::{
    COMPILE_STACK, CompiledTemplate, TemplateDiagnostic, TemplateEngine, with_engine,
};
use forebay_record::{RecordContext, TemplateError, TemplateId, TemplateProgram};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::frame::{self, MalformedFrame};

/// Answers that may collect before they are sent, in bytes and in nanoseconds.
const FLUSH_BYTES: usize = 32 << 10;
const FLUSH_NANOS: u64 = 1_000_000;

/// Evaluations between two checks of the memory.
const MEMORY_EVERY: u32 = 64;

/// Programs that a worker holds; above that, it asks to be replaced.
const PROGRAMS_MAX: usize = 10_000;

/// State shared by evaluator and watchdog. The lock also guards the output.
struct EvaluatorState {
    /// Answers that have not been sent.
    out: Vec<u8>,
    stdout: File,
    /// Number of the evaluation that is running or was the last one.
    evaluation: u64,
    running: bool,
}

type SharedEvaluatorState = Arc<Mutex<EvaluatorState>>;

impl EvaluatorState {
    fn flush(&mut self) -> std::io::Result<()> {
        if !self.out.is_empty() {
            self.stdout.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Runs a worker on standard input and output, for the hidden subcommand
/// [`super::WORKER_SUBCOMMAND`]. Returns when the parent closes the pipe.
pub fn worker_main() -> ExitCode {
    let evaluator = std::thread::Builder::new()
        .name("template-worker".to_owned())
        .stack_size(COMPILE_STACK)
        .spawn(|| run().is_ok());
    match evaluator.map(std::thread::JoinHandle::join) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run() -> std::io::Result<()> {
    let mut input = FrameReader {
        stdin: File::from(std::io::stdin().as_fd().try_clone_to_owned()?),
        buffer: Vec::new(),
        pos: 0,
    };
    let stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let limits = loop {
        if let Some((frame::CONFIG, payload)) = input.next()? {
            break frame::WorkerLimits::read(payload).map_err(std::io::Error::other)?;
        }
        if !input.fill()? {
            return Ok(());
        }
    };
    let shared = Arc::new(Mutex::new(EvaluatorState {
        out: Vec::new(),
        stdout,
        evaluation: 0,
        running: false,
    }));
    start_watchdog(&shared, limits.time_ms)?;
    with_engine(|engine| {
        // The engine's own memory does not count for the templates.
        let memory = ProcessMemory::limit(limits.memory)?;
        frame::write(frame::HELLO, &mut shared.lock().out, |out| {
            out.extend_from_slice(&frame::VERSION.to_le_bytes());
        });
        let mut worker = TemplateWorker {
            engine,
            shared,
            programs: HashMap::new(),
            memory,
            since_check: 0,
            flushed_at: 0,
        };
        worker.serve(&mut input)
    })
}

/// Reads frames from the parent.
struct FrameReader {
    stdin: File,
    buffer: Vec<u8>,
    pos: usize,
}

impl FrameReader {
    /// Returns the next complete frame.
    fn next(&mut self) -> std::io::Result<Option<(u8, &[u8])>> {
        let frame = frame::next(&self.buffer[self.pos..]).map_err(std::io::Error::other)?;
        let Some(frame) = frame else {
            return Ok(None);
        };
        self.pos += frame.len;
        Ok(Some((frame.kind, frame.payload)))
    }

    /// Waits for more; `false` when the parent has closed the pipe.
    fn fill(&mut self) -> std::io::Result<bool> {
        self.buffer.drain(..self.pos);
        self.pos = 0;
        let start = self.buffer.len();
        self.buffer.resize(start + (64 << 10), 0);
        let n = loop {
            match self.stdin.read(&mut self.buffer[start..]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.buffer.truncate(start + n);
        Ok(n > 0)
    }
}

struct TemplateWorker<'e, 'p> {
    engine: &'e mut TemplateEngine<'p>,
    shared: SharedEvaluatorState,
    programs: HashMap<TemplateId, Result<CompiledTemplate<'p>, TemplateDiagnostic>>,
    memory: ProcessMemory,
    since_check: u32,
    flushed_at: u64,
}

impl TemplateWorker<'_, '_> {
    fn serve(&mut self, input: &mut FrameReader) -> std::io::Result<()> {
        loop {
            match input.next()? {
                Some((frame::DEFINE, payload)) => {
                    let (id, template) =
                        frame::read_define(payload).map_err(std::io::Error::other)?;
                    self.define(id, &template);
                }
                Some((frame::RECORD, payload)) => {
                    if !self.evaluate_record(payload)? {
                        return Ok(());
                    }
                }
                Some(_) => return Err(std::io::Error::other(MalformedFrame)),
                None => {
                    self.flush()?;
                    if !input.fill()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn define(&mut self, id: TemplateId, template: &TemplateProgram) {
        let program = self
            .engine
            .compile(template.source(), template.raw_string());
        self.programs.insert(id, program);
    }

    /// Evaluates the templates of one record; `false` when the worker is to be replaced.
    fn evaluate_record(&mut self, payload: &[u8]) -> std::io::Result<bool> {
        let (templates, record) = frame::read_record(payload).map_err(std::io::Error::other)?;
        for id in templates {
            self.evaluate(id, &record)?;
            self.since_check += 1;
        }
        if self.since_check >= MEMORY_EVERY {
            self.since_check = 0;
            if self.memory.is_high()? || self.programs.len() > PROGRAMS_MAX {
                frame::write(frame::GOODBYE, &mut self.shared.lock().out, |_| {});
                self.flush()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn evaluate(&mut self, id: TemplateId, record: &RecordContext) -> std::io::Result<()> {
        let now = monotonic_nanos();
        {
            let mut state = self.shared.lock();
            // Finished answers must not wait behind a slow evaluation.
            let old = now.saturating_sub(self.flushed_at) > FLUSH_NANOS;
            if state.out.len() > FLUSH_BYTES || (old && !state.out.is_empty()) {
                state.flush()?;
                self.flushed_at = now;
            }
            state.evaluation += 1;
            state.running = true;
        }
        let result = match self.programs.get(&id) {
            Some(Ok(program)) => self.engine.evaluate(program, record),
            Some(Err(problem)) => Err(TemplateError::program(problem.to_string())),
            None => Err(TemplateError::unavailable(
                "the worker has lost the template",
            )),
        };
        let mut state = self.shared.lock();
        state.running = false;
        frame::write_result(&result, &mut state.out);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.flushed_at = monotonic_nanos();
        self.shared.lock().flush()
    }
}

fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn monotonic_nanos() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Starts the watchdog. It measures the process's CPU time, so that a busy machine does not count
/// against a template.
fn start_watchdog(shared: &SharedEvaluatorState, limit_ms: u64) -> std::io::Result<()> {
    let shared = Arc::clone(shared);
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let tick_ms = i64::try_from((limit_ms / 8).clamp(5, 250)).unwrap_or(250);
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: tick_ms * 1_000_000,
    };
    std::thread::Builder::new()
        .name("template-watchdog".to_owned())
        .stack_size(256 << 10)
        .spawn(move || {
            let (mut seen, mut since) = (0, 0);
            loop {
                // No events requested: the closed pipe is reported all the same.
                let mut fds = [PollFd::new(&stdin, PollFlags::empty())];
                match poll(&mut fds, Some(&tick)) {
                    Ok(0) | Err(rustix::io::Errno::INTR) => {}
                    // A watchdog that can't wait would only spin.
                    Ok(_) | Err(_) => end(),
                }
                let cpu = nanos(clock_gettime(ClockId::ProcessCPUTime));
                let mut state = shared.lock();
                if !state.running || state.evaluation != seen {
                    (seen, since) = (state.evaluation, cpu);
                } else if cpu.saturating_sub(since) >= limit_ms * 1_000_000 {
                    frame::write(frame::TIMEOUT, &mut state.out, |_| {});
                    // A parent that can't be told finds out by itself.
                    drop(state.flush());
                    end();
                }
            }
        })?;
    Ok(())
}

/// Ends the process at once: the evaluator can't be interrupted.
#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "the evaluator is inside a library call that may never return"
)]
fn end() -> ! {
    std::process::exit(0)
}

/// Memory of the process: a limit that the kernel enforces, and one at which the worker asks to be
/// replaced.
struct ProcessMemory {
    statm: Option<File>,
    high: u64,
}

impl ProcessMemory {
    /// Forbids what a worker does not need, and more than `limit` bytes in addition to what it has
    /// now.
    fn limit(limit: u64) -> std::io::Result<Self> {
        // A process that is known to grow should be killed first when memory is short.
        drop(std::fs::write("/proc/self/oom_score_adj", "1000"));
        let mut memory = Self {
            statm: File::open("/proc/self/statm").ok(),
            high: u64::MAX,
        };
        let now = memory.pages()?;
        if let Some((size, resident)) = now {
            set(Resource::As, size.saturating_add(limit))?;
            memory.high = resident.saturating_add(limit / 2);
        } else {
            set(Resource::Data, limit)?;
        }
        set(Resource::Core, 0)?;
        set(Resource::Fsize, 0)?;
        // Nothing is opened from here on, no file and no socket: number 0 is in use, and there is
        // no other. Less than 1 would forbid the watchdog's poll, too.
        set(Resource::Nofile, 1)?;
        Ok(memory)
    }

    /// Address space and resident memory, in bytes; `None` if the system does not report them.
    fn pages(&mut self) -> std::io::Result<Option<(u64, u64)>> {
        let Some(statm) = &mut self.statm else {
            return Ok(None);
        };
        let mut text = [0; 128];
        statm.rewind()?;
        let n = statm.read(&mut text)?;
        let text = String::from_utf8_lossy(&text[..n]).into_owned();
        let page = rustix::param::page_size() as u64;
        let mut numbers = text.split(' ').map_while(|n| n.parse::<u64>().ok());
        let pair = numbers.next().zip(numbers.next());
        Ok(pair.map(|(size, resident)| (size * page, resident * page)))
    }

    fn is_high(&mut self) -> std::io::Result<bool> {
        let high = self.high;
        Ok(self.pages()?.is_some_and(|(_, resident)| resident > high))
    }
}

fn set(resource: Resource, limit: u64) -> std::io::Result<()> {
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    Ok(setrlimit(resource, limit)?)
}
