//! Reports the state of the server to systemd: `Type=notify` and `WatchdogSec=` of its unit.
//!
//! The protocol is one datagram of `KEY=VALUE` lines per report, sent to the Unix socket in
//! `NOTIFY_SOCKET`. Without that variable every report is a no-op. A failed report is a DEBUG line and
//! never a failure of the server: the service manager acts on missing reports by itself.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Environment;

/// Time that systemd allows for the removal of sockets and files after the grace period.
const STOP_MARGIN: Duration = Duration::from_secs(10);
/// Longest status line; causes can quote responses of other systems.
const STATUS_CHARS_MAX: usize = 400;

#[derive(Debug)]
pub(crate) struct ServiceManager(Option<Arc<NotifySocket>>);

#[derive(Debug)]
struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// Begins to report to the service manager that started this process, if it asks for reports. Call
    /// within a runtime.
    pub(crate) fn start(environment: &Environment) -> Self {
        let Some(name) = environment.get("NOTIFY_SOCKET") else {
            return Self(None);
        };
        let notify = match NotifySocket::open(&name) {
            Ok(notify) => Arc::new(notify),
            Err(error) => {
                tracing::warn!(socket = %name, %error, "can't report to the service manager");
                return Self(None);
            }
        };
        if let Some(period) = watchdog_period(environment) {
            tokio::spawn(report_liveness(Arc::clone(&notify), period / 2));
        }
        let manager = Self(Some(notify));
        manager.starting("opening the data directory");
        manager
    }

    /// The start is in progress, or waits for `status`.
    pub(crate) fn starting(&self, status: &str) {
        self.report(&[&status_line(status)]);
    }

    /// The start has ended.
    pub(crate) fn ready(&self, status: &str) {
        self.report(&["READY=1", &status_line(status)]);
    }

    /// Reports the begin and the end of `reload`; `status` is that of the server after it.
    pub(crate) fn during_reload(&self, status: &str, reload: impl FnOnce()) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1_000;
        let time = format!("MONOTONIC_USEC={microseconds}");
        self.report(&["RELOADING=1", &time, &status_line("reloading")]);
        reload();
        self.ready(status);
    }

    /// The stop begins and takes at most `grace`, so that `shutdown.grace` alone decides how long it may
    /// take.
    pub(crate) fn stopping(&self, grace: Duration) {
        let limit = (grace + STOP_MARGIN).as_micros();
        let timeout = format!("EXTEND_TIMEOUT_USEC={limit}");
        let status = status_line("finishing work in progress");
        self.report(&["STOPPING=1", &timeout, &status]);
    }

    fn report(&self, lines: &[&str]) {
        if let Some(notify) = &self.0 {
            notify.send(lines);
        }
    }
}

/// Reports from a task of the runtime: if no thread of the runtime runs tasks any more, the reports end
/// and systemd restarts the process. The runtime ends the task.
async fn report_liveness(notify: Arc<NotifySocket>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify.send(&["WATCHDOG=1"]);
    }
}

impl NotifySocket {
    /// `name` is an absolute path, or `@name` in the abstract namespace.
    fn open(name: &str) -> std::io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read must not stop the server.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    fn send(&self, lines: &[&str]) {
        let message = lines.join("\n");
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::debug!(%error, "can't report to the service manager");
        }
    }
}

/// The watchdog period that is meant for this process.
fn watchdog_period(environment: &Environment) -> Option<Duration> {
    if let Some(pid) = environment.get("WATCHDOG_PID")
        && pid != std::process::id().to_string()
    {
        return None;
    }
    let microseconds: u64 = environment.get("WATCHDOG_USEC")?.parse().ok()?;
    // Half of it is an interval, which can't be zero.
    (microseconds >= 2).then(|| Duration::from_micros(microseconds))
}

/// One line, whatever the text contains: a line break would begin another key.
fn status_line(status: &str) -> String {
    let line = status.chars().take(STATUS_CHARS_MAX);
    let line: String = line.map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("STATUS={line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_of_this_process_only() {
        let own = std::process::id().to_string();
        let period = |pid: &str, time: &str| {
            let environment = [("WATCHDOG_PID", pid), ("WATCHDOG_USEC", time)];
            watchdog_period(&Environment::from(environment))
        };
        assert_eq!(period(&own, "3000000"), Some(Duration::from_secs(3)));
        assert_eq!(period("", "3000000"), Some(Duration::from_secs(3)));
        assert_eq!(period("1", "3000000"), None);
        for invalid in ["", "0", "1", "-5", "3s"] {
            assert_eq!(period(&own, invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_status_is_one_line_of_limited_length() {
        assert_eq!(status_line("a\nREADY=1\0"), "STATUS=a READY=1 ");
        assert_eq!(status_line(&"é".repeat(1_000)).chars().count(), 407);
    }
}
