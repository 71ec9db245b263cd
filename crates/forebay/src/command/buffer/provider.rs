//! Provider of a buffer from arguments.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_buffer::Provider;
use forebay_connect::provider::file::FileProvider;
use forebay_connect::provider::http::{HttpConfig, HttpProvider, RequestFormat};
#[cfg(feature = "kafka")]
use forebay_connect::provider::kafka::{
    ClientIdentity, KafkaConfig, KafkaProvider, KafkaSecurity, KafkaTlsConfig, PemSource,
    SaslConfig, SaslMechanism,
};

use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::Environment;
#[cfg(feature = "kafka")]
use crate::config::substitute;

/// Provider: exactly one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ProviderArgs {
    /// Kafka brokers, comma-separated
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// HTTP endpoint that receives batches as lines of JSON by POST
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// File to append lines of JSON to
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write lines of JSON to standard output
    #[arg(long)]
    stdout: bool,
}

/// Options of the providers.
#[derive(Debug, clap::Args)]
pub(crate) struct ProviderOptionArgs {
    /// Kafka: commit messages and cursor in one transaction, so that consumers with read_committed get
    /// no duplicates, even after a crash
    #[arg(long, requires = "kafka")]
    transactions: bool,
    /// Kafka: use TLS; trusts the system's certificate authorities unless --ca is set
    #[arg(long, requires = "kafka")]
    tls: bool,
    /// Kafka: file with certificates (PEM) of trusted authorities
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca: Option<PathBuf>,
    /// Kafka: file with the client certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls", requires = "key")]
    cert: Option<PathBuf>,
    /// Kafka: file with the private key (PEM) of the client certificate; its password is --set
    /// 'ssl.key.password=${NAME}'
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Kafka: SASL mechanism
    #[arg(long, value_enum, requires = "kafka")]
    sasl: Option<SaslName>,
    /// Kafka: user, for mechanisms with a password
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Kafka: reference to the password: '${NAME}', an environment variable, or '${file:/path}'
    #[arg(long, value_name = "REFERENCE", requires = "user")]
    password: Option<String>,
    /// Kafka: file with the token (JWT) for oauthbearer; read again before it expires
    #[arg(long, value_name = "FILE")]
    oauth_token_file: Option<PathBuf>,
    /// Kafka: further setting of librdkafka, such as client.id=shop; ${NAME} and ${file:/path} in VALUE
    /// are replaced, and @FILE reads the whole value from a file. The last value of a name applies; two
    /// names of one setting (compression.codec, compression.type) must have the same value
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "kafka")]
    settings: Vec<String>,
    /// HTTP: file with the token, sent as `Authorization: Bearer`
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
    /// HTTP: one message per request, as its body
    #[arg(long, requires = "http")]
    single: bool,
}

/// See `SaslConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SaslName {
    /// User and password in plain text
    Plain,
    /// User and password, salted challenge-response
    #[value(name = "scram-sha-256")]
    ScramSha256,
    /// User and password, salted challenge-response
    #[value(name = "scram-sha-512")]
    ScramSha512,
    /// A token
    Oauthbearer,
}

pub(super) fn build(
    target: &ProviderArgs,
    options: &ProviderOptionArgs,
    dir: &Path,
    env: &Environment,
) -> Result<Arc<dyn Provider>, CliError> {
    if let Some(brokers) = &target.kafka {
        return kafka(brokers, options, env);
    }
    if let Some(url) = &target.http {
        let mut config = HttpConfig::new(url);
        config.body = if options.single {
            RequestFormat::Payload
        } else {
            RequestFormat::Ndjson
        };
        config.pause_file = Some(dir.join("retry-after"));
        if let Some(file) = &options.token_file {
            config.token = Some(read(file)?.into());
        }
        let provider = HttpProvider::new(config, Arc::new(SystemClock));
        return Ok(Arc::new(provider.map_err(CliError::usage)?));
    }
    if let Some(file) = &target.file {
        let opened = FileProvider::append(file);
        let failed = |e| CliError::usage(format_args!("--file {}: {e}", file.display()));
        return Ok(Arc::new(opened.map_err(failed)?));
    }
    Ok(Arc::new(FileProvider::stdout()))
}

fn read(file: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| CliError::usage(format_args!("{}: {e}", file.display())))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(feature = "kafka")]
fn kafka(
    brokers: &str,
    options: &ProviderOptionArgs,
    env: &Environment,
) -> Result<Arc<dyn Provider>, CliError> {
    let mut config = KafkaConfig::new(brokers);
    config.transactions = options.transactions;
    config.security = security(options, env)?;
    for setting in &options.settings {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(CliError::usage("--set: allowed is NAME=VALUE"));
        };
        let value = match value.strip_prefix('@') {
            Some(file) => read(file.as_ref())?,
            None => replaced(&format!("--set {name}"), value, env)?,
        };
        config.settings.insert(name.to_owned(), value);
    }
    Ok(Arc::new(
        KafkaProvider::new(config).map_err(CliError::usage)?,
    ))
}

/// A value with its references replaced. Errors never contain the value.
#[cfg(feature = "kafka")]
fn replaced(argument: &str, value: &str, env: &Environment) -> Result<String, CliError> {
    let replaced = substitute(value, env);
    let invalid = |e| CliError::usage(format_args!("{argument}: {e}"));
    Ok(replaced
        .map_err(invalid)?
        .unwrap_or_else(|| value.to_owned()))
}

#[cfg(feature = "kafka")]
fn security(options: &ProviderOptionArgs, env: &Environment) -> Result<KafkaSecurity, CliError> {
    let tls = options.tls.then(|| KafkaTlsConfig {
        ca: options.ca.clone().map(PemSource::File),
        identity: options
            .cert
            .clone()
            .zip(options.key.clone())
            .map(|(certificate, key)| ClientIdentity {
                certificate: PemSource::File(certificate),
                key: PemSource::File(key),
                key_password: None,
            }),
        ..KafkaTlsConfig::default()
    });
    let mechanism = match options.sasl {
        None if options.user.is_some() || options.oauth_token_file.is_some() => {
            return Err(CliError::usage(
                "--user, --password and --oauth-token-file need --sasl",
            ));
        }
        None => return Ok(KafkaSecurity { tls, sasl: None }),
        Some(SaslName::Oauthbearer) => {
            let Some(file) = options.oauth_token_file.clone() else {
                return Err(CliError::usage(
                    "--sasl oauthbearer needs --oauth-token-file",
                ));
            };
            let sasl = Some(SaslConfig::Token { file });
            return Ok(KafkaSecurity { tls, sasl });
        }
        Some(SaslName::Plain) => SaslMechanism::Plain,
        Some(SaslName::ScramSha256) => SaslMechanism::ScramSha256,
        Some(SaslName::ScramSha512) => SaslMechanism::ScramSha512,
    };
    let (Some(user), Some(password)) = (&options.user, &options.password) else {
        return Err(CliError::usage("--sasl needs --user and --password"));
    };
    if !password.contains("${") {
        return Err(CliError::usage(
            "--password: allowed is a reference, '${NAME}' or '${file:/path}': other users of this machine can read the command line",
        ));
    }
    let sasl = Some(SaslConfig::Password {
        mechanism,
        user: user.clone(),
        password: replaced("--password", password, env)?.into(),
    });
    Ok(KafkaSecurity { tls, sasl })
}

#[cfg(not(feature = "kafka"))]
fn kafka(
    brokers: &str,
    _options: &ProviderOptionArgs,
    _env: &Environment,
) -> Result<Arc<dyn Provider>, CliError> {
    Err(CliError::usage(format_args!(
        "--kafka {brokers}: this build has no Kafka support"
    ))
    .hint("build with the feature `kafka`"))
}
