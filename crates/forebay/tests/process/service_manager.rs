//! Reports to a service manager: the protocol of `Type=notify` and `WatchdogSec=` of systemd.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use forebay_test_support::WAIT_MAX;

use crate::server::{Server, wait_for};

/// Role of systemd at the socket in `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next report that contains this line.
    fn wait(&self, line: &str) -> String {
        wait_for(line, || {
            let report = self.next();
            report.lines().any(|l| l == line).then_some(report)
        })
    }

    /// Discards what has arrived; returns the number of reports.
    fn drain(&self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let mut count = 0;
        loop {
            match self.0.recv(&mut [0; 4096]) {
                Ok(_) => count += 1,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        self.0.set_nonblocking(false).unwrap();
        count
    }
}

fn value<'a>(report: &'a str, key: &str) -> &'a str {
    let line = report.lines().find_map(|l| l.strip_prefix(key));
    line.unwrap_or_else(|| panic!("{key} in {report:?}"))
}

/// Starts a server below a manager.
fn start(data: &std::path::Path, variables: &[(&str, &str)]) -> Server {
    let with_variables = |command: &Command| {
        let mut with = crate::server::forebay();
        with.args(command.get_args());
        with.envs(variables.iter().copied());
        with
    };
    Server::start_by(with_variables, data)
}

#[test]
fn start_reload_and_stop_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
    let data = dir.path().join("data");
    let server = start(&data, &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let started = manager.next();
    assert!(started.starts_with("STATUS="), "{started}");
    let ready = manager.wait("READY=1");
    let address = server.source.to_string();
    assert!(value(&ready, "STATUS=").contains(&address), "{ready}");

    server.signal("HUP");
    let reloading = manager.wait("RELOADING=1");
    let begun: u128 = value(&reloading, "MONOTONIC_USEC=").parse().unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), 0).as_micros() + 1_000_000;
    assert!(begun > 0 && begun <= now, "{begun} at {now}");
    assert!(manager.next().starts_with("READY=1"));

    // Without WATCHDOG_USEC there are no other reports.
    assert_eq!(manager.drain(), 0);
    server.signal("TERM");
    let stopping = manager.wait("STOPPING=1");
    // The default of `shutdown.grace`, and what a stop needs beyond it.
    let limit: u64 = value(&stopping, "EXTEND_TIMEOUT_USEC=").parse().unwrap();
    assert_eq!(limit, 40_000_000);
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
}

#[test]
fn the_watchdog_reports_while_the_process_runs() {
    let dir = tempfile::tempdir().unwrap();
    // An abstract socket, as of containers.
    let name = format!("forebay-test-{}", std::process::id());
    let manager = Manager::at(&SocketAddr::from_abstract_name(&name).unwrap());
    let socket = format!("@{name}");
    let variables = [
        ("NOTIFY_SOCKET", socket.as_str()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let server = start(&dir.path().join("data"), &variables);
    manager.drain();
    let begin = Instant::now();
    for _ in 0..5 {
        manager.wait("WATCHDOG=1");
    }
    assert!(begin.elapsed() >= Duration::from_millis(300));
    // A process that does not run reports nothing.
    server.signal("STOP");
    wait_for("the stop of the process", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
        stat.contains(") T ").then_some(())
    });
    manager.drain();
    manager
        .0
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    let silent = manager.0.recv(&mut [0; 4096]).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);
    manager.0.set_read_timeout(Some(WAIT_MAX)).unwrap();
    server.signal("CONT");
    manager.wait("WATCHDOG=1");
}

#[test]
fn a_service_manager_that_is_gone_or_does_not_read_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).unwrap());
    let socket = path.to_str().unwrap();
    // Reports fill the queue of the socket, which nobody reads.
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "2000")];
    let server = start(&dir.path().join("data"), &variables);
    let source = server.define();
    server.post(&source, r#"{"n": 1}"#);
    drop(manager);
    std::fs::remove_file(&path).unwrap();
    server.post(&source, r#"{"n": 2}"#);
    server.signal("HUP");
    server.logged("INFO", "configuration");
    server.signal("TERM");
    let (status, log) = server.end();
    assert!(status.success(), "{log}");

    let server = start(
        &dir.path().join("data"),
        &[("NOTIFY_SOCKET", "vsock:2:1234")],
    );
    server.post(&source, r#"{"n": 3}"#);
}
