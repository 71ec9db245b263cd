//! A worker process as its parent manages it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use forebay_record::{TemplateId, TemplateProgram};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;

use super::config::PoolConfig;
use super::frame::{self, MalformedFrame};

/// Command of a process that runs [`super::worker_main`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Environment variables; the process gets no others, so that no secrets are exposed to
    /// templates.
    pub env: Vec<(OsString, OsString)>,
}

impl WorkerCommand {
    /// The running binary itself, with the hidden subcommand. On Linux this is the very file that
    /// runs, even if it was replaced since.
    pub fn this_binary() -> io::Result<Self> {
        let own = PathBuf::from("/proc/self/exe");
        Ok(Self {
            program: if own.exists() {
                own
            } else {
                std::env::current_exe()?
            },
            args: vec![super::WORKER_SUBCOMMAND.into()],
            env: Vec::new(),
        })
    }
}

/// Result of [`WorkerProcess::exchange`].
pub(super) enum ProcessEvent {
    /// Bytes were written, or the process reads no more.
    Wrote,
    Read(io::Result<usize>),
}

pub(super) struct WorkerProcess {
    child: Child,
    /// `None` when the process reads no more.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    consumed: usize,
    /// Programs that it was sent.
    sent_programs: HashSet<TemplateId>,
    /// Whether it has sent hello.
    pub(super) ready: bool,
    /// When it last sent something, or was sent work while it had none.
    pub(super) last_received: Instant,
}

impl WorkerProcess {
    pub(super) fn start(
        command: &WorkerCommand,
        config: &PoolConfig,
        now: Instant,
    ) -> io::Result<Self> {
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            // One heap for all threads: others reserve address space, which is limited.
            .env("MALLOC_ARENA_MAX", "1")
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a worker without pipes");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut to_write = Vec::new();
        frame::WorkerLimits {
            version: frame::VERSION,
            time_ms: u64::try_from(config.time_limit.as_millis()).unwrap_or(u64::MAX),
            memory: config.memory_limit.0,
        }
        .write(&mut to_write);
        Ok(Self {
            child,
            stdin: Some(stdin),
            stdout,
            to_write,
            written: 0,
            read: Vec::new(),
            consumed: 0,
            sent_programs: HashSet::new(),
            ready: false,
            last_received: now,
        })
    }

    /// Queues an evaluation of these templates.
    pub(super) fn send<'a>(
        &mut self,
        templates: impl Iterator<Item = &'a Arc<TemplateProgram>> + Clone,
        record: &[u8],
    ) {
        for template in templates.clone() {
            if self.sent_programs.insert(template.id()) {
                frame::write_define(template, &mut self.to_write);
            }
        }
        frame::write_record(templates, record, &mut self.to_write);
    }

    /// Writes or reads once. Cancel-safe.
    pub(super) async fn exchange(&mut self) -> ProcessEvent {
        if self.consumed > 0 {
            self.read.drain(..self.consumed);
            self.consumed = 0;
        }
        self.read.reserve(16 << 10);
        let to_write = &self.to_write[self.written..];
        let wrote = match &mut self.stdin {
            Some(stdin) if !to_write.is_empty() => {
                tokio::select! {
                    wrote = stdin.write(to_write) => wrote,
                    read = self.stdout.read_buf(&mut self.read) => return ProcessEvent::Read(read),
                }
            }
            _ => return ProcessEvent::Read(self.stdout.read_buf(&mut self.read).await),
        };
        match wrote {
            Ok(n) if n > 0 => {
                self.written += n;
                if self.written == self.to_write.len() {
                    self.to_write.clear();
                    self.written = 0;
                }
                ProcessEvent::Wrote
            }
            _ => {
                self.stdin = None;
                ProcessEvent::Wrote
            }
        }
    }

    /// Returns the next complete frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<(u8, &[u8])>, MalformedFrame> {
        let Some(frame) = frame::next(&self.read[self.consumed..])? else {
            return Ok(None);
        };
        self.consumed += frame.len;
        Ok(Some((frame.kind, frame.payload)))
    }

    /// Ends the process if it has not ended, and returns whether it was killed from outside.
    pub(super) async fn end(mut self) -> bool {
        const SIGKILL: i32 = 9;
        // A process whose pipe has closed is ending; it gets a moment for that.
        let grace = std::time::Duration::from_millis(200);
        let status = match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                drop(self.child.kill().await);
                return false;
            }
        };
        status.is_ok_and(|s| s.signal() == Some(SIGKILL))
    }
}
