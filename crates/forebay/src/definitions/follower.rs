//! The server's own definitions: applies a folder at the start and when a file changes.
//!
//! Files are polled, which works on every file system and with the symbolic links of Kubernetes.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_api::status::DefinitionsStatusView;
use forebay_model::{Clock, HumanDuration};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    ApplyFailure, ApplyReport, DefinitionSet, PlanOptions, StepOutcome, problems_error, read_texts,
    run_all, set_of_folder,
};
use crate::api_client::ApiClient;
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::{DefinitionsSection, Environment};
use crate::monitoring::{DEFINITIONS_APPLIED, DEFINITIONS_FAILING};

/// Wait after a failure before the same files are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Set of the folder `/`.
const DEFAULT_SET: &str = "default";

/// State of the folder, shared with the API.
#[derive(Clone, Debug, Default)]
pub(crate) struct FollowerState(Arc<Mutex<Option<DefinitionsStatusView>>>);

impl FollowerState {
    /// `None` if the server follows no folder.
    pub(crate) fn view(&self) -> Option<DefinitionsStatusView> {
        self.0.lock().clone()
    }
}

/// Applies the definitions of the configured folder.
pub(crate) struct DefinitionFollower {
    pub(crate) api: ApiClient,
    pub(crate) env: Environment,
    pub(crate) state: FollowerState,
    /// The settings; a reload changes them.
    pub(crate) settings: watch::Receiver<DefinitionsSection>,
}

/// The folder, and how it is applied.
struct FollowedFolder {
    folder: PathBuf,
    options: PlanOptions,
    interval: HumanDuration,
}

impl FollowedFolder {
    /// `None` if no folder is configured.
    fn new(settings: &DefinitionsSection) -> Option<Self> {
        let folder = settings.dir.clone()?;
        let set = settings.set.clone();
        let set = set.or_else(|| set_of_folder(std::slice::from_ref(&folder)));
        Some(Self {
            folder,
            options: PlanOptions {
                set: Some(set.unwrap_or_else(|| DEFAULT_SET.to_owned())),
                prune: settings.prune,
                adopt: false,
            },
            interval: settings.interval,
        })
    }

    fn initial_status(&self) -> DefinitionsStatusView {
        DefinitionsStatusView {
            dir: self.folder.display().to_string(),
            applied_at: None,
            error: None,
        }
    }

    /// Hash of names, sizes and times of the files.
    async fn files_hash(&self) -> FilesHash {
        let folder = self.folder.clone();
        let hash = move || {
            let mut entries: Vec<String> = Vec::new();
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
                // Follows symbolic links.
                if let (true, Ok(metadata)) = (is_yaml, std::fs::metadata(&path)) {
                    use std::os::unix::fs::MetadataExt as _;
                    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
                    let (inode, length) = (metadata.ino(), metadata.len());
                    entries.push(format!("{path:?} {inode} {length} {seconds} {nanos}"));
                }
            }
            entries.sort();
            let mut hasher = DefaultHasher::new();
            entries.hash(&mut hasher);
            FilesHash(hasher.finish())
        };
        tokio::task::spawn_blocking(hash)
            .await
            .unwrap_or(FilesHash(0))
    }
}

/// State of the files at a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FilesHash(u64);

impl DefinitionFollower {
    /// Runs until the settings end.
    pub(crate) async fn run(mut self) {
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let folder = FollowedFolder::new(&settings);
            *self.state.0.lock() = folder.as_ref().map(FollowedFolder::initial_status);
            let following = async {
                match folder {
                    Some(folder) => self.follow(folder).await,
                    None => std::future::pending().await,
                }
            };
            let mut changes = self.settings.clone();
            tokio::select! {
                changed = changes.wait_for(|now| *now != settings) => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = following => {}
            }
        }
    }

    /// Applies the folder at once and after changes. Never ends.
    async fn follow(&self, folder: FollowedFolder) {
        let mut seen: Option<FilesHash> = None;
        let mut applied: Option<FilesHash> = None;
        let mut retry_at: Option<Instant> = None;
        loop {
            let now = folder.files_hash().await;
            // At the start there is no change to wait for the end of.
            let is_stable = seen.is_none() || seen == Some(now);
            let is_due = retry_at.is_some_and(|at| at <= Instant::now());
            if is_stable && (applied != Some(now) || is_due) {
                let result = self.apply(&folder).await;
                retry_at = result.is_err().then(|| Instant::now() + RETRY_INTERVAL);
                self.report(&folder, result.err(), applied == Some(now));
                applied = Some(now);
            }
            seen = Some(now);
            tokio::time::sleep(folder.interval.0).await;
        }
    }

    async fn apply(&self, folder: &FollowedFolder) -> Result<(), CliError> {
        let options = &folder.options;
        let folder = vec![folder.folder.clone()];
        let texts = tokio::task::spawn_blocking(move || read_texts(&folder)).await;
        let texts = texts.map_err(CliError::new)??;
        let definitions = DefinitionSet::from_texts(texts, &self.env);
        let definitions = definitions.map_err(|problems| problems_error(&problems))?;
        let plan = definitions.plan(&self.api, options).await;
        let plan = plan.map_err(|failure: ApplyFailure| CliError::from(failure))?;
        let outcomes = run_all(&self.api, &plan).await;
        for (step, outcome) in plan.steps.iter().zip(&outcomes) {
            let (what, change) = (step.what(), step.action.name());
            match outcome {
                StepOutcome::Done if step.has_change() => {
                    let mut fields = String::new();
                    for field in &step.fields {
                        // Writing to a String can't fail.
                        _ = write!(
                            fields,
                            "{}{}",
                            if fields.is_empty() { "" } else { ", " },
                            field.field
                        );
                    }
                    tracing::info!(%what, change, %fields, "definition applied");
                }
                StepOutcome::Done | StepOutcome::Skipped => {}
                StepOutcome::Failed(cause) => {
                    tracing::error!(%what, change, %cause, "a definition can't be applied");
                }
            }
        }
        for note in &plan.notes {
            tracing::debug!(note, "definitions");
        }
        let report = ApplyReport {
            plan: &plan,
            outcomes: Some(&outcomes),
            urls: [].into(),
        };
        report.result()
    }

    /// Logs, counts and shows the result. A repeated failure is not logged again.
    fn report(&self, folder: &FollowedFolder, failure: Option<CliError>, is_retry: bool) {
        let folder = folder.folder.display();
        let mut state = self.state.0.lock();
        let Some(view) = state.as_mut() else { return };
        let outcome = if failure.is_some() {
            "failed"
        } else {
            "applied"
        };
        metrics::counter!(DEFINITIONS_APPLIED, "outcome" => outcome).increment(1);
        metrics::gauge!(DEFINITIONS_FAILING).set(if failure.is_some() { 1.0 } else { 0.0 });
        let cause = failure.map(|failure| failure.to_string());
        match &cause {
            Some(cause) if !is_retry || view.error.as_ref() != Some(cause) => {
                tracing::error!(%folder, %cause, "the definitions are not applied, the former ones remain in force");
            }
            Some(_) => {}
            None => tracing::info!(%folder, "definitions applied"),
        }
        if cause.is_none() {
            view.applied_at = Some(SystemClock.now());
        }
        view.error = cause;
    }
}
