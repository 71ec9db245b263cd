//! Activity of a connection, so that idle and slow clients are disconnected without a timer per
//! request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, Sleep, sleep};

/// How long the server reads and discards input after the last response of a connection: unread
/// input would cause a reset, which might lose the response.
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Reads, of some KB each, before other connections are scheduled. The library reads as long as
/// there is input, and a read of small HTTP/2 frames can mean a thousand of them.
const READS_AT_ONCE: u32 = 2;

/// Maximum duration of each state of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionTimeouts {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

/// State of a connection. Times are milliseconds since it was opened, plus one: zero is never.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    requests: AtomicU32,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// HTTP/2 sends frames without a request too.
    is_http2: AtomicBool,
    /// The last response ends the connection, whatever the client still sends.
    lingers: AtomicBool,
    /// Creation time of each unread response.
    responses: Mutex<BTreeMap<u64, Instant>>,
    last_response: AtomicU64,
}

impl ConnectionActivity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            requests: AtomicU32::new(0),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            is_http2: AtomicBool::new(false),
            lingers: AtomicBool::new(false),
            responses: Mutex::default(),
            last_response: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn on_bytes(&self) {
        if self.requests.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// Starts a request, whose headers are complete; dropping the guard ends it.
    pub(super) fn begin_request(self: &Arc<Self>, is_http2: bool) -> RequestGuard {
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        if is_http2 {
            self.is_http2.store(true, Relaxed);
        }
        RequestGuard(Arc::clone(self))
    }

    /// Part of a response of unknown length is about to be sent: the connection is not idle.
    pub(super) fn on_streaming(&self) {
        self.idle_since.store(self.now(), Relaxed);
    }

    fn responses(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.responses.lock()
    }

    /// Tracks a response until its client has read it and the guard is dropped.
    pub(super) fn track_response(self: &Arc<Self>) -> Arc<UnreadResponse> {
        let number = self.last_response.fetch_add(1, Relaxed);
        self.responses().insert(number, Instant::now());
        Arc::new(UnreadResponse {
            activity: Arc::clone(self),
            number,
        })
    }

    /// Creation time of the oldest unread response.
    pub(super) fn oldest_response(&self) -> Option<Instant> {
        self.responses().first_key_value().map(|(_, since)| *since)
    }

    /// Whether a response has been unread for this long.
    pub(super) fn has_waited_for(&self, long: Duration) -> bool {
        self.oldest_response()
            .is_some_and(|since| since.elapsed() >= long)
    }

    /// Marks the next response as the connection's last.
    pub(super) fn set_lingering(&self) {
        self.lingers.store(true, Relaxed);
    }

    /// Time of the next check, or `None` when a timeout has expired.
    pub(super) fn next_check(&self, timeouts: ConnectionTimeouts) -> Option<Instant> {
        let oldest = self.oldest_response();
        let unread = oldest.map(|since| since + timeouts.write);
        if unread.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
        let next = self.request_deadline(timeouts, oldest.is_some())?;
        Some(unread.map_or(next, |deadline| deadline.min(next)))
    }

    fn request_deadline(&self, timeouts: ConnectionTimeouts, is_reading: bool) -> Option<Instant> {
        let at = |millis: u64| self.opened + Duration::from_millis(millis.saturating_sub(1));
        let head = self.head_since.load(Relaxed);
        let deadline = if self.requests.load(Relaxed) > 0 || is_reading {
            return Some(Instant::now() + timeouts.head.min(timeouts.idle));
        } else if head > 0 && !self.is_http2.load(Relaxed) {
            at(head) + timeouts.head
        } else {
            at(self.idle_since.load(Relaxed)) + timeouts.idle
        };
        if deadline <= Instant::now() {
            return None;
        }
        // A head may begin at any time, and its timeout is the shorter one.
        Some(deadline.min(Instant::now() + timeouts.head))
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionActivity>);

impl RequestGuard {
    pub(super) fn activity(&self) -> &Arc<ConnectionActivity> {
        &self.0
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let now = self.0.now();
        self.0.idle_since.store(now, Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct UnreadResponse {
    activity: Arc<ConnectionActivity>,
    number: u64,
}

impl Drop for UnreadResponse {
    fn drop(&mut self) {
        let now = self.activity.now();
        self.activity.idle_since.store(now, Relaxed);
        self.activity.responses().remove(&self.number);
    }
}

/// A stream that records received bytes, and closes in stages (RFC 9112, 9.6).
#[derive(Debug)]
pub(super) struct WatchedStream<S> {
    inner: S,
    activity: Arc<ConnectionActivity>,
    /// Reads since the last pending or yielded read.
    reads: u32,
    /// Set once the server's side is closed: the end of the linger time.
    closed_until: Option<Pin<Box<Sleep>>>,
}

impl<S> WatchedStream<S> {
    pub(super) fn new(inner: S, activity: Arc<ConnectionActivity>) -> Self {
        Self {
            inner,
            activity,
            reads: 0,
            closed_until: None,
        }
    }
}

impl<S: Read + Unpin> WatchedStream<S> {
    /// Discards input until the client has closed its side or the linger time is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self
            .closed_until
            .get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 8 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, buffer.unfilled())) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Closed or failed.
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: Read + Unpin> Read for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.reads >= READS_AT_ONCE {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        match polled {
            Poll::Ready(Ok(())) => {
                self.reads += 1;
                self.activity.on_bytes();
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.reads = 0,
        }
        polled
    }
}

impl<S: Read + Write + Unpin> Write for WatchedStream<S> {
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
        if self.closed_until.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        if self.activity.lingers.load(Relaxed) && !self.activity.is_http2.load(Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
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

    const TIMEOUTS: ConnectionTimeouts = ConnectionTimeouts {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        write: Duration::from_secs(60),
    };

    /// A stream that always has input.
    struct Endless;

    impl Read for Endless {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<std::io::Result<()>> {
            buf.put_slice(b"frame");
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn endless_input_yields_to_other_connections() {
        let mut watched = WatchedStream::new(Endless, ConnectionActivity::new());
        let (mut reads, mut polls) = (0, 0);
        std::future::poll_fn(|cx| {
            polls += 1;
            for _ in 0..1000 {
                let mut bytes = [0; 64];
                let mut buffer = ReadBuf::new(&mut bytes);
                if Pin::new(&mut watched)
                    .poll_read(cx, buffer.unfilled())
                    .is_pending()
                {
                    // The stream must wake itself.
                    return Poll::Pending;
                }
                reads += 1;
                if reads == 80 {
                    return Poll::Ready(());
                }
            }
            panic!("the stream never yielded");
        })
        .await;
        assert_eq!(polls, 80 / READS_AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_and_slow_heads_time_out_but_requests_do_not() {
        let activity = ConnectionActivity::new();
        let pass = |secs| tokio::time::advance(Duration::from_secs(secs));
        pass(29).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
        activity.on_bytes();
        pass(9).await;
        activity.on_bytes();
        assert!(activity.next_check(TIMEOUTS).is_some());
        pass(1).await;
        assert!(activity.next_check(TIMEOUTS).is_none());
        let request = activity.begin_request(false);
        pass(100).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
        drop(request);
        pass(29).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
        pass(1).await;
        assert!(activity.next_check(TIMEOUTS).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_reading_a_response_is_not_idle_but_must_finish() {
        let activity = ConnectionActivity::new();
        drop(activity.begin_request(false));
        let pass = |secs| tokio::time::advance(Duration::from_secs(secs));
        let (first, second) = (activity.track_response(), activity.track_response());
        pass(59).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
        drop(first);
        // The second response is as old: reading the first one does not extend its time.
        pass(1).await;
        assert!(activity.next_check(TIMEOUTS).is_none());
        drop(second);
        pass(29).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
        pass(1).await;
        assert!(activity.next_check(TIMEOUTS).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_of_http2_are_no_slow_head() {
        let activity = ConnectionActivity::new();
        drop(activity.begin_request(true));
        activity.on_bytes();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(activity.next_check(TIMEOUTS).is_some());
    }
}
