//! Statistics of all sinks in one pass, for metrics and status.

use std::collections::{BTreeMap, HashMap};

use forebay_model::{Sink, SinkKey, Source, SourceKey};

use super::dead_letters::DeadLetterStatistics;
use super::files::FileError;
use super::sinks::effective;
use super::statistics::{FileStatistics, SinkStatistics, sum};
use super::{Repo, Versioned};
use crate::catalog::keys;
use crate::catalog::stored::dead_letters::{DeadLetterCounts, DeadLetterState};
use crate::catalog::stored::sink_state::SinkState;
use crate::kv::store::StoreError;

/// A sink with its files and statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkReport {
    pub sink: Sink,
    pub statistics: SinkStatistics,
    /// Oldest first.
    pub files: Vec<FileStatistics>,
}

/// All sources and sinks that exist, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CatalogReport {
    pub sources: Vec<Source>,
    pub sinks: Vec<SinkReport>,
}

impl Repo {
    /// Reports all sinks. It reads each part of the store once; a sink that changes during the read
    /// is read again on its own.
    pub async fn catalog_report(&self) -> Result<CatalogReport, FileError> {
        let sources = self.read_all::<Source>(keys::SOURCES).await?;
        let states = self.sink_states().await?;
        let dead_letters = self.all_dead_letter_statistics().await?;
        let files = self.known_files(None).await?;
        let dead_letters_after = self.all_dead_letter_statistics().await?;
        let states_after = self.sink_states().await?;
        let cleared = |sink: &SinkKey| states.get(sink)?.cleared.map(|c| c.up_to);
        let mut by_sink: HashMap<SinkKey, Vec<FileStatistics>> = HashMap::new();
        for file in files.into_statistics(cleared) {
            let sink = file.file.key.sink.clone();
            by_sink.entry(sink).or_default().push(file);
        }
        let mut sinks = Vec::new();
        let of: HashMap<&SourceKey, &Source> = sources.iter().map(|s| (&s.key, &s.value)).collect();
        for sink in self.read_all::<Sink>(keys::SINKS).await? {
            // It is deleted and disabled with its source.
            let Some(source) = of.get(&sink.key.source) else {
                continue;
            };
            let key = &sink.key;
            let is_unchanged = states.get(key) == states_after.get(key)
                && dead_letters.get(key) == dead_letters_after.get(key);
            let (statistics, files) = if is_unchanged {
                let files = by_sink.remove(key).unwrap_or_default();
                let state = states.get(key).cloned().unwrap_or_default();
                let statistics = SinkStatistics {
                    dead_letters: dead_letters.get(key).copied().unwrap_or_default(),
                    ..sum(&files, &state)
                };
                (statistics, files)
            } else {
                self.sink_report(key).await?
            };
            sinks.push(SinkReport {
                sink: effective(source, sink.value),
                statistics,
                files,
            });
        }
        Ok(CatalogReport {
            sources: sources.into_iter().map(|s| s.value).collect(),
            sinks,
        })
    }

    async fn sink_states(&self) -> Result<BTreeMap<SinkKey, SinkState>, StoreError> {
        let mut states = BTreeMap::new();
        let key = |text: &str| text.parse().ok();
        self.for_each(keys::SINK_STATES, |text, state: Versioned<SinkState>| {
            states.extend(key(text).map(|sink| (sink, state.value)));
        })
        .await?;
        Ok(states)
    }

    async fn all_dead_letter_statistics(
        &self,
    ) -> Result<BTreeMap<SinkKey, DeadLetterStatistics>, StoreError> {
        let mut sums: BTreeMap<SinkKey, DeadLetterStatistics> = BTreeMap::new();
        // The key without its volume.
        let key = |text: &str| text.rsplit_once('/')?.0.parse().ok();
        // Read the counts last: a state is never ahead of them.
        self.for_each(
            keys::DEAD_LETTER_STATES,
            |text, state: Versioned<DeadLetterState>| {
                if let Some(sink) = key(text) {
                    sums.entry(sink).or_default().add_state(&state);
                }
            },
        )
        .await?;
        self.for_each(
            keys::DEAD_LETTER_COUNTS,
            |text, counts: Versioned<DeadLetterCounts>| {
                if let Some(sink) = key(text) {
                    sums.entry(sink).or_default().add_counts(&counts);
                }
            },
        )
        .await?;
        Ok(sums)
    }
}
