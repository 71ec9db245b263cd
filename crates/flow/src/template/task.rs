//! Evaluations on their way through the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_record::{Template, TemplateError, TemplateId};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::pool::Evaluated;
use super::standing::Standings;

/// A record, and templates to evaluate for it.
#[derive(Debug)]
pub(super) struct Task {
    /// As [`super::frame::encode_record`] writes it.
    pub(super) record: Vec<u8>,
    templates: Vec<Arc<Template>>,
    /// One for each template.
    answers: Vec<Option<Evaluated>>,
    reply: oneshot::Sender<Vec<Evaluated>>,
    _room: Room,
}

/// What a task takes up, given back with it.
#[derive(Debug)]
pub(super) struct Room {
    _bytes: OwnedSemaphorePermit,
    loads: [Arc<AtomicUsize>; 2],
}

impl Room {
    /// Counts one task on each of `loads`.
    pub(super) fn take(bytes: OwnedSemaphorePermit, loads: [Arc<AtomicUsize>; 2]) -> Self {
        for load in &loads {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            _bytes: bytes,
            loads,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for load in &self.loads {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Task {
    pub(super) fn new(
        record: Vec<u8>,
        templates: Vec<Arc<Template>>,
        reply: oneshot::Sender<Vec<Evaluated>>,
        room: Room,
    ) -> Self {
        Self {
            record,
            answers: vec![None; templates.len()],
            templates,
            reply,
            _room: room,
        }
    }

    /// Templates that have no answer yet, in the order in which they will be answered.
    pub(super) fn open(&self) -> impl Iterator<Item = &Arc<Template>> + Clone {
        let pairs = self.templates.iter().zip(&self.answers);
        pairs.filter(|(_, a)| a.is_none()).map(|(t, _)| t)
    }

    pub(super) fn is_done(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// Answers the first open template; says which one it was.
    pub(super) fn answer(&mut self, answer: Evaluated) -> Option<TemplateId> {
        let i = self.answers.iter().position(Option::is_none)?;
        self.answers[i] = Some(answer);
        Some(self.templates[i].id())
    }

    /// The task if it must be sent: not when nobody waits for it any longer, and without the
    /// templates that were shut out since it came.
    pub(super) fn admit(mut self, standings: &Standings, now: Instant) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        for (template, answer) in self.templates.iter().zip(&mut self.answers) {
            if answer.is_none()
                && let Some(left) = standings.blocked(template.id(), now)
            {
                *answer = Some(Err(shut_out(left)));
            }
        }
        if self.is_done() {
            self.finish();
            return None;
        }
        Some(self)
    }

    /// Fails what is open, and leaves.
    pub(super) fn fail(mut self, error: &TemplateError) {
        for answer in self.answers.iter_mut().filter(|a| a.is_none()) {
            *answer = Some(Err(error.clone()));
        }
        self.finish();
    }

    /// Gives the answers to whoever asked, if they still wait.
    pub(super) fn finish(self) {
        let answers = self.answers.into_iter().flatten().collect();
        drop(self.reply.send(answers));
    }
}

/// The error of an evaluation that is not tried.
pub(super) fn shut_out(left: std::time::Duration) -> TemplateError {
    let seconds = left.as_secs() + 1;
    TemplateError::limit(format!(
        "the template went over its limits, it is tried again in {seconds} s"
    ))
}
