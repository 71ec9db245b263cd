//! Tasks of the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_record::{TemplateError, TemplateId, TemplateProgram};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::circuit_breaker::CircuitBreakers;

/// Result of a template: the text of the cell.
pub type TemplateResult = Result<Vec<u8>, TemplateError>;

/// A record, and templates to evaluate for it.
#[derive(Debug)]
pub(super) struct EvaluationTask {
    /// In the encoding of [`super::frame::encode_record`].
    pub(super) record: Vec<u8>,
    templates: Vec<Arc<TemplateProgram>>,
    /// One for each template.
    results: Vec<Option<TemplateResult>>,
    reply: oneshot::Sender<Vec<TemplateResult>>,
    _permit: TaskPermit,
}

/// Resources of a task, released with it.
#[derive(Debug)]
pub(super) struct TaskPermit {
    _bytes: OwnedSemaphorePermit,
    loads: [Arc<AtomicUsize>; 2],
}

impl TaskPermit {
    /// Counts one task in each of `loads`.
    pub(super) fn acquire(bytes: OwnedSemaphorePermit, loads: [Arc<AtomicUsize>; 2]) -> Self {
        for load in &loads {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            _bytes: bytes,
            loads,
        }
    }
}

impl Drop for TaskPermit {
    fn drop(&mut self) {
        for load in &self.loads {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl EvaluationTask {
    pub(super) fn new(
        record: Vec<u8>,
        templates: Vec<Arc<TemplateProgram>>,
        reply: oneshot::Sender<Vec<TemplateResult>>,
        permit: TaskPermit,
    ) -> Self {
        Self {
            record,
            results: vec![None; templates.len()],
            templates,
            reply,
            _permit: permit,
        }
    }

    /// Templates without an answer, in the order in which they will be answered.
    pub(super) fn open(&self) -> impl Iterator<Item = &Arc<TemplateProgram>> + Clone {
        let pairs = self.templates.iter().zip(&self.results);
        pairs.filter(|(_, a)| a.is_none()).map(|(t, _)| t)
    }

    pub(super) fn is_done(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }

    /// Answers the first open template; returns its id.
    pub(super) fn set_result(&mut self, answer: TemplateResult) -> Option<TemplateId> {
        let i = self.results.iter().position(Option::is_none)?;
        self.results[i] = Some(answer);
        Some(self.templates[i].id())
    }

    /// Returns the task if it must be sent: not when its caller was cancelled, and without the
    /// templates that have tripped since it was queued.
    pub(super) fn admit(mut self, breakers: &CircuitBreakers, now: Instant) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        for (template, result) in self.templates.iter().zip(&mut self.results) {
            if result.is_none()
                && let Some(remaining) = breakers.blocked(template.id(), now)
            {
                *result = Some(Err(tripped_error(remaining)));
            }
        }
        if self.is_done() {
            self.finish();
            return None;
        }
        Some(self)
    }

    /// Fails what is open, and finishes.
    pub(super) fn fail(mut self, error: &TemplateError) {
        for result in self.results.iter_mut().filter(|a| a.is_none()) {
            *result = Some(Err(error.clone()));
        }
        self.finish();
    }

    /// Sends the answers to the caller, if it still waits.
    pub(super) fn finish(self) {
        let results = self.results.into_iter().flatten().collect();
        drop(self.reply.send(results));
    }
}

/// Error of a template that is blocked.
pub(super) fn tripped_error(remaining: std::time::Duration) -> TemplateError {
    let seconds = remaining.as_secs() + 1;
    TemplateError::limit(format!(
        "the template exceeded its limits, it is tried again in {seconds} s"
    ))
}
