//! Topics of this node: the configured providers, and their state for the management API.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use forebay_buffer::Provider;
use forebay_connect::provider::http::{HttpConfig, HttpProvider, RequestFormat, RequestMethod};
use forebay_delivery::topic::{ConnectProvider, TopicRegistry};
use forebay_model::{HttpMethod, Sink, SinkKey, TopicKind, TopicSink, TopicStatistics};

use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::{Config, ProviderSection, ProviderType};

const HAS_KAFKA: bool = cfg!(feature = "kafka");

/// Creates a provider for the settings of a topic.
type ProviderFactory = Arc<dyn Fn(&TopicSink) -> Arc<dyn Provider> + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct ProviderRegistry(BTreeMap<String, DeclaredProvider>);

#[derive(Clone)]
struct DeclaredProvider {
    kind: TopicKind,
    factory: ProviderFactory,
    /// Headers that it sets on each request.
    headers: Vec<String>,
}

impl ProviderRegistry {
    /// The configured providers. They need not be reachable yet.
    pub(crate) fn from_config(config: &Config) -> Result<Self, CliError> {
        let all = config.providers.iter();
        let all = all.map(|section| declare(section, &config.data_dir));
        all.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn violations(config: &Config) -> Vec<CliError> {
        let all = config.providers.iter();
        let all = all.map(|section| declare(section, &config.data_dir));
        all.filter_map(Result::err).collect()
    }

    /// Factory of providers for the data plane.
    pub(crate) fn connect(&self) -> ConnectProvider {
        let this = self.clone();
        Arc::new(move |topic: &TopicSink| this.get(topic))
    }

    fn get(&self, topic: &TopicSink) -> Result<Arc<dyn Provider>, String> {
        let (name, kind) = (&topic.provider, topic.kind);
        let declared = self.0.get(name).filter(|d| d.kind == kind);
        let declared = declared.ok_or_else(|| {
            let kind = kind.name();
            format!("provider \"{name}\" of type {kind} is not in the configuration of this server")
        })?;
        Ok((declared.factory)(topic))
    }
}

fn declare(
    section: &ProviderSection,
    data_dir: &Path,
) -> Result<(String, DeclaredProvider), CliError> {
    let name = &section.name;
    let declared = match section.r#type {
        ProviderType::Kafka => kafka(section),
        ProviderType::Http => http(section, data_dir),
    };
    match declared {
        Ok(declared) => Ok((name.clone(), declared)),
        Err(e) => Err(CliError::usage(format_args!("provider \"{name}\": {e}"))),
    }
}

fn http(section: &ProviderSection, data_dir: &Path) -> Result<DeclaredProvider, String> {
    let url = section.url.as_ref().map(|u| u.expose());
    let mut config = HttpConfig::new(url.unwrap_or_default());
    config.token = section.token.as_ref().map(|t| t.inner().clone());
    let file = format!("retry-after-{}", section.name);
    config.pause_file = Some(data_dir.join(file));
    let headers = section.headers.iter();
    config.headers = headers
        .map(|(n, v)| (n.clone(), v.expose().to_owned()))
        .collect();
    if let Some(timeout) = section.timeout {
        config.timeout = timeout.0;
    }
    let endpoint = HttpProvider::new(config, Arc::new(SystemClock));
    // The value may be a secret; of a header it is the name.
    let endpoint = endpoint.map_err(|e| match e.field {
        "headers" => format!("header \"{}\": {}", e.value, e.problem),
        field => format!("{field} is not valid: {}", e.problem),
    })?;
    let of = move |topic: &TopicSink| -> Arc<dyn Provider> {
        let body = match topic.batches {
            true => RequestFormat::Ndjson,
            false => RequestFormat::Payload,
        };
        let method = match topic.method {
            HttpMethod::Post => RequestMethod::Post,
            HttpMethod::Put => RequestMethod::Put,
            HttpMethod::Patch => RequestMethod::Patch,
        };
        Arc::new(endpoint.with_request_options(body, method))
    };
    Ok(DeclaredProvider {
        kind: TopicKind::Http,
        factory: Arc::new(of),
        headers: section.headers.keys().cloned().collect(),
    })
}

#[cfg(feature = "kafka")]
fn kafka(section: &ProviderSection) -> Result<DeclaredProvider, String> {
    use forebay_connect::provider::kafka::{KafkaConfig, KafkaProvider};

    let mut config = KafkaConfig::new(section.brokers.as_deref().unwrap_or_default());
    config.transactions = section.transactions.unwrap_or_default();
    if let Some(timeout) = section.timeout {
        config.timeout = timeout.0;
    }
    let settings = section.settings.iter();
    config.settings = settings
        .map(|(n, v)| (n.clone(), v.expose().to_owned()))
        .collect();
    let provider = KafkaProvider::new(config).map_err(|e| e.to_string())?;
    let provider: Arc<dyn Provider> = Arc::new(provider);
    Ok(DeclaredProvider {
        kind: TopicKind::Kafka,
        factory: Arc::new(move |_| Arc::clone(&provider)),
        headers: Vec::new(),
    })
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &ProviderSection) -> Result<DeclaredProvider, String> {
    Err("this build has no Kafka support; build with the feature `kafka`".to_owned())
}

#[derive(Clone)]
pub(crate) struct NodeTopics {
    pub(crate) topics: Arc<TopicRegistry>,
    pub(crate) providers: ProviderRegistry,
}

impl forebay_control::api::TopicService for NodeTopics {
    fn providers(&self, kind: TopicKind) -> Result<Vec<String>, String> {
        if kind == TopicKind::Kafka && !HAS_KAFKA {
            return Err(
                "this server has no Kafka support (built without the feature `kafka`)".to_owned(),
            );
        }
        let declared = self.providers.0.iter().filter(|(_, d)| d.kind == kind);
        Ok(declared.map(|(name, _)| name.clone()).collect())
    }

    fn headers(&self, provider: &str) -> Vec<String> {
        let declared = self.providers.0.get(provider);
        declared.map(|d| d.headers.clone()).unwrap_or_default()
    }

    fn statistics(&self, sink: &Sink) -> TopicStatistics {
        self.topics.statistics(sink)
    }

    fn retry(&self, sink: &SinkKey) {
        self.topics.retry(sink);
    }
}
