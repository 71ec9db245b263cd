//! Checks of the ports of the listeners.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::DoctorFinding;
use crate::config::{Config, NodeRole};
use crate::endpoints::Endpoints;

pub(super) fn examine(config: &Config) -> Vec<DoctorFinding> {
    let listeners = [
        (
            "source.http.listen",
            Some(config.source.http.listen).filter(|_| config.has(NodeRole::Source)),
        ),
        (
            "api.listen",
            Some(config.api.listen).filter(|_| config.has(NodeRole::Api)),
        ),
        ("telemetry.metrics.listen", config.telemetry.metrics.listen),
    ];
    let running = Endpoints::find(&config.data_dir).ok().flatten();
    let own: Vec<String> = running
        .into_iter()
        .flat_map(|e| [e.api, e.source])
        .flatten()
        .collect();
    let listeners = listeners.into_iter();
    let listeners = listeners.filter_map(|(key, address)| Some((key, address?)));
    listeners
        .map(|(key, address)| port(key, address, &own))
        .collect()
}

/// `own` are the addresses of the server that runs on the data directory.
fn port(key: &str, address: SocketAddr, own: &[String]) -> DoctorFinding {
    match TcpListener::bind(address) {
        Ok(_) => DoctorFinding::ok(key, format!("{address} is free")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let ends = format!(":{}", address.port());
            if own.iter().any(|url| url.ends_with(&ends)) {
                let text = format!("{address} is in use by the server of this data directory");
                return DoctorFinding::ok(key, text);
            }
            let owner = match owner(Path::new("/proc"), address.port()) {
                Some((name, pid)) => format!("{name} (process {pid})"),
                None => "a process of another user".to_owned(),
            };
            DoctorFinding::failed(
                key,
                format!("{address} is in use by {owner}"),
                format!("end it, or set another {key}"),
            )
        }
        Err(e) => DoctorFinding::failed(
            key,
            format!("can't listen on {address}: {e}"),
            format!("set an address of this machine, and a port from 1024 without root, as {key}"),
        ),
    }
}

/// Name and id of the process that listens on a port, if this user may see it.
fn owner(proc: &Path, port: u16) -> Option<(String, u32)> {
    let tables = ["net/tcp", "net/tcp6"].map(|name| std::fs::read_to_string(proc.join(name)));
    let inodes: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|table| listening(&table, port))
        .collect();
    let wanted: Vec<String> = inodes
        .iter()
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for process in std::fs::read_dir(proc).ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let descriptors = std::fs::read_dir(process.path().join("fd"));
        let mut links = descriptors.into_iter().flatten().flatten();
        let is_owner = links.any(|fd| {
            let link = std::fs::read_link(fd.path()).ok();
            link.is_some_and(|l| wanted.iter().any(|w| l.as_os_str() == w.as_str()))
        });
        if is_owner {
            let name = std::fs::read_to_string(process.path().join("comm"));
            return Some((name.unwrap_or_default().trim().to_owned(), pid));
        }
    }
    None
}

/// Inodes of the sockets that listen on a port, from a table of the kernel.
fn listening(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let lines = table.lines().skip(1);
    let lines = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (local, state, inode) = (words.nth(1)?, words.nth(1)?, words.nth(5)?);
        let (_, hex) = local.rsplit_once(':')?;
        let of = u16::from_str_radix(hex, 16).ok()?;
        (of == port && state == LISTEN).then(|| inode.to_owned())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::super::FindingState;
    use super::*;

    #[test]
    fn a_taken_port_names_its_process() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let found = port("api.listen", address, &[]);
        assert_eq!(found.state, FindingState::Failed);
        let pid = format!("process {}", std::process::id());
        assert!(found.detail.contains(&pid), "{found:?}");
        let own = [format!("http://{address}")];
        assert_eq!(port("api.listen", address, &own).state, FindingState::Ok);
        drop(taken);
        assert_eq!(port("api.listen", address, &[]).state, FindingState::Ok);
    }

    #[test]
    fn an_address_of_another_machine_is_found() {
        let found = port("api.listen", "192.0.2.1:8000".parse().unwrap(), &[]);
        assert_eq!(found.state, FindingState::Failed, "{found:?}");
    }
}
