//! Report of the changes that were or would be applied, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{ApplyAction, ApplyPlan, FieldDifference, StepOutcome};
use crate::cli_error::CliError;

/// The changes of a plan. Without outcomes nothing was changed.
#[derive(Debug)]
pub(crate) struct ApplyReport<'p> {
    pub(crate) plan: &'p ApplyPlan,
    pub(crate) outcomes: Option<&'p [StepOutcome]>,
    /// URLs of sources for senders, by id.
    pub(crate) urls: BTreeMap<String, String>,
}

/// JSON form of a report.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonReport<'p> {
    dry_run: bool,
    changes: Vec<JsonChange<'p>>,
    notes: &'p [String],
    summary: ChangeCounts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonChange<'p> {
    action: ApplyAction,
    source_id: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink_id: Option<&'p str>,
    fields: &'p [FieldDifference],
    /// Cause of a step that failed or was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'p str>,
    /// Of a source: URL for senders.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'p str>,
}

/// Numbers of sources and sinks.
#[derive(Serialize)]
struct ChangeCounts {
    created: usize,
    changed: usize,
    deleted: usize,
    unchanged: usize,
    failed: usize,
}

impl<'p> ApplyReport<'p> {
    /// Cause of a step that failed or was not tried.
    fn error(&self, index: usize) -> Option<&'p str> {
        match self.outcomes?.get(index)? {
            StepOutcome::Done => None,
            StepOutcome::Failed(cause) => Some(cause),
            StepOutcome::Skipped => Some("not tried: another change has failed"),
        }
    }

    fn counts(&self) -> ChangeCounts {
        let count = |action| {
            let steps = self.plan.steps.iter().enumerate();
            let steps = steps.filter(|(i, s)| s.action == action && self.error(*i).is_none());
            steps.count()
        };
        let all = 0..self.plan.steps.len();
        ChangeCounts {
            created: count(ApplyAction::Create),
            changed: count(ApplyAction::Update),
            deleted: count(ApplyAction::Delete),
            unchanged: count(ApplyAction::Keep),
            failed: all.filter(|i| self.error(*i).is_some()).count(),
        }
    }

    pub(crate) fn json(&self) -> JsonReport<'_> {
        let steps = self.plan.steps.iter().enumerate();
        let change = |(i, step): (usize, &'p super::ApplyStep)| JsonChange {
            action: step.action,
            source_id: &step.source,
            sink_id: step.sink.as_deref(),
            fields: &step.fields,
            error: self.error(i),
            url: None,
        };
        let mut changes: Vec<JsonChange<'_>> = steps.map(change).collect();
        for change in changes.iter_mut().filter(|change| change.sink_id.is_none()) {
            change.url = self.urls.get(change.source_id).map(String::as_str);
        }
        JsonReport {
            dry_run: self.outcomes.is_none(),
            changes,
            notes: &self.plan.notes,
            summary: self.counts(),
        }
    }

    /// An error if a step failed.
    pub(crate) fn result(&self) -> Result<(), CliError> {
        match self.counts().failed {
            0 => Ok(()),
            failed => Err(CliError::new(format_args!(
                "{failed} of {} sources and sinks were not applied",
                self.plan.steps.len()
            ))),
        }
    }
}

impl fmt::Display for ApplyReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.plan.steps.iter().enumerate() {
            if let Some(error) = self.error(i) {
                writeln!(f, "! {}: {error}", step.what())?;
                continue;
            }
            writeln!(f, "{} {}", step.action.sign(), step.what())?;
            if step.action == ApplyAction::Update {
                for field in &step.fields {
                    writeln!(f, "    {field}")?;
                }
            }
        }
        let sources = self.plan.steps.iter().filter(|step| step.sink.is_none());
        for url in sources.filter_map(|step| self.urls.get(&step.source)) {
            writeln!(f, "post to {url}")?;
        }
        let ChangeCounts {
            created,
            changed,
            deleted,
            unchanged,
            failed,
        } = self.counts();
        if self.outcomes.is_none() {
            return writeln!(
                f,
                "dry run: {created} to create, {changed} to change, {deleted} to delete, {unchanged} unchanged"
            );
        }
        write!(
            f,
            "{created} created, {changed} changed, {deleted} deleted, {unchanged} unchanged"
        )?;
        match failed {
            0 => writeln!(f),
            failed => writeln!(f, ", {failed} failed"),
        }
    }
}
