//! Sends the steps of plans to the server: validates all together, then runs them.

use std::sync::atomic::{AtomicBool, Ordering};

use forebay_api::definitions::{DefinitionChange, DefinitionCheck, DefinitionReport};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;

use super::{ApplyAction, ApplyPlan, ApplyStep};
use crate::api_client::{ApiClient, PARALLEL_REQUESTS, SOURCES};
use crate::cli_error::CliError;

/// Prefix of paths of definitions.
const BRANCH: &str = "/v1/branches/default/";
/// Most changes in one validation request.
const CHECKED_MAX: usize = 1000;
/// Maximum bytes of such a request: fits every `api.bodyLimit` of at least 1MB.
const CHECKED_BYTES_MAX: usize = 768 << 10;

/// Runs the steps of all plans: first the sources, then their sinks, several concurrently. Calls `done`
/// for each finished step, in plan order. After the first error no new step starts; started steps
/// complete.
pub(crate) async fn run_all(
    api: &ApiClient,
    plans: &[ApplyPlan],
    mut done: impl FnMut(&ApplyStep) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let groups: Vec<Vec<&[ApplyStep]>> = plans.iter().map(ApplyPlan::groups).collect();
    let is_source = |group: &&&[ApplyStep]| group.first().is_some_and(|step| step.sink.is_none());
    let sources: Vec<&[ApplyStep]> = groups.iter().flatten().filter(is_source).copied().collect();
    let sinks = groups.iter().flatten().filter(|g| !is_source(g)).copied();
    for groups in [sources, sinks.collect()] {
        let stopped = AtomicBool::new(false);
        let mut running = stream::iter(groups)
            .map(|steps| run_group(api, steps, &stopped))
            .buffered(PARALLEL_REQUESTS);
        let mut failed = None;
        while let Some((steps, failure)) = running.next().await {
            steps.iter().try_for_each(&mut done)?;
            failed = failed.or(failure);
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
    }
    Ok(())
}

/// The finished steps, and the error of the next one.
async fn run_group<'p>(
    api: &ApiClient,
    steps: &'p [ApplyStep],
    stopped: &AtomicBool,
) -> (&'p [ApplyStep], Option<CliError>) {
    for (done, step) in steps.iter().enumerate() {
        if stopped.load(Ordering::Relaxed) {
            return (&steps[..done], None);
        }
        if let Err(failure) = step.run(api).await {
            stopped.store(true, Ordering::Relaxed);
            let failure = failure.with_context(&step.what);
            return (&steps[..done], Some(failure));
        }
    }
    (steps, None)
}

impl ApplyStep {
    pub(crate) async fn run(&self, api: &ApiClient) -> Result<(), CliError> {
        match self.change {
            ApplyAction::Create => {
                api.run_task(Method::POST, &self.path, Some(&self.body))
                    .await
            }
            ApplyAction::Update => {
                api.run_task(Method::PATCH, &self.path, Some(&self.body))
                    .await
            }
            ApplyAction::Keep => Ok(()),
        }
    }

    /// The request that validates this step; `None` for an unchanged resource.
    fn validation_request(&self) -> Option<DefinitionChange> {
        let method = match self.change {
            ApplyAction::Create => "POST",
            ApplyAction::Update => "PATCH",
            ApplyAction::Keep => return None,
        };
        let path = self.path.strip_prefix(BRANCH).unwrap_or(&self.path);
        Some(DefinitionChange {
            method: method.to_owned(),
            path: path.to_owned(),
            body: self.body.clone(),
        })
    }
}

/// Asks the server to validate all steps without changes. Returns the rejected ones: index of the plan,
/// the step, and the reason.
pub(crate) async fn rejected_steps<'p>(
    api: &ApiClient,
    plans: &'p [ApplyPlan],
) -> Result<Vec<(usize, &'p ApplyStep, String)>, CliError> {
    let steps = |(i, plan): (usize, &'p ApplyPlan)| plan.steps.iter().map(move |step| (i, step));
    let all = plans.iter().enumerate().flat_map(steps);
    let all: Vec<CheckedChange<'_>> = all
        .filter_map(|(i, step)| Some((i, step, step.validation_request()?)))
        .collect();
    let requests = request_batches(&all);
    let checking = requests.iter().map(|changes| validate(api, changes));
    let mut found: Vec<(usize, &ApplyStep, String)> = stream::iter(checking)
        .buffered(PARALLEL_REQUESTS)
        .try_concat()
        .await?;
    // A new source is in each batch of its sinks.
    found.dedup_by(|a, b| std::ptr::eq(a.1, b.1) && a.2 == b.2);
    Ok(found)
}

/// A change to validate: index of the plan, step, and request.
type CheckedChange<'p> = (usize, &'p ApplyStep, DefinitionChange);

/// Splits the changes into requests within the limits. Sinks depend on their source: a new source is
/// repeated at the start of each request with sinks of it.
fn request_batches<'c, 'p>(all: &'c [CheckedChange<'p>]) -> Vec<Vec<&'c CheckedChange<'p>>> {
    let mut requests: Vec<Vec<&CheckedChange<'_>>> = Vec::new();
    let mut source: Option<&CheckedChange<'_>> = None;
    let mut bytes = usize::MAX;
    for change in all {
        let (plan, step, body) = change;
        let made =
            step.sink.is_none() && step.change == ApplyAction::Create && step.path == SOURCES;
        if made {
            source = Some(change);
        }
        let size = json_size(body);
        let count = requests.last().map_or(usize::MAX, Vec::len);
        if count >= CHECKED_MAX || bytes.saturating_add(size) > CHECKED_BYTES_MAX {
            let needed = source.filter(|s| !made && s.0 == *plan);
            bytes = needed.map_or(0, |s| json_size(&s.2));
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
) -> Result<Vec<(usize, &'p ApplyStep, String)>, CliError> {
    let path = format!("{BRANCH}definitions/validate");
    let changes_only = changes.iter().map(|(_, _, change)| change.clone());
    let request = DefinitionCheck {
        changes: changes_only.collect(),
    };
    let report: DefinitionReport = api.call(Method::POST, &path, &request).await?;
    let rejected = report.violations.into_iter().filter_map(|violation| {
        let (plan, step, _) = changes.get(violation.change)?;
        Some((*plan, *step, violation.message))
    });
    Ok(rejected.collect())
}

fn json_size(change: &DefinitionChange) -> usize {
    // Its keys are strings, so that it has a JSON form.
    serde_json::to_string(change).map_or(0, |json| json.len())
}
