//! Checks of values: ranges within a section, and what concerns several sections.

use std::fmt::Display;
use std::net::SocketAddr;

use forebay_control::api::is_http_url;

use super::{Config, Role};

/// Gathers values that are out of range.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    /// What is wrong, each with the name of the key first.
    pub(crate) problems: Vec<String>,
}

impl Ranges {
    /// Notes a value that is not within `min` to `max`.
    pub(crate) fn check<T: PartialOrd + Display>(&mut self, name: &str, value: T, min: T, max: T) {
        if !(&min..=&max).contains(&&value) {
            let text = format!("{name} is {value}, allowed is {min} to {max}");
            self.problems.push(text);
        }
    }

    /// Notes something else.
    pub(crate) fn say(&mut self, problem: &str) {
        self.problems.push(problem.to_owned());
    }
}

/// Everything that is wrong with the values, each with its key first.
pub(super) fn problems(config: &Config) -> Vec<String> {
    let sections = [
        ("api", config.api.problems()),
        ("limits", config.limits.problems()),
        ("source.http", config.source.http.problems()),
        ("quota", config.quota.problems()),
        ("log", config.log.problems()),
        ("metadata", config.metadata.problems()),
        ("staging", config.staging.problems()),
        ("table", config.table.problems()),
        ("coordinator", config.coordinator.problems()),
        ("upload", config.upload.problems()),
        ("import", config.import.problems()),
        ("janitor", config.janitor.problems()),
        ("topics", config.topics.problems()),
        ("providers", super::provider::problems(&config.providers)),
        ("templates", config.templates.problems()),
        ("telemetry", config.telemetry.problems()),
        ("shutdown", config.shutdown.problems()),
    ];
    let in_section = |(path, found): (&str, Vec<String>)| {
        found
            .into_iter()
            .map(move |p| format!("{path}.{p}"))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<String> = sections.into_iter().flat_map(in_section).collect();
    all.extend(overall(config));
    all
}

fn overall(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if config.roles.is_empty() {
        problems.push("roles is empty: name at least one".to_owned());
    }
    if config.data_dir.as_os_str().is_empty() {
        problems.push("dataDir is empty: name a directory".to_owned());
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
            "source.http.publicUrl is \"{url}\", it must be an address like http://localhost:7000"
        ));
    }
    problems.extend(same_address(config));
    problems
}

/// Two listeners on one port of one address. Port 0 is a different one for each.
fn same_address(config: &Config) -> Vec<String> {
    let mut listeners = Vec::new();
    if config.has(Role::Api) {
        listeners.push(("api.listen", config.api.listen));
    }
    if config.has(Role::Source) {
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
