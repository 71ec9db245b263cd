//! Checks of this machine: directory, disk, clock, open files, certificates, token.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_listener::{LoadedTls, ReloadableTls};
use forebay_model::{Clock, Timestamp};
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

use super::DoctorFinding;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::disk_space::disk_space;
use crate::terminal::human_bytes;
use crate::{data_dir, token};

/// Syncs that are measured.
const SYNCS: usize = 20;
/// Above this median a record waits too long for its response.
const SYNC_MAX: Duration = Duration::from_millis(100);
/// Fewer open files are too few for a server with some connections.
const OPEN_FILES_MIN: u64 = 4096;
/// A certificate that expires sooner needs a renewal.
const RENEWAL: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A file this far in the future is more than a rounding.
const CLOCK_MAX: Duration = Duration::from_secs(5);

pub(super) async fn examine(config: &Config) -> Vec<DoctorFinding> {
    let dir = config.data_dir.clone();
    let mut findings = vec![directory(config)];
    findings.push(free_space(config));
    findings.push(match existing(&dir) {
        // A slow disk must not block the runtime.
        Some(at) => tokio::task::spawn_blocking(move || sync_time(&at))
            .await
            .unwrap_or_else(|e| DoctorFinding::skipped("fsync", e)),
        None => DoctorFinding::skipped("fsync", "no directory to measure in"),
    });
    let now = SystemClock.now();
    findings.push(clock_jump(&dir, now));
    findings.push(clock_service(Path::new("/run")));
    let mut limit = getrlimit(Resource::Nofile);
    // As a start does.
    limit.current = limit.maximum;
    findings.push(open_files(config, limit.current));
    findings
}

/// The directory itself, or the nearest one above it.
fn existing(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    let found = absolute.ancestors().find(|at| at.is_dir());
    found.map(Path::to_owned)
}

fn directory(config: &Config) -> DoctorFinding {
    const NAME: &str = "data directory";
    let dir = &config.data_dir;
    let shown = dir.display();
    let advice = "set another one with --data-dir, or change its owner and rights";
    if let Err(e) = data_dir::check_dir(dir, config.token_file.as_deref()) {
        return DoctorFinding::failed(NAME, e.message(), "set another one with --data-dir");
    }
    let Some(at) = existing(dir) else {
        return DoctorFinding::failed(NAME, format!("{shown} can't be created"), advice);
    };
    // Asks the file system: an access check does not know of a read-only mount.
    if let Err(e) = tempfile::Builder::new()
        .prefix(".forebay-doctor-")
        .tempfile_in(&at)
    {
        let at = at.display();
        return DoctorFinding::failed(NAME, format!("{at} can't be written: {e}"), advice);
    }
    if !dir.exists() {
        return DoctorFinding::ok(NAME, format!("{shown} will be created by the first start"));
    }
    let mode = std::fs::metadata(dir).map(|m| m.permissions().mode() & 0o777);
    match mode {
        Ok(mode) if mode & 0o022 != 0 => DoctorFinding::failed(
            NAME,
            format!("{shown} can be written by other users (mode {mode:03o})"),
            format!("chmod 700 {shown}"),
        ),
        Ok(mode) => DoctorFinding::ok(NAME, format!("{shown}, writable, mode {mode:03o}")),
        Err(e) => DoctorFinding::failed(NAME, format!("{shown}: {e}"), advice),
    }
}

fn free_space(config: &Config) -> DoctorFinding {
    const NAME: &str = "free space";
    let space = existing(&config.data_dir).and_then(|at| disk_space(&at));
    let Some(space) = space else {
        return DoctorFinding::skipped(NAME, "the file system does not say");
    };
    let min = config.log.min_free();
    let text = format!("{} of {}", human_bytes(space.free), human_bytes(space.size));
    if space.free < min {
        let min = human_bytes(min);
        return DoctorFinding::failed(
            NAME,
            text,
            format!(
                "records are rejected below {min} (log.minFreeBytes): free space, or use a larger volume"
            ),
        );
    }
    DoctorFinding::ok(NAME, text)
}

/// Time of small synced writes, as the log makes them.
fn sync_time(dir: &Path) -> DoctorFinding {
    const NAME: &str = "fsync";
    let measure = || -> std::io::Result<Vec<Duration>> {
        let mut file = tempfile::Builder::new()
            .prefix(".forebay-doctor-")
            .tempfile_in(dir)?;
        let block = [0x5a_u8; 4096];
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let start = Instant::now();
            file.write_all(&block)?;
            file.as_file().sync_data()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times)
    };
    match measure() {
        Ok(times) => sync_finding(&times),
        Err(e) => DoctorFinding::failed(NAME, e, "the directory must be writable"),
    }
}

fn sync_finding(sorted: &[Duration]) -> DoctorFinding {
    const NAME: &str = "fsync";
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let max = sorted.last().copied().unwrap_or_default();
    let millis = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
    let text = format!(
        "median {}, slowest {} of {} writes",
        millis(median),
        millis(max),
        sorted.len()
    );
    if median > SYNC_MAX {
        return DoctorFinding::failed(
            NAME,
            text,
            "each response waits for a sync: use a local SSD, not a network or a shared disk",
        );
    }
    DoctorFinding::ok(NAME, text)
}

/// Whether files of the directory are from the future: the clock was set back.
fn clock_jump(dir: &Path, now: Timestamp) -> DoctorFinding {
    const NAME: &str = "clock";
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let newest = entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|m| m.mtime() * 1000 + m.mtime_nsec() / 1_000_000)
        .max();
    let Some(newest) = newest else {
        return DoctorFinding::ok(NAME, now);
    };
    let newest = Timestamp::from_millis(newest);
    let ahead = newest.since(now);
    if newest > now && ahead > CLOCK_MAX {
        return DoctorFinding::failed(
            NAME,
            format!("{now} is before the newest file of the data directory ({newest})"),
            "the clock was set back: correct it, with NTP",
        );
    }
    DoctorFinding::ok(NAME, now)
}

/// Whether a time service runs, as far as files tell. `run` is `/run`.
fn clock_service(run: &Path) -> DoctorFinding {
    const NAME: &str = "time service";
    for (file, service) in [
        (
            "systemd/timesync/synchronized",
            "systemd-timesyncd has synchronized the clock",
        ),
        ("chrony/chronyd.pid", "chronyd runs"),
        ("chronyd.pid", "chronyd runs"),
        ("ntpd.pid", "ntpd runs"),
        ("ntp/ntpd.pid", "ntpd runs"),
    ] {
        if run.join(file).exists() {
            return DoctorFinding::ok(NAME, service);
        }
    }
    if run.join("systemd/timesync").exists() {
        return DoctorFinding::failed(
            NAME,
            "systemd-timesyncd has not synchronized the clock",
            "see `timedatectl timesync-status`",
        );
    }
    DoctorFinding::skipped(
        NAME,
        "none found on this machine; in a container the host has it",
    )
}

fn open_files(config: &Config, limit: Option<u64>) -> DoctorFinding {
    const NAME: &str = "open files";
    let Some(limit) = limit else {
        return DoctorFinding::ok(NAME, "no limit");
    };
    if limit < OPEN_FILES_MIN {
        return DoctorFinding::failed(
            NAME,
            format!("the limit is {limit}"),
            format!("raise it to {OPEN_FILES_MIN} or more (ulimit -n, LimitNOFILE=)"),
        );
    }
    let connections = config.source.http.max_connections + config.api.max_connections;
    let text = if limit < connections as u64 {
        format!("the limit is {limit}; connections are limited to fit in it")
    } else {
        format!("the limit is {limit}")
    };
    DoctorFinding::ok(NAME, text)
}

/// Certificates and tokens.
pub(super) fn secrets(config: &Config) -> Vec<DoctorFinding> {
    let mut findings = vec![token_finding(config)];
    let now = SystemClock.now();
    for (key, tls) in config.all_tls() {
        findings.push(match LoadedTls::read(tls) {
            Ok(loaded) => certificate(key, ReloadableTls::new(loaded).expires_at(), now),
            Err(e) => DoctorFinding::failed(
                key,
                e,
                "certFile must have the certificate and its chain, keyFile its key, both in PEM",
            ),
        });
    }
    findings
}

fn token_finding(config: &Config) -> DoctorFinding {
    const NAME: &str = "token";
    let file = match (&config.token, &config.token_file) {
        (Some(_), _) => None,
        (None, Some(file)) => Some(file.clone()),
        (None, None) => Some(config.default_token_file()),
    };
    if let Some(file) = &file
        && config.token_file.is_none()
        && !file.exists()
    {
        return DoctorFinding::ok(NAME, "will be created by the first start");
    }
    let read = token::reread(config).and_then(|t| token::authenticate(config, &t).map(drop));
    if let Err(e) = read {
        return DoctorFinding::failed(
            NAME,
            e.message(),
            "write a token of 16 characters or more into the file",
        );
    }
    let Some(file) = file else {
        return DoctorFinding::ok(NAME, "in the configuration");
    };
    let mode = std::fs::metadata(&file).map(|m| m.permissions().mode() & 0o777);
    let shown = file.display();
    match mode {
        Ok(mode) if mode & 0o004 != 0 => DoctorFinding::failed(
            NAME,
            format!("every user can read {shown} (mode {mode:03o})"),
            format!("chmod 600 {shown}"),
        ),
        _ => DoctorFinding::ok(NAME, shown),
    }
}

fn certificate(key: &str, expires_at: Option<u64>, now: Timestamp) -> DoctorFinding {
    let Some(at) = expires_at else {
        return DoctorFinding::skipped(key, "the certificate does not say when it expires");
    };
    let millis = i64::try_from(at).unwrap_or(i64::MAX / 1000) * 1000;
    let at = Timestamp::from_millis(millis);
    if at <= now {
        return DoctorFinding::failed(
            key,
            format!("the certificate expired at {at}"),
            "renew it and send SIGHUP",
        );
    }
    let left = at.since(now);
    let days = left.as_secs() / (24 * 60 * 60);
    let text = format!("the certificate expires at {at}, in {days} days");
    if left < RENEWAL {
        return DoctorFinding::failed(key, text, "renew it and send SIGHUP");
    }
    DoctorFinding::ok(key, text)
}

#[cfg(test)]
mod tests {
    use super::super::FindingState;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_slow_disk_is_found() {
        let times = |millis: u64| vec![Duration::from_millis(millis); SYNCS];
        assert_eq!(sync_finding(&times(2)).state, FindingState::Ok);
        let slow = sync_finding(&times(250));
        assert_eq!(slow.state, FindingState::Failed);
        assert!(slow.detail.contains("median 250.0 ms"), "{slow:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        let now = SystemClock.now();
        assert_eq!(clock_jump(dir.path(), now).state, FindingState::Ok);
        let back = clock_jump(dir.path(), at("2020-01-01T00:00:00.000Z"));
        assert_eq!(back.state, FindingState::Failed, "{back:?}");
    }

    #[test]
    fn the_time_service_is_found_by_its_files() {
        let run = tempfile::tempdir().unwrap();
        let state = || clock_service(run.path()).state;
        assert_eq!(state(), FindingState::Skipped);
        std::fs::create_dir_all(run.path().join("systemd/timesync")).unwrap();
        assert_eq!(state(), FindingState::Failed);
        std::fs::write(run.path().join("systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(state(), FindingState::Ok);
    }

    #[test]
    fn few_open_files_and_old_certificates_are_found() {
        let config = Config::default();
        assert_eq!(open_files(&config, Some(1024)).state, FindingState::Failed);
        assert_eq!(open_files(&config, Some(1 << 20)).state, FindingState::Ok);
        assert_eq!(open_files(&config, None).state, FindingState::Ok);
        let now = at("2026-01-01T00:00:00.000Z");
        let second = |t: Timestamp| u64::try_from(t.as_millis() / 1000).unwrap();
        for (expires, state) in [
            ("2025-12-31T00:00:00.000Z", FindingState::Failed),
            ("2026-01-10T00:00:00.000Z", FindingState::Failed),
            ("2026-03-01T00:00:00.000Z", FindingState::Ok),
        ] {
            let found = certificate("api.tls", Some(second(at(expires))), now);
            assert_eq!(found.state, state, "{found:?}");
        }
    }
}
