//! Sends the steps of a plan to the server: validates all together, then runs them.

use std::collections::BTreeSet;

use forebay_api::definitions::{
    DefinitionChange, DefinitionCheck, DefinitionReport, DefinitionViolation,
};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;

use super::step::StepRequest;
use super::{ApplyAction, ApplyPlan, ApplyStep};
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES};
use crate::cli_error::CliError;

/// Prefix of paths of definitions.
const BRANCH: &str = "/v1/branches/default/";
/// Most changes in one validation request.
const CHECKED_MAX: usize = 1000;
/// Maximum bytes of such a request: fits every `api.bodyLimit` of at least 1MB.
const CHECKED_BYTES_MAX: usize = 768 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    /// Changed, or nothing to change.
    Done,
    /// The server rejected it, or was not reached.
    Failed(String),
    /// Not tried: an earlier step that it needs has failed.
    Skipped,
}

/// Runs a plan, several requests at a time: first the sources, then their sinks, then the deletions. A
/// failed step does not stop others, except for those that depend on it: sinks of a source that was not
/// created, and all deletions. Returns the outcomes of the steps.
pub(crate) async fn run_all(api: &ApiClient, plan: &ApplyPlan) -> Vec<StepOutcome> {
    let mut outcomes = vec![StepOutcome::Skipped; plan.steps.len()];
    let phase = |step: &ApplyStep| match (step.action, &step.sink) {
        (ApplyAction::Delete, _) => 2,
        (_, Some(_)) => 1,
        (_, None) => 0,
    };
    let mut failed_sources = BTreeSet::new();
    for number in 0..3 {
        if number == 2 && outcomes.iter().any(|o| matches!(o, StepOutcome::Failed(_))) {
            break;
        }
        let steps = plan.steps.iter().enumerate();
        let steps = steps.filter(|(_, step)| phase(step) == number);
        let steps = steps.filter(|(_, step)| !failed_sources.contains(&step.source));
        let steps: Vec<(usize, &ApplyStep)> = steps.collect();
        let mut running = stream::iter(steps)
            .map(async |(index, step)| (index, step.run(api).await))
            .buffered(PARALLEL_REQUESTS);
        while let Some((index, result)) = running.next().await {
            outcomes[index] = match result {
                Ok(()) => StepOutcome::Done,
                Err(failure) => StepOutcome::Failed(failure.message().to_owned()),
            };
        }
        for (step, outcome) in plan.steps.iter().zip(&outcomes) {
            if step.sink.is_none() && matches!(outcome, StepOutcome::Failed(_)) {
                failed_sources.insert(step.source.clone());
            }
        }
    }
    outcomes
}

impl ApplyStep {
    async fn run(&self, api: &ApiClient) -> Result<(), CliError> {
        for request in &self.requests {
            let body = Some(&request.body).filter(|body| !body.is_null());
            api.run_task(request.method.clone(), &request.path, body)
                .await?;
        }
        Ok(())
    }
}

/// The request that validates another one. A deletion needs none.
fn validation_request(request: &StepRequest) -> Option<DefinitionChange> {
    if request.method == Method::DELETE {
        return None;
    }
    let path = request.path.strip_prefix(BRANCH).unwrap_or(&request.path);
    Some(DefinitionChange {
        method: request.method.to_string(),
        path: path.to_owned(),
        body: request.body.clone(),
    })
}

/// A step that the server would reject.
#[derive(Debug)]
pub(crate) struct RejectedStep<'p> {
    pub(crate) step: &'p ApplyStep,
    pub(crate) violation: DefinitionViolation,
}

/// Asks the server to validate all steps without changes. Returns the rejected ones.
pub(crate) async fn rejected_steps<'p>(
    api: &ApiClient,
    plan: &'p ApplyPlan,
) -> Result<Vec<RejectedStep<'p>>, CliError> {
    let requests = plan.steps.iter().flat_map(|step| {
        let requests = step.requests.iter().filter_map(validation_request);
        requests.map(move |change| CheckedChange { step, change })
    });
    let all: Vec<CheckedChange<'_>> = requests.collect();
    let batches = request_batches(&all);
    let checking = batches.iter().map(|changes| validate(api, changes));
    let mut found: Vec<RejectedStep<'p>> = stream::iter(checking)
        .buffered(PARALLEL_REQUESTS)
        .try_concat()
        .await?;
    // A new source is in each batch of its sinks.
    found.dedup_by(|a, b| {
        std::ptr::eq(a.step, b.step)
            && a.violation.message == b.violation.message
            && a.violation.field == b.violation.field
    });
    Ok(found)
}

/// A change to validate.
struct CheckedChange<'p> {
    step: &'p ApplyStep,
    change: DefinitionChange,
}

/// Splits the changes into requests within the limits. Sinks depend on their source: a new source is
/// repeated at the start of each request with sinks of it.
fn request_batches<'c, 'p>(all: &'c [CheckedChange<'p>]) -> Vec<Vec<&'c CheckedChange<'p>>> {
    let mut requests: Vec<Vec<&CheckedChange<'_>>> = Vec::new();
    let mut source: Option<&CheckedChange<'_>> = None;
    let mut bytes = usize::MAX;
    for change in all {
        let made = change.change.method == "POST" && SOURCES.ends_with(&change.change.path);
        if made {
            source = Some(change);
        }
        let size = json_size(&change.change);
        let count = requests.last().map_or(usize::MAX, Vec::len);
        if count >= CHECKED_MAX || bytes.saturating_add(size) > CHECKED_BYTES_MAX {
            let needed = source.filter(|s| !made && s.step.source == change.step.source);
            bytes = needed.map_or(0, |s| json_size(&s.change));
            requests.push(needed.into_iter().collect());
        }
        bytes = bytes.saturating_add(size);
        if let Some(request) = requests.last_mut() {
            request.push(change);
        }
    }
    requests
}

async fn validate<'p>(
    api: &ApiClient,
    changes: &[&CheckedChange<'p>],
) -> Result<Vec<RejectedStep<'p>>, CliError> {
    let path = format!("{BRANCH}definitions/validate");
    let changes_only = changes.iter().map(|checked| checked.change.clone());
    let request = DefinitionCheck {
        changes: changes_only.collect(),
    };
    let report: DefinitionReport = api.call(Method::POST, &path, &request).await?;
    let rejected = report.violations.into_iter().filter_map(|violation| {
        let step = changes.get(violation.change)?.step;
        Some(RejectedStep { step, violation })
    });
    Ok(rejected.collect())
}

fn json_size(change: &DefinitionChange) -> usize {
    // Its keys are strings, so that it has a JSON form.
    serde_json::to_string(change).map_or(0, |json| json.len())
}
