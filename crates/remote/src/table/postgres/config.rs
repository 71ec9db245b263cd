//! Where the PostgreSQL server is, and how patient to be with it.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::table::TableError;

/// A PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:5432/database?sslmode=…`, or `host=… user=… …`. May have the
    /// password in it, so it is never shown. `sslmode` and `sslrootcert` are understood in it.
    pub url: SecretString,
    /// The password, when it is not in the URL; it has precedence.
    pub password: Option<SecretString>,
    /// TLS; has precedence over `sslmode` in the URL. `prefer` when neither says.
    pub ssl_mode: Option<SslMode>,
    /// PEM certificates of the CAs to trust, in place of the system's; precedes `sslrootcert`.
    pub ca_pem: Option<Vec<u8>>,
    /// Connections at most; further calls wait for one.
    pub pool_size: usize,
    /// How long connecting may take, TLS and authentication included.
    pub connect_timeout: Duration,
    /// How long one statement may take, and how long a lock may be waited for.
    pub statement_timeout: Duration,
    /// How long the statements that carry an import's rows may take each.
    pub import_timeout: Duration,
    /// The schema of the ledger table `imports`, made when it is not there.
    pub ledger_schema: String,
}

impl PostgresConfig {
    /// A server, with defaults.
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

/// What TLS has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS when the server has it. Nobody's identity is checked.
    Prefer,
    /// TLS or no connection. Nobody's identity is checked.
    Require,
    /// TLS, with a certificate of a trusted CA for the host that was asked for.
    VerifyFull,
}

impl SslMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyFull];

    /// Its name in URLs and in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// A connection string, taken apart.
pub(super) struct ParsedUrl {
    pub(super) config: tokio_postgres::Config,
    pub(super) ssl_mode: SslMode,
    pub(super) root_cert: Option<String>,
}

/// Reads the connection string. The library knows neither `verify-full` nor `sslrootcert`, so those
/// are taken out before. Its errors are not passed on: they quote parts of the string, and the
/// password is one.
pub(super) fn parse(config: &PostgresConfig) -> Result<ParsedUrl, TableError> {
    let invalid = || {
        TableError::Terminal(
            "the PostgreSQL connection string can't be read: it should look like postgres://user:password@host:5432/database?sslmode=prefer, with special characters of the password written as %XX"
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
                "sslmode \"{name}\" of the PostgreSQL connection string is not known: use disable, prefer, require or verify-full"
            ))
        })?,
    };
    Ok(ParsedUrl {
        config: parsed,
        ssl_mode,
        root_cert,
    })
}

/// Takes a parameter out of a connection string of either form.
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
    fn both_forms_and_their_tls_are_understood() {
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
    fn nothing_of_a_broken_string_is_shown() {
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
