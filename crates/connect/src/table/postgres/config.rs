//! Configuration of a PostgreSQL server.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::table::TableError;

#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:5432/database?sslmode=…`, or `host=… user=… …`. May contain
    /// the password, so it is never shown. `sslmode` and `sslrootcert` are supported.
    pub url: SecretString,
    /// Overrides the password of the URL.
    pub password: Option<SecretString>,
    /// Overrides `sslmode` of the URL. Default of both: `prefer`.
    pub ssl_mode: Option<SslMode>,
    /// CA certificates (PEM) instead of the system's; overrides `sslrootcert`.
    pub ca_pem: Option<Vec<u8>>,
    /// Maximum of connections; further calls wait for one.
    pub pool_size: usize,
    /// Limit of connecting, including TLS and authentication.
    pub connect_timeout: Duration,
    /// Limit of a statement, and of waiting for a lock.
    pub statement_timeout: Duration,
    /// Limit of each statement that transfers an import's rows.
    pub import_timeout: Duration,
    /// Schema of the ledger table `imports`, created if missing.
    pub ledger_schema: String,
}

impl PostgresConfig {
    /// A server with default settings.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            password: None,
            ssl_mode: None,
            ca_pem: None,
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            import_timeout: Duration::from_secs(15 * 60),
            ledger_schema: "forebay".to_owned(),
        }
    }
}

/// Required TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// TLS if the server supports it. The server's identity is not verified.
    Prefer,
    /// TLS is required. The server's identity is not verified.
    Require,
    /// TLS with a certificate of a trusted CA for the requested host.
    VerifyFull,
}

impl SslMode {
    pub const ALL: [Self; 4] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyFull];

    /// Name in URLs and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A parsed connection string.
pub(super) struct ParsedUrl {
    pub(super) config: tokio_postgres::Config,
    pub(super) ssl_mode: SslMode,
    pub(super) root_cert: Option<String>,
}

/// Parses the connection string. tokio-postgres supports neither `verify-full` nor `sslrootcert`,
/// so those are removed first. Its errors are not passed on: they quote parts of the string,
/// possibly the password.
pub(super) fn parse(config: &PostgresConfig) -> Result<ParsedUrl, TableError> {
    let invalid = || {
        TableError::Terminal(
            "the PostgreSQL connection string is invalid: expected postgres://user:password@host:5432/database?sslmode=prefer, with special characters of the password written as %XX"
                .to_owned(),
        )
    };
    let url = config.url.expose_secret();
    let (plain, mode) = take(url, "sslmode");
    let (plain, root_cert) = take(&plain, "sslrootcert");
    let mut parsed: tokio_postgres::Config = plain.parse().map_err(|_| invalid())?;
    if parsed.get_hosts().is_empty() && parsed.get_hostaddrs().is_empty() {
        return Err(invalid());
    }
    if let Some(password) = &config.password {
        parsed.password(password.expose_secret());
    }
    let ssl_mode = match (config.ssl_mode, mode.as_deref()) {
        (Some(mode), _) => mode,
        (None, None) => SslMode::Prefer,
        (None, Some(name)) => SslMode::from_name(name).ok_or_else(|| {
            TableError::Terminal(format!(
                "unknown sslmode \"{name}\" in the PostgreSQL connection string: use disable, prefer, require or verify-full"
            ))
        })?,
    };
    Ok(ParsedUrl {
        config: parsed,
        ssl_mode,
        root_cert,
    })
}

/// Removes a parameter from a connection string of either form.
fn take(text: &str, name: &str) -> (String, Option<String>) {
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let (head, parameters, divider) = match (is_url, text.split_once('?')) {
        (true, None) => return (text.to_owned(), None),
        (true, Some((head, query))) => (head, query, '&'),
        (false, _) => ("", text, ' '),
    };
    let mut value = None;
    let remaining: Vec<&str> = parameters
        .split(divider)
        .filter(|part| match part.split_once('=') {
            Some((key, v)) if key == name => {
                value = Some(v.trim_matches('\'').to_owned());
                false
            }
            _ => true,
        })
        .collect();
    let remaining = remaining.join(&divider.to_string());
    let rest = match (head, remaining.as_str()) {
        ("", remaining) => remaining.to_owned(),
        (head, "") => head.to_owned(),
        (head, remaining) => format!("{head}?{remaining}"),
    };
    (rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<ParsedUrl, String> {
        parse(&PostgresConfig::new(url)).map_err(|e| e.to_string())
    }

    #[test]
    fn both_forms_and_their_tls_parameters_are_parsed() {
        let url = parsed(
            "postgres://u:p%40@h:1/d?sslmode=verify-full&application_name=x&sslrootcert=/ca.pem",
        );
        let url = url.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(url.ssl_mode, SslMode::VerifyFull);
        assert_eq!(url.root_cert.as_deref(), Some("/ca.pem"));
        assert_eq!(url.config.get_application_name(), Some("x"));
        assert_eq!(url.config.get_password(), Some(b"p@".as_slice()));
        let pairs = parsed("host=h user=u sslmode=disable").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(pairs.ssl_mode, SslMode::Disable);
        let plain = parsed("postgres://h/d").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(plain.ssl_mode, SslMode::Prefer);
    }

    #[test]
    fn an_invalid_string_is_not_shown() {
        for url in [
            "postgres://u:hunter2@h:port/d",
            "host=h password=my hunter2=x",
            "hunter2",
            "",
            "postgres://u:hunter2@h/d?hunter2=1",
        ] {
            let error = parsed(url).err().unwrap_or_else(|| panic!("{url}"));
            assert!(!error.contains("hunter2"), "{error}");
            let shown = format!("{:?}", PostgresConfig::new(url));
            assert!(!shown.contains("hunter2"));
        }
        let error = parsed("postgres://h/d?sslmode=verify-ca")
            .err()
            .unwrap_or_default();
        assert!(error.contains("verify-ca"), "{error}");
    }
}
