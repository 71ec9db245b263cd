//! File descriptors: raises the limit of the process and reserves some of them.
//!
//! Each connection uses one. If connections used all, the log could not open its next segment, nor
//! SQLite its files. So connections are limited below the process limit, and further ones get an error.

use forebay_listener::rejections_max;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::{Config, NodeRole};

/// Descriptors for the log, the stores, staging, template workers and outgoing connections: maximum and
/// minimum.
const RESERVE: (u64, u64) = (1_000, 64);
/// Fewer connections are useless.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the limit of open files as far as the system allows, and lowers the connection limits to the
/// remainder.
pub(crate) fn limit_connections(config: &mut Config) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "can't raise the limit of open files");
    }
    let Some(allowed) = getrlimit(Resource::Nofile).current else {
        return;
    };
    lower(config, allowed);
}

/// Most sealed segments of the log open at a time: half of the reserve. A backlog can have any number
/// of them.
pub(crate) fn segment_limit() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(reserve(allowed) / 2).unwrap_or(usize::MAX)
}

fn lower(config: &mut Config, allowed: u64) {
    let reserve = reserve(allowed);
    let possible = allowed.saturating_sub(reserve);
    let listeners = [
        config.has(NodeRole::Source),
        config.has(NodeRole::Api),
        config.telemetry.metrics.listen.is_some(),
    ];
    let (source, api) = (
        config.source.http.max_connections as u64,
        config.api.max_connections as u64,
    );
    // The listener of metrics has the limits of the API's.
    let [of_source, of_api, of_metrics] = listeners.map(u64::from);
    let apis = of_api + of_metrics;
    let rejection_descriptors =
        |(source, api)| of_source * rejections(source) + apis * rejections(api);
    let all = of_source * source + apis * api;
    if all + rejection_descriptors((source, api)) <= possible {
        return;
    }
    // Each listener gets its share; the API's is smaller and goes first.
    let share = |possible: u64| {
        let api_left = api.min((api * possible / all).max(CONNECTIONS_MIN));
        let source_left = possible.saturating_sub(apis * api_left);
        (source.min(source_left.max(CONNECTIONS_MIN)), api_left)
    };
    // Rejected clients use descriptors, too.
    let (source_left, api_left) =
        share(possible.saturating_sub(rejection_descriptors(share(possible))));
    tracing::warn!(
        "source.http.maxConnections" = source,
        "api.maxConnections" = api,
        source_lowered_to = source_left,
        api_lowered_to = api_left,
        open_files = allowed,
        reserve,
        "connection limits lowered to the limit of open files; raise it (ulimit -n, LimitNOFILE=)"
    );
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    config.source.http.max_connections = number(source_left);
    config.api.max_connections = number(api_left);
}

/// Concurrent clients that are being rejected because the listener has too many connections.
fn rejections(connections: u64) -> u64 {
    rejections_max(usize::try_from(connections).unwrap_or(usize::MAX)) as u64
}

/// Descriptors not for connections: a quarter, within bounds.
fn reserve(allowed: u64) -> u64 {
    let (most, least) = RESERVE;
    (allowed / 4).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_all_listeners_leave_descriptors_for_the_rest() {
        for (allowed, source, api, left) in [
            (1 << 20, 20_000, 1_000, (20_000, 1_000)),
            (22_000, 20_000, 1_000, (19_638, 981)),
            (21_000, 20_000, 1_000, (18_691, 934)),
            (1_024, 20_000, 1_000, (630, 31)),
            (1_024, 600, 68, (600, 68)),
            (1_024, 620, 69, (608, 67)),
            (256, 20_000, 1_000, (138, 16)),
            (32, 20_000, 10, (16, 10)),
        ] {
            let mut config = Config::default();
            config.source.http.max_connections = source;
            config.api.max_connections = api;
            lower(&mut config, allowed);
            let (source, api) = (
                config.source.http.max_connections,
                config.api.max_connections,
            );
            assert_eq!((source, api), left, "{allowed}");
        }
    }

    #[test]
    fn only_existing_listeners_including_metrics_get_a_share() {
        let mut config = Config {
            roles: vec![NodeRole::Source],
            ..Config::default()
        };
        lower(&mut config, 1_024);
        assert_eq!(config.source.http.max_connections, 672);
        let mut config = Config {
            roles: vec![NodeRole::Api],
            ..Config::default()
        };
        config.telemetry.metrics.listen = Some(([127, 0, 0, 1], 0).into());
        lower(&mut config, 1_024);
        assert_eq!(config.api.max_connections, 336);
    }
}
