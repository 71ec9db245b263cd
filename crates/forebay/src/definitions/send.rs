//! The steps of plans sent to the server: checked together, then done.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Change, Plan, Step};
use crate::api::{ApiClient, PARALLEL, SOURCES};
use crate::failure::Failure;

/// Addresses of definitions begin with it.
const BRANCH: &str = "/v1/branches/default/";
/// Changes that the server checks at a time.
const CHECKED_MAX: usize = 1000;
/// Bytes of them, so that the request is within every `api.bodyLimit` of 1MB and more.
const CHECKED_BYTES_MAX: usize = 768 << 10;

/// Does the steps of all plans: first the sources, then their sinks, some at a time. `done` is told
/// of each that was done, in the order of the plans. After the first that is refused no other is
/// begun; those that were begun are brought to their end.
///
/// # Errors
/// What was refused first.
pub(crate) async fn run_all(
    api: &ApiClient,
    plans: &[Plan],
    mut done: impl FnMut(&Step) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let groups: Vec<Vec<&[Step]>> = plans.iter().map(Plan::groups).collect();
    let is_source = |group: &&&[Step]| group.first().is_some_and(|step| step.sink.is_none());
    let sources: Vec<&[Step]> = groups.iter().flatten().filter(is_source).copied().collect();
    let sinks = groups.iter().flatten().filter(|g| !is_source(g)).copied();
    for groups in [sources, sinks.collect()] {
        let stopped = AtomicBool::new(false);
        let mut running = stream::iter(groups)
            .map(|steps| run_group(api, steps, &stopped))
            .buffered(PARALLEL);
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

/// The steps that were done, and why the next one was not.
async fn run_group<'p>(
    api: &ApiClient,
    steps: &'p [Step],
    stopped: &AtomicBool,
) -> (&'p [Step], Option<Failure>) {
    for (done, step) in steps.iter().enumerate() {
        if stopped.load(Ordering::Relaxed) {
            return (&steps[..done], None);
        }
        if let Err(failure) = step.run(api).await {
            stopped.store(true, Ordering::Relaxed);
            let failure = failure.about(&step.what);
            return (&steps[..done], Some(failure));
        }
    }
    (steps, None)
}

impl Step {
    /// Does it.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn run(&self, api: &ApiClient) -> Result<(), Failure> {
        match self.change {
            Change::Create => api.task(Method::POST, &self.path, Some(&self.body)).await,
            Change::Update => api.task(Method::PATCH, &self.path, Some(&self.body)).await,
            Change::Keep => Ok(()),
        }
    }

    /// As the server checks it without doing it; nothing when nothing would be done.
    fn checked(&self) -> Option<Value> {
        let method = match self.change {
            Change::Create => "POST",
            Change::Update => "PATCH",
            Change::Keep => return None,
        };
        let path = self.path.strip_prefix(BRANCH).unwrap_or(&self.path);
        Some(json!({ "method": method, "path": path, "body": self.body }))
    }
}

/// Asks the server what it would refuse of all the steps, and changes nothing: for each, the index
/// of its plan, the step, and why.
///
/// # Errors
/// When the server can't be asked.
pub(crate) async fn refused<'p>(
    api: &ApiClient,
    plans: &'p [Plan],
) -> Result<Vec<(usize, &'p Step, String)>, Failure> {
    let steps = |(i, plan): (usize, &'p Plan)| plan.steps.iter().map(move |step| (i, step));
    let all = plans.iter().enumerate().flat_map(steps);
    let all: Vec<Checked<'_>> = all
        .filter_map(|(i, step)| Some((i, step, step.checked()?)))
        .collect();
    let requests = portions(&all);
    let checking = requests.iter().map(|changes| check(api, changes));
    let mut found: Vec<(usize, &Step, String)> = stream::iter(checking)
        .buffered(PARALLEL)
        .try_concat()
        .await?;
    // A source that is made is in each portion of its sinks.
    found.dedup_by(|a, b| std::ptr::eq(a.1, b.1) && a.2 == b.2);
    Ok(found)
}

/// A change that is checked: the index of its plan, its step, and how it is sent.
type Checked<'p> = (usize, &'p Step, Value);

/// The changes in requests that the server takes. Sinks rely on their source: one that would be made
/// stands at the beginning of each request that has sinks of it.
fn portions<'c, 'p>(all: &'c [Checked<'p>]) -> Vec<Vec<&'c Checked<'p>>> {
    let mut requests: Vec<Vec<&Checked<'_>>> = Vec::new();
    let mut source: Option<&Checked<'_>> = None;
    let mut bytes = usize::MAX;
    for change in all {
        let (plan, step, body) = change;
        let made = step.sink.is_none() && step.change == Change::Create && step.path == SOURCES;
        if made {
            source = Some(change);
        }
        let size = body.to_string().len();
        let count = requests.last().map_or(usize::MAX, Vec::len);
        if count >= CHECKED_MAX || bytes.saturating_add(size) > CHECKED_BYTES_MAX {
            let needed = source.filter(|s| !made && s.0 == *plan);
            bytes = needed.map_or(0, |s| s.2.to_string().len());
            requests.push(needed.into_iter().collect());
        }
        bytes = bytes.saturating_add(size);
        if let Some(request) = requests.last_mut() {
            request.push(change);
        }
    }
    requests
}

async fn check<'p>(
    api: &ApiClient,
    changes: &[&Checked<'p>],
) -> Result<Vec<(usize, &'p Step, String)>, Failure> {
    let path = format!("{BRANCH}definitions/validate");
    let bodies: Vec<&Value> = changes.iter().map(|(_, _, change)| change).collect();
    let verdict = api
        .call(Method::POST, &path, Some(&json!({ "changes": bodies })))
        .await?;
    let mut found = Vec::new();
    let problems = verdict.get("problems").and_then(Value::as_array);
    for problem in problems.into_iter().flatten() {
        let index = problem.get("change").and_then(Value::as_u64);
        let index = index.and_then(|i| usize::try_from(i).ok());
        if let Some((plan, step, _)) = index.and_then(|i| changes.get(i)) {
            found.push((*plan, *step, text(problem, "message").to_owned()));
        }
    }
    Ok(found)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
