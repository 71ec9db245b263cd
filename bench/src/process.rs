//! A server as a child process: started, measured by kernel counters, killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

pub struct Server(Child);

impl Server {
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        Ok(Self(child))
    }

    /// CPU seconds of the process and its ended and living children.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        // A process that ended meanwhile has no counters.
        let all = family(self.0.id())?.into_iter();
        Ok(all.filter_map(cpu_seconds).sum())
    }

    /// Peak resident memory of the process, MB.
    pub fn peak_mb(&self) -> anyhow::Result<f64> {
        self.status_mb("VmHWM:")
    }

    /// Resident memory of the process now, MB.
    pub fn memory_mb(&self) -> anyhow::Result<f64> {
        self.status_mb("VmRSS:")
    }

    fn status_mb(&self, name: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .context("no such line")?;
        let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kb / 1024.0)
    }
}

/// Peak resident memory in MB and CPU seconds of a running process.
pub fn usage(pid: u32) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some((kb / 1024.0, cpu_seconds(pid)?))
}

/// CPU seconds of a process.
fn cpu_seconds(pid: u32) -> Option<f64> {
    // SAFETY: sysconf takes no pointer and changes nothing.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // utime and stime: fields 14 and 15 of proc(5), two of which are before the parenthesis.
    let time = |i: usize| fields.get(i)?.parse::<f64>().ok();
    Some((time(11)? + time(12)?) / ticks)
}

/// CPU seconds of this process.
pub fn own_cpu_seconds() -> f64 {
    // SAFETY: zeroes are a valid `rusage`, and the pointer is valid during the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A process and its direct children.
fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    for child in children.split_whitespace() {
        all.push(child.parse()?);
    }
    Ok(all)
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
