//! The configuration: one tree with defaults, from file, environment and flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use forebay_control::coordinator::CoordinatorConfig;
use forebay_delivery::garbage_collector::GarbageCollectorConfig;
use forebay_delivery::topic::TopicConfig;
use forebay_delivery::work_queue::WorkConfig;
use forebay_ingest::source::http::HttpSourceConfig;
use forebay_listener::TlsConfig;
use forebay_model::DefinitionLimits;
use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod api;
mod assignments;
pub(crate) mod catalog;
mod definitions;
pub(crate) mod document;
pub(crate) mod environment;
mod layers;
mod log;
mod metadata;
mod otlp;
pub(crate) mod profile;
mod provider;
mod quota;
mod ranges;
pub(crate) mod reference;
mod staging;
mod storage;
mod substitution;
mod table;
mod telemetry;
mod templates;
#[cfg(test)]
mod tests;
mod validate;
mod violation;
pub(crate) mod yaml;

pub(crate) use api::{ApiSection, listener_url};
pub(crate) use assignments::KeyAssignments;
pub(crate) use definitions::DefinitionsSection;
pub(crate) use environment::Environment;
pub(crate) use metadata::OnLatch;
#[cfg(feature = "otlp")]
pub(crate) use otlp::OtlpSection;
pub(crate) use provider::{ProviderSection, ProviderType};
pub(crate) use substitution::{reference, substitute};
pub(crate) use table::TableDefault;
pub(crate) use telemetry::{LogFormat, LogOutput, MetricsSection};
pub(crate) use violation::{ConfigViolation, ValueOrigin};

use layers::{AssignedValue, ConfigLayers};
use log::LogSection;
use metadata::{HealthSection, MetadataSection};
use profile::Profile;
use quota::QuotaSection;
use staging::StagingSection;
use storage::StorageSection;
use table::TableSection;
use telemetry::{ShutdownSection, TelemetrySection};
use templates::TemplatesSection;

/// Role of a process.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub(crate) enum NodeRole {
    /// The management API.
    Api,
    /// Accepts records over HTTP.
    Source,
    /// Stores the log, uploads slices, imports files.
    Storage,
    /// Decides when to rotate, upload and import slices and files.
    Coordinator,
}

impl NodeRole {
    pub(crate) const ALL: [Self; 4] = [Self::Api, Self::Source, Self::Storage, Self::Coordinator];
}

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    /// Set of defaults: `forebay`, or `keboola` for those of Keboola Stream (docs/compat.md).
    pub(crate) profile: Profile,
    /// Data directory: log, metadata, staging, tables, token. One process at a time.
    pub(crate) data_dir: PathBuf,
    /// Roles of this process: `api`, `source`, `storage`, `coordinator`.
    pub(crate) roles: Vec<NodeRole>,
    /// Name of this process in metadata and logs.
    pub(crate) node_id: String,
    /// Token for the management API, like `${FOREBAY_ADMIN_TOKEN}`. Without it and without `tokenFile`
    /// the first start creates one in the file `token` in the data directory.
    pub(crate) token: Option<SecretText>,
    /// File with the token for the management API.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) api: ApiSection,
    pub(crate) definitions: DefinitionsSection,
    pub(crate) limits: DefinitionLimits,
    pub(crate) source: SourceSection,
    pub(crate) quota: QuotaSection,
    pub(crate) log: LogSection,
    pub(crate) metadata: MetadataSection,
    pub(crate) staging: StagingSection,
    pub(crate) table: TableSection,
    pub(crate) storage: StorageSection,
    pub(crate) coordinator: CoordinatorConfig,
    /// Upload of slices to staging.
    pub(crate) upload: WorkConfig,
    /// Import of files into their tables.
    pub(crate) import: WorkConfig,
    pub(crate) garbage_collection: GarbageCollectorConfig,
    pub(crate) topics: TopicConfig,
    /// Providers for sinks of the types `kafka` and `http`: a list of `name` and `type`; of `kafka`:
    /// `brokers`, `transactions` and `settings` (of librdkafka); of `http`: `url`, `token` and
    /// `headers`; of both: `timeout`. A sink selects one by name. Addresses and secrets are never
    /// shown.
    pub(crate) providers: Vec<ProviderSection>,
    pub(crate) templates: TemplatesSection,
    pub(crate) telemetry: TelemetrySection,
    pub(crate) health: HealthSection,
    pub(crate) shutdown: ShutdownSection,
}

/// Sources of records.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceSection {
    pub(crate) http: HttpSourceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            data_dir: PathBuf::from("forebay-data"),
            roles: NodeRole::ALL.to_vec(),
            node_id: "forebay".to_owned(),
            token: None,
            token_file: None,
            api: ApiSection::default(),
            definitions: DefinitionsSection::default(),
            limits: DefinitionLimits::default(),
            source: SourceSection::default(),
            quota: QuotaSection::default(),
            log: LogSection::default(),
            metadata: MetadataSection::default(),
            staging: StagingSection::default(),
            table: TableSection::default(),
            storage: StorageSection::default(),
            coordinator: CoordinatorConfig::default(),
            upload: WorkConfig::default(),
            import: WorkConfig::default(),
            garbage_collection: GarbageCollectorConfig::default(),
            topics: TopicConfig::default(),
            providers: Vec::new(),
            templates: TemplatesSection::default(),
            telemetry: TelemetrySection::default(),
            health: HealthSection::default(),
            shutdown: ShutdownSection::default(),
        }
    }
}

impl Config {
    pub(crate) fn has(&self, role: NodeRole) -> bool {
        self.roles.contains(&role)
    }

    /// The token file that a first start creates.
    pub(crate) fn default_token_file(&self) -> PathBuf {
        self.data_dir.join("token")
    }

    /// Certificates of this process's listeners, by configuration section.
    pub(crate) fn all_tls(&self) -> impl Iterator<Item = (&'static str, &TlsConfig)> {
        let api = self.api.tls.as_ref();
        let metrics = self.telemetry.metrics.listen.is_some();
        let api = api.filter(|_| self.has(NodeRole::Api) || metrics);
        let source = self.source.http.tls.as_ref();
        let source = source.filter(|_| self.has(NodeRole::Source));
        let all = [("api.tls", api), ("source.http.tls", source)];
        all.into_iter().filter_map(|(key, tls)| Some((key, tls?)))
    }

    /// Address of the HTTP source for senders.
    pub(crate) fn source_url(&self, listen: SocketAddr) -> String {
        let http = &self.source.http;
        let own = || listener_url(listen, http.tls.is_some());
        http.public_url.clone().unwrap_or_else(own)
    }
}

/// Flag, key and text of each setting on the command line.
pub(crate) type FlagSettings = Vec<(&'static str, String, String)>;

#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigSources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) env: Environment,
    pub(crate) flags: FlagSettings,
}

/// A valid configuration with the origins of its values.
#[derive(Clone, Debug)]
pub(crate) struct LoadedConfig {
    pub(crate) config: Config,
    /// The environment, for later look-ups.
    pub(crate) env: Environment,
    /// Origin of each key that is set.
    pub(crate) origins: BTreeMap<String, ValueOrigin>,
    pub(crate) assignments: KeyAssignments,
}

impl LoadedConfig {
    pub(crate) fn origin(&self, path: &str) -> ValueOrigin {
        self.origins
            .get(path)
            .cloned()
            .unwrap_or(ValueOrigin::Default)
    }
}

/// Loads the configuration; returns all violations.
pub(crate) fn load(sources: &ConfigSources) -> Result<LoadedConfig, Vec<ConfigViolation>> {
    let mut layers = ConfigLayers::default();
    if let Some(file) = &sources.file {
        layers.add_file(file, &sources.env);
    }
    layers.add_environment(&sources.env);
    for (flag, path, text) in &sources.flags {
        layers.add_flag(flag, path, text);
    }
    layers.add_profile();
    let (config, mut problems) = deserialize_config(&layers.assigned);
    problems.splice(0..0, layers.violations);
    let assignments = KeyAssignments::new(&layers.assigned);
    let secrets = layers.secrets;
    let origins: BTreeMap<String, ValueOrigin> = layers
        .assigned
        .into_iter()
        .map(|(path, assigned)| (path.to_owned(), assigned.origin))
        .collect();
    if let Some(config) = &config {
        problems.extend(
            validate::violations(config)
                .into_iter()
                .map(|text| with_value_origin(text, &origins)),
        );
    }
    match config {
        Some(config) if problems.is_empty() => {
            let env = sources.env.clone();
            Ok(LoadedConfig {
                config,
                env,
                origins,
                assignments,
            })
        }
        _ => {
            problems.iter_mut().for_each(|p| p.mask(&secrets));
            Err(problems)
        }
    }
}

/// Adds the origin of the value to a message; the key is its first word.
fn with_value_origin(text: String, origins: &BTreeMap<String, ValueOrigin>) -> ConfigViolation {
    let key = text.split_whitespace().next().unwrap_or_default();
    let origin = origins.get(key).cloned();
    let problem = ConfigViolation::new(text);
    match origin {
        Some(origin) => problem.with_origin(&origin),
        None => problem,
    }
}

/// The typed tree. Invalid values are left out and reported, so that all are found at once.
fn deserialize_config(
    assigned: &BTreeMap<&'static str, AssignedValue>,
) -> (Option<Config>, Vec<ConfigViolation>) {
    let default = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut tree = default.clone();
    let mut problems = Vec::new();
    for unit in units(assigned) {
        let mut alone = default.clone();
        for one in &unit {
            set(&mut alone, &one.key.path, one.value.clone());
        }
        match serde_path_to_error::deserialize::<_, Config>(alone) {
            Ok(_) => {
                for one in &unit {
                    set(&mut tree, &one.key.path, one.value.clone());
                }
            }
            Err(error) => problems.extend(unit.first().map(|one| mismatch(one, &error))),
        }
    }
    match serde_json::from_value(tree) {
        Ok(config) => (Some(config), problems),
        // Each value fits alone, so this is a bug: report it.
        Err(error) => {
            problems.push(ConfigViolation::new(format!(
                "invalid configuration: {error}"
            )));
            (None, problems)
        }
    }
}

/// Values to deserialize together: one key, or an optional group as a whole.
fn units(assigned: &BTreeMap<&'static str, AssignedValue>) -> Vec<Vec<AssignedValue>> {
    let mut units: BTreeMap<&str, Vec<AssignedValue>> = BTreeMap::new();
    for (path, one) in assigned {
        let unit = one.key.whole.as_deref().unwrap_or(path);
        units.entry(unit).or_default().push(one.clone());
    }
    units.into_values().collect()
}

/// Explains why a value does not fit.
fn mismatch(
    one: &AssignedValue,
    error: &serde_path_to_error::Error<serde_json::Error>,
) -> ConfigViolation {
    let key = one.key;
    let message = error.inner().to_string();
    let message = message.trim_end_matches('.');
    let text = if key.secret {
        format!("{} must be a text", key.path)
    } else if message.starts_with("Invalid \"") {
        // The registry of settings has already named key and value.
        message.to_owned()
    } else if let Some(whole) = &key.whole {
        format!("{whole} is not complete: {}", without_value(message))
    } else if key.holds_secrets {
        format!("{}: {}", error.path(), without_value(message))
    } else if one.value.is_array() {
        let shown = violation::shown(key, &one.value);
        let item_path = error.path();
        format!(
            "{} is {shown}, of which {item_path} is not valid: {message}",
            key.path
        )
    } else if let Some(allowed) = key.allowed() {
        return ConfigViolation::value(key, &one.value, Some(&allowed)).with_origin(&one.origin);
    } else {
        let shown = violation::shown(key, &one.value);
        format!("{} is {shown}: {message}", key.path)
    };
    ConfigViolation::new(text).with_origin(&one.origin)
}

/// The message of serde without the value: field names and what is expected.
fn without_value(message: &str) -> String {
    let names_a_field = ["unknown field", "missing field", "duplicate field"];
    if names_a_field.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "the value is not valid; it is not shown, since a secret may be in it".to_owned(),
    }
}

/// Sets a value in a tree and creates the mappings above it.
fn set(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for step in path.split('.') {
        if !at.is_object() {
            *at = Value::Object(serde_json::Map::new());
        }
        at = &mut at[step];
    }
    *at = value;
}

/// The effective configuration with secrets masked, and the keys that are set.
pub(crate) fn effective(loaded: &LoadedConfig) -> Value {
    let mut config = serde_json::to_value(&loaded.config).unwrap_or_default();
    let tokens = config
        .pointer_mut("/api/tokens")
        .and_then(Value::as_array_mut);
    for token in tokens.into_iter().flatten() {
        // The hash identifies a weak token.
        token["sha256"] = Value::from(forebay_schema::MASK);
    }
    config
}

/// The configuration file, if any.
pub(crate) fn file_from(given: Option<&Path>, env: &Environment) -> Option<PathBuf> {
    given
        .map(Path::to_owned)
        .or_else(|| env.get("FOREBAY_CONFIG").map(PathBuf::from))
}
