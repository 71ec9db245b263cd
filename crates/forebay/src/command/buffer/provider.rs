//! Where messages go, by the arguments.

use std::path::PathBuf;
use std::sync::Arc;

use forebay_buffer::Provider;
use forebay_remote::provider::file::FileProvider;
use forebay_remote::provider::http::{Body, HttpConfig, HttpProvider};

use crate::failure::Failure;

/// Where messages go: one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// Kafka brokers; several with commas between them
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// An endpoint that gets batches as lines of JSON by POST
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// A file that gets lines of JSON
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Standard output gets lines of JSON
    #[arg(long)]
    stdout: bool,
}

/// How they go there.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Kafka: commit messages and cursor together, so that nothing comes twice for readers of
    /// committed messages, also after a crash
    #[arg(long, requires = "kafka")]
    transactions: bool,
    /// Kafka: a further setting of librdkafka, such as security.protocol=sasl_plaintext; @FILE as
    /// VALUE takes it from a file
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "kafka")]
    settings: Vec<String>,
    /// HTTP: a file with the token that is sent as `Authorization: Bearer`
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,
    /// HTTP: one message a request, as its body
    #[arg(long, requires = "http")]
    single: bool,
}

/// Builds the provider.
pub(super) fn build(target: &Target, options: &Options) -> Result<Arc<dyn Provider>, Failure> {
    if let Some(brokers) = &target.kafka {
        return kafka(brokers, options);
    }
    if let Some(url) = &target.http {
        let mut config = HttpConfig::new(url);
        config.body = if options.single {
            Body::Payload
        } else {
            Body::Ndjson
        };
        if let Some(file) = &options.token_file {
            config.token = Some(read(file)?.into());
        }
        return Ok(Arc::new(HttpProvider::new(config).map_err(Failure::usage)?));
    }
    if let Some(file) = &target.file {
        let opened = FileProvider::append(file);
        let failed = |e| Failure::usage(format_args!("--file {}: {e}", file.display()));
        return Ok(Arc::new(opened.map_err(failed)?));
    }
    Ok(Arc::new(FileProvider::stdout()))
}

fn read(file: &std::path::Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::usage(format_args!("{}: {e}", file.display())))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(feature = "kafka")]
fn kafka(brokers: &str, options: &Options) -> Result<Arc<dyn Provider>, Failure> {
    use forebay_remote::provider::kafka::{KafkaConfig, KafkaProvider};

    let mut config = KafkaConfig::new(brokers);
    config.transactions = options.transactions;
    for setting in &options.settings {
        let Some((name, value)) = setting.split_once('=') else {
            return Err(Failure::usage(format_args!(
                "--set {setting}: allowed is NAME=VALUE"
            )));
        };
        let value = match value.strip_prefix('@') {
            Some(file) => read(file.as_ref())?,
            None => value.to_owned(),
        };
        config.settings.insert(name.to_owned(), value);
    }
    Ok(Arc::new(
        KafkaProvider::new(config).map_err(Failure::usage)?,
    ))
}

#[cfg(not(feature = "kafka"))]
fn kafka(brokers: &str, _options: &Options) -> Result<Arc<dyn Provider>, Failure> {
    Err(Failure::usage(format_args!(
        "--kafka {brokers}: this program was built without Kafka"
    ))
    .hint("build it with the feature `kafka`"))
}
