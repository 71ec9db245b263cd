//! File descriptors: as many as the system allows, and some of them not for connections.
//!
//! A connection takes one. Where they take all, the log can't open its next segment and SQLite not
//! its files; so connections are bounded below what the process may open, and who comes beyond that
//! is told so.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// Descriptors for the log, the stores, staging, workers of templates and outgoing connections: as
/// many as may be needed, and the least.
const RESERVE: (u64, u64) = (1_000, 64);
/// Fewer connections than that are of no use.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the limit of open files as far as the system lets it, and lowers the limits of connections
/// to what is left of it.
pub(crate) fn fit(config: &mut Config) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files could not be raised");
    }
    let Some(allowed) = getrlimit(Resource::Nofile).current else {
        return;
    };
    lower(config, allowed);
}

fn lower(config: &mut Config, allowed: u64) {
    let reserve = reserve(allowed);
    let connections = &mut config.source.http.max_connections;
    let wanted = *connections as u64;
    let possible = allowed.saturating_sub(reserve).max(CONNECTIONS_MIN);
    if wanted <= possible {
        return;
    }
    tracing::warn!(
        "source.http.maxConnections" = wanted,
        lowered_to = possible,
        open_files = allowed,
        reserve,
        "the system allows the process fewer open files than connections may need; raise the limit (ulimit -n, LimitNOFILE=)"
    );
    *connections = usize::try_from(possible).unwrap_or(usize::MAX);
}

/// Descriptors that are not for connections: a quarter, within bounds.
fn reserve(allowed: u64) -> u64 {
    let (most, least) = RESERVE;
    (allowed / 4).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (allowed, wanted, left) in [
            (1 << 20, 20_000, 20_000),
            (20_000, 20_000, 19_000),
            (1_024, 20_000, 768),
            (1_024, 700, 700),
            (256, 20_000, 192),
            (32, 20_000, 16),
        ] {
            let mut config = Config::default();
            config.source.http.max_connections = wanted;
            lower(&mut config, allowed);
            assert_eq!(config.source.http.max_connections, left, "{allowed}");
        }
    }
}
