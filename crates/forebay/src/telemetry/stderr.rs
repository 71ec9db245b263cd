//! Queue of log lines for standard error: bounded, with one writer thread.
//!
//! Standard error may be full, closed, or an unread pipe. None of that may block the process: lines are
//! queued without waiting, only the thread waits for the reader, and lines that don't fit or can't be
//! written are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Maximum bytes in the queue: one line can be as long as the text of a record.
const BYTES_MAX: usize = 4 << 20;
const LINES_MAX: usize = 4096;
/// How long the end of the process waits for queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writer of the subscriber. Never blocks, never fails.
#[derive(Clone, Debug, Default)]
pub(super) struct LineQueue(Arc<LineQueueInner>);

#[derive(Debug, Default)]
struct LineQueueInner {
    /// Never locked during a write.
    queued: Mutex<QueuedLines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueuedLines {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
    dropped: u64,
}

impl QueuedLines {
    fn drop_line(&mut self) {
        self.dropped += 1;
        metrics::counter!(crate::monitoring::LINES_DROPPED).increment(1);
    }

    fn is_busy(&mut self) -> bool {
        self.is_writing || !self.lines.is_empty()
    }
}

/// Waits up to a second on drop for the queued lines.
#[derive(Debug)]
#[must_use = "lines that are still queued are lost when the process ends without it"]
pub(crate) struct FlushGuard(LineQueue);

/// A queue in front of `output`, and its flush guard.
pub(super) fn queue(output: impl Write + Send + 'static) -> io::Result<(LineQueue, FlushGuard)> {
    let queue = LineQueue::default();
    let written = queue.clone();
    // Never joined: it may block on a reader forever.
    std::thread::Builder::new()
        .name("log-lines".to_owned())
        .spawn(move || written.write_lines(output))?;
    Ok((queue.clone(), FlushGuard(queue)))
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        self.0.queued.lock()
    }

    fn push(&self, line: &[u8]) {
        let mut queued = self.lock();
        let bytes = queued.bytes + line.len();
        if bytes > BYTES_MAX || queued.lines.len() >= LINES_MAX {
            queued.drop_line();
            return;
        }
        queued.bytes = bytes;
        queued.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    fn write_lines(&self, mut output: impl Write) {
        loop {
            let mut queued = self.lock();
            queued.is_writing = false;
            self.0.changed.notify_all();
            let changed = &self.0.changed;
            changed.wait_while(&mut queued, |q| q.lines.is_empty());
            let Some(line) = queued.lines.pop_front() else {
                continue;
            };
            queued.bytes -= line.len();
            queued.is_writing = true;
            drop(queued);
            if output.write_all(&line).is_err() {
                self.lock().drop_line();
            }
        }
    }
}

impl Write for LineQueue {
    /// Appends one line per call, as the subscriber writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LineQueue {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl FlushGuard {
    /// Waits up to a second for the queued lines.
    pub(crate) fn flush(&self) {
        let queue = &self.0;
        let changed = &queue.0.changed;
        changed.wait_while_for(&mut queue.lock(), QueuedLines::is_busy, FLUSH_TIMEOUT);
    }
}

impl Drop for FlushGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// Blocks writes until opened.
    struct Gated {
        open: Receiver<()>,
        is_open: bool,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_open {
                self.is_open = self.open.recv().is_ok();
            }
            self.taken.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_only_loses_lines() {
        let (allow, open) = sync_channel(1);
        let taken = Arc::<Mutex<Vec<u8>>>::default();
        let output = Gated {
            open,
            is_open: false,
            taken: Arc::clone(&taken),
        };
        let (queue, guard) = queue(output).unwrap();
        let line = |i: usize| format!("{i}\n").into_bytes();
        // The writer takes the first line, which makes room, before the others come.
        queue.push(&line(0));
        while !queue.lock().is_writing {
            std::thread::yield_now();
        }
        // Twice as many lines as fit; none blocks.
        (1..2 * LINES_MAX).for_each(|i| queue.push(&line(i)));
        let dropped = queue.lock().dropped;
        assert_eq!(dropped, LINES_MAX as u64 - 1);
        allow.send(()).unwrap();
        // One flush waits a second, which is short for a busy machine.
        let flush = || {
            let mut flushes = (0..60).map(|_| guard.flush());
            flushes.any(|()| !queue.lock().is_busy())
        };
        assert!(flush());
        let written = || {
            let text = String::from_utf8(taken.lock().clone()).unwrap();
            text.lines()
                .map(|l| l.parse().unwrap())
                .collect::<Vec<usize>>()
        };
        let kept = 2 * LINES_MAX - usize::try_from(dropped).unwrap();
        assert_eq!(written(), (0..kept).collect::<Vec<_>>());
        queue.push(&vec![b'x'; BYTES_MAX + 1]);
        assert_eq!(queue.lock().dropped, dropped + 1, "a line above the bound");
        queue.push(&line(7));
        assert!(flush());
        assert_eq!((written().len(), written().last()), (kept + 1, Some(&7)));
    }

    #[test]
    fn lines_lost_to_a_closed_reader_are_counted() {
        let (queue, guard) = queue(Broken).unwrap();
        queue.push(b"lost\n");
        guard.flush();
        assert_eq!(queue.lock().dropped, 1);
    }
}
