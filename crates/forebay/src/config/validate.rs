//! Validates a configuration: its sections, and rules across sections.

use std::net::SocketAddr;

use forebay_control::api::is_http_url;

use super::{Config, NodeRole};

/// All violations, each starting with its key.
pub(super) fn violations(config: &Config) -> Vec<String> {
    let sections = [
        ("api", config.api.violations()),
        ("definitions", config.definitions.violations()),
        ("limits", config.limits.violations()),
        ("source.http", config.source.http.violations()),
        ("quota", config.quota.violations()),
        ("log", config.log.violations()),
        ("metadata", config.metadata.violations()),
        ("staging", config.staging.violations()),
        ("table", config.table.violations()),
        ("coordinator", config.coordinator.violations()),
        ("upload", config.upload.violations()),
        ("import", config.import.violations()),
        ("garbageCollection", config.garbage_collection.violations()),
        ("topics", config.topics.violations()),
        ("providers", super::provider::violations(&config.providers)),
        ("templates", config.templates.violations()),
        ("telemetry", config.telemetry.violations()),
        ("shutdown", config.shutdown.violations()),
    ];
    let in_section = |(path, found): (&str, Vec<String>)| {
        found
            .into_iter()
            .map(move |p| format!("{path}.{p}"))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<String> = sections.into_iter().flat_map(in_section).collect();
    all.extend(cross_section_violations(config));
    all
}

fn cross_section_violations(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if config.roles.is_empty() {
        problems.push("roles is empty: set at least one".to_owned());
    }
    if config.data_dir.as_os_str().is_empty() {
        problems.push("dataDir is empty: set a directory".to_owned());
    }
    let id = &config.node_id;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > 64 || !id.chars().all(fits) {
        problems.push(format!(
            "nodeId is \"{id}\", allowed are 1 to 64 letters, digits, \"-\", \"_\" and \".\""
        ));
    }
    if config.token.is_some() && config.token_file.is_some() {
        problems.push("token and tokenFile are both set: set one of them".to_owned());
    }
    if let Some(token) = &config.token {
        let token = token.expose().trim();
        if token.is_empty() {
            problems.push("token is empty".to_owned());
        } else if !token.bytes().all(|b| b.is_ascii_graphic()) {
            let allowed = "allowed is one word of visible ASCII characters";
            problems.push(format!(
                "token has spaces or special characters in it, {allowed}"
            ));
        }
    }
    if let Some(url) = &config.source.http.public_url
        && !is_http_url(url)
    {
        problems.push(format!(
            "source.http.publicUrl is \"{url}\", allowed is an address like http://localhost:7000"
        ));
    }
    if let Some(dir) = &config.definitions.dir
        && !config.has(NodeRole::Api)
    {
        let dir = dir.display();
        problems.push(format!(
            "definitions.dir is {dir}, which needs the role api: add it to roles"
        ));
    }
    problems.extend(address_clashes(config));
    problems
}

/// Listeners with the same port of one address. Port 0 is a different one for each.
fn address_clashes(config: &Config) -> Vec<String> {
    let mut listeners = Vec::new();
    if config.has(NodeRole::Api) {
        listeners.push(("api.listen", config.api.listen));
    }
    if config.has(NodeRole::Source) {
        listeners.push(("source.http.listen", config.source.http.listen));
    }
    if let Some(metrics) = config.telemetry.metrics.listen {
        listeners.push(("telemetry.metrics.listen", metrics));
    }
    let clashes = |a: SocketAddr, b: SocketAddr| {
        let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && overlap
    };
    let mut problems = Vec::new();
    for (n, (key, address)) in listeners.iter().enumerate() {
        for (other, taken) in listeners.iter().take(n) {
            if clashes(*address, *taken) {
                problems.push(format!(
                    "{key} is {address}, which clashes with {other} {taken}: use another port"
                ));
            }
        }
    }
    problems
}
