//! The environment: read once, then passed as a value.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::catalog;

/// Prefix of Forebay's variables.
pub(crate) const PREFIX: &str = "FOREBAY_";

/// Variables of the command line and of the project's scripts: no settings, so they are not rejected.
const OTHERS: [&str; 9] = [
    "FOREBAY_API",
    "FOREBAY_API_CA",
    "FOREBAY_CONFIG",
    "FOREBAY_OWNER_PID",
    "FOREBAY_SERVICES",
    "FOREBAY_SERVICES_",
    "FOREBAY_TARGET_DIR",
    "FOREBAY_TEST_",
    "FOREBAY_TORTURE_",
];

#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process, with invalid UTF-8 replaced.
    pub(crate) fn from_process() -> Self {
        let text = |s: OsString| s.to_string_lossy().into_owned();
        Self(
            std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
        )
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|v| !v.is_empty()).cloned()
    }

    /// Variables that are settings, or look like settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = self.0.iter().filter(|(name, _)| name.starts_with(PREFIX));
        ours.filter(|(name, _)| !is_other(name) && !is_service_link(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.map(|(n, v)| (n.to_owned(), v.to_owned())).into())
    }
}

fn is_other(name: &str) -> bool {
    let same = |other: &str| other == name || (other.ends_with('_') && name.starts_with(other));
    OTHERS.into_iter().any(same)
}

/// Kubernetes sets such variables in every container next to a service called `forebay…`:
/// `FOREBAY_SERVICE_HOST`, `FOREBAY_PORT`, `FOREBAY_PORT_8000_TCP_ADDR`. Rejecting them would prevent
/// the start there.
fn is_service_link(name: &str) -> bool {
    let has_port = |rest: &str| {
        rest.is_empty()
            || rest
                .strip_prefix('_')
                .is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name
            .rsplit_once("_PORT")
            .is_some_and(|(_, rest)| has_port(rest))
}

/// Name of a key's variable: `source.http.publicUrl` is `FOREBAY_SOURCE_HTTP_PUBLIC_URL`.
pub(crate) fn variable(path: &str) -> String {
    let mut name = PREFIX.to_owned();
    let mut after_lower = false;
    for c in path.chars() {
        match c {
            '.' => name.push('_'),
            c => {
                if c.is_ascii_uppercase() && after_lower {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    name
}

pub(crate) fn key_for_variable(name: &str) -> Option<&'static catalog::ConfigKey> {
    catalog::root()
        .keys()
        .into_iter()
        .find(|k| variable(&k.path) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_names_are_derived_from_keys_and_unique() {
        assert_eq!(variable("dataDir"), "FOREBAY_DATA_DIR");
        assert_eq!(
            variable("source.http.maxRequestBodySize"),
            "FOREBAY_SOURCE_HTTP_MAX_REQUEST_BODY_SIZE"
        );
        assert_eq!(variable("staging.s3.bucket"), "FOREBAY_STAGING_S3_BUCKET");
        let names: Vec<_> = catalog::root()
            .keys()
            .iter()
            .map(|k| variable(&k.path))
            .collect();
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        assert!(
            names.iter().all(|n| !is_other(n) && !is_service_link(n)),
            "{names:?}"
        );
    }

    #[test]
    fn foreign_variables_are_ignored() {
        let env = Environment::from([
            ("FOREBAY_SERVICE_HOST", "10.0.0.1"),
            ("FOREBAY_SERVICE_PORT_HTTP", "8000"),
            ("FOREBAY_PORT", "tcp://10.0.0.1:8000"),
            ("FOREBAY_API_PORT_8000_TCP_ADDR", "10.0.0.1"),
            ("FOREBAY_TORTURE_SECONDS", "3"),
            ("FOREBAY_API", "http://x"),
            ("FOREBAY_LOG_SYNK", "disk"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(
            env.settings().collect::<Vec<_>>(),
            [("FOREBAY_LOG_SYNK", "disk")]
        );
    }
}
