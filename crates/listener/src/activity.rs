//! What a connection is doing, so that idle and dawdling clients are cut off without a timer for
//! each request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::Instant;

/// How long each state of a connection may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// What a connection is doing. Times are milliseconds since it was opened, plus one: zero is never.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    requests: AtomicU32,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// Frames of HTTP/2 come in without a request too.
    is_http2: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            is_http2: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came in.
    fn bytes(&self) {
        if self.requests.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// A request's headers are complete; its end is when the guard is dropped.
    pub(super) fn request(self: &Arc<Self>, is_http2: bool) -> InRequest {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        if is_http2 {
            self.is_http2.store(true, Relaxed);
        }
        InRequest(Arc::clone(self))
    }

    /// When to look again, or `None` when the client's time is up.
    pub(super) fn next_look(&self, patience: Patience) -> Option<Instant> {
        let at = |millis: u64| self.opened + Duration::from_millis(millis.saturating_sub(1));
        let head = self.head_since.load(Relaxed);
        let deadline = if self.requests.load(Relaxed) > 0 {
            return Some(Instant::now() + patience.head.min(patience.idle));
        } else if head > 0 && !self.is_http2.load(Relaxed) {
            at(head) + patience.head
        } else {
            at(self.idle_since.load(Relaxed)) + patience.idle
        };
        if deadline <= Instant::now() {
            return None;
        }
        // A head may begin at any time, and its patience is the shorter one.
        Some(deadline.min(Instant::now() + patience.head))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct InRequest(Arc<Activity>);

impl Drop for InRequest {
    fn drop(&mut self) {
        let now = self.0.now();
        self.0.idle_since.store(now, Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// A connection that notes when bytes come in.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity }
    }
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.activity.bytes();
        }
        polled
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn idle_connections_and_slow_heads_run_out_of_time_but_requests_do_not() {
        let activity = Activity::new();
        let pass = |secs| tokio::time::advance(Duration::from_secs(secs));
        pass(29).await;
        assert!(activity.next_look(PATIENCE).is_some());
        activity.bytes();
        pass(9).await;
        activity.bytes();
        assert!(activity.next_look(PATIENCE).is_some());
        pass(1).await;
        assert!(activity.next_look(PATIENCE).is_none());
        let request = activity.request(false);
        pass(100).await;
        assert!(activity.next_look(PATIENCE).is_some());
        drop(request);
        pass(29).await;
        assert!(activity.next_look(PATIENCE).is_some());
        pass(1).await;
        assert!(activity.next_look(PATIENCE).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_of_http2_are_no_slow_head() {
        let activity = Activity::new();
        drop(activity.request(true));
        activity.bytes();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(activity.next_look(PATIENCE).is_some());
    }
}
