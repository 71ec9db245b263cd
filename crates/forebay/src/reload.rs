//! Reloads the configuration on SIGHUP.
//!
//! Everything is read and checked before anything is changed, so an invalid configuration changes
//! nothing.

use std::sync::Arc;

use forebay_control::auth::ConfiguredTokens;
use forebay_listener::{LoadedTls, ReloadableTls};
use tokio::sync::watch;

use crate::cli_error::CliError;
use crate::command::common::violations_error;
use crate::config::{self, Config, ConfigSources, DefinitionsSection, LoadedConfig};
use crate::monitoring::ProcessMetrics;
use crate::telemetry::LogLevel;
use crate::token;

/// Settings that can change at run time: keys, and whole sections. Files that they name are reloaded as
/// well.
pub(crate) const RELOADABLE_KEYS: [&str; 13] = [
    "api.tls.certFile",
    "api.tls.keyFile",
    "api.tokens",
    "definitions.dir",
    "definitions.interval",
    "definitions.prune",
    "definitions.set",
    "source.http.tls.certFile",
    "source.http.tls.keyFile",
    "telemetry.log.level",
    "telemetry.metrics.token",
    "token",
    "tokenFile",
];

pub(crate) struct ConfigReloader<'a> {
    pub(crate) sources: &'a ConfigSources,
    pub(crate) current: LoadedConfig,
    pub(crate) level: LogLevel,
    /// Certificates of listeners, by configuration section.
    pub(crate) tls: Vec<(&'static str, Arc<ReloadableTls>)>,
    pub(crate) auth: ConfiguredTokens,
    pub(crate) metrics: ProcessMetrics,
    pub(crate) definitions: watch::Sender<DefinitionsSection>,
}

/// A configuration that was read and is valid.
struct ReloadedConfig {
    loaded: LoadedConfig,
    certificates: Vec<(Arc<ReloadableTls>, LoadedTls)>,
    auth: ConfiguredTokens,
}

impl ConfigReloader<'_> {
    /// Reloads; logs the changes, the settings that need a restart, or the error.
    pub(crate) fn reload(&mut self) {
        let fresh = match self.read() {
            Ok(fresh) => fresh,
            Err(failure) => {
                tracing::error!(
                    cause = %failure,
                    "the configuration can't be reloaded, nothing has changed"
                );
                return;
            }
        };
        if let Err(cause) = self.level.set(&fresh.loaded.config.telemetry.log.level) {
            tracing::error!(%cause, "the configuration can't be reloaded, nothing has changed");
            return;
        }
        let certificates = fresh.certificates.len();
        for (tls, loaded) in fresh.certificates {
            tls.replace(loaded);
        }
        self.auth.replace(&fresh.auth);
        self.definitions
            .send_replace(fresh.loaded.config.definitions.clone());
        let changed = self.current.assignments.changed(&fresh.loaded.assignments);
        let (changed, restart): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|key| self.is_reloadable(key, &fresh.loaded.config));
        self.metrics
            .set_token(&fresh.loaded.config.telemetry.metrics);
        tracing::info!(certificates, ?changed, "configuration reloaded");
        if !restart.is_empty() {
            let settings = restart.join(", ");
            tracing::warn!(%settings, "changed settings that need a restart are not in force");
        }
        self.remember(fresh.loaded);
    }

    fn read(&self) -> Result<ReloadedConfig, CliError> {
        let loaded = config::load(self.sources).map_err(|problems| violations_error(&problems))?;
        let mut certificates = Vec::new();
        for (key, config) in loaded.config.all_tls() {
            let Some((_, tls)) = self.tls.iter().find(|(k, _)| *k == key) else {
                continue;
            };
            let read = LoadedTls::read(config);
            let read = read.map_err(|e| CliError::new(format_args!("{key}: {e}")))?;
            certificates.push((Arc::clone(tls), read));
        }
        let token = token::reread(&loaded.config)?;
        let auth = token::authenticate(&loaded.config, &token)?;
        Ok(ReloadedConfig {
            loaded,
            certificates,
            auth,
        })
    }

    /// Whether a new value takes effect without a restart. TLS can't be enabled or disabled.
    fn is_reloadable(&self, key: &str, new: &Config) -> bool {
        let is_served = |section: &str| {
            let has = |(key, _): (&str, _)| key == section;
            self.tls.iter().any(|(key, _)| *key == section) && new.all_tls().any(has)
        };
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        RELOADABLE_KEYS.contains(&key) && (!section.ends_with(".tls") || is_served(section))
    }

    /// Settings that need a restart keep their old value, so that the next reload reports them again.
    fn remember(&mut self, loaded: LoadedConfig) {
        let reloaded = |key: &str| self.is_reloadable(key, &loaded.config);
        let merged = self.current.assignments.with(&loaded.assignments, reloaded);
        self.current.assignments = merged;
    }
}
