//! A provider in memory that fails as it is told, for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::message::MessageDelivery;
use crate::provider::{Ack, MessageBatch, Partition, Provider, ProviderConnection, SendError};
use crate::sync::lock;

/// What it does with the next batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScriptedPlan {
    /// Takes everything.
    #[default]
    Take,
    /// Takes nothing; connections can't be opened.
    Unavailable,
    /// Takes each batch, and the answer is lost.
    LoseAnswers,
    /// Takes the first half of each batch only.
    Half,
    /// Says nothing until it is given up.
    Silent,
}

/// Takes messages into memory. Clones are the same provider.
#[derive(Clone, Default)]
pub struct ScriptedProvider {
    state: Arc<Mutex<ScriptedState>>,
    keeps_cursor: bool,
}

#[derive(Default)]
struct ScriptedState {
    plan: ScriptedPlan,
    /// Payloads that are refused for good.
    poison: Vec<Vec<u8>>,
    taken: Vec<MessageDelivery>,
    cursors: BTreeMap<Arc<str>, u64>,
    opened: u64,
    silent: Vec<Ack>,
}

impl ScriptedProvider {
    /// One that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that keeps the cursor together with the messages, as a transaction would.
    #[must_use]
    pub fn keeping_cursor() -> Self {
        Self {
            keeps_cursor: true,
            ..Self::default()
        }
    }

    /// What it does from now on.
    pub fn plan(&self, plan: ScriptedPlan) {
        lock(&self.state).plan = plan;
    }

    /// Refuses messages with this payload for good.
    pub fn poison(&self, payload: &[u8]) {
        lock(&self.state).poison.push(payload.to_owned());
    }

    /// What it has taken, in order.
    #[must_use]
    pub fn taken(&self) -> Vec<MessageDelivery> {
        lock(&self.state).taken.clone()
    }

    /// Payloads of what it has taken of a topic, in order, as text.
    #[must_use]
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        let state = lock(&self.state);
        let of_topic = state.taken.iter().filter(|d| &*d.topic == topic);
        let text = |d: &MessageDelivery| {
            let bytes = d.message.payload.clone().unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        of_topic.map(text).collect()
    }

    /// How often a connection was opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        lock(&self.state).opened
    }
}

impl Provider for ScriptedProvider {
    fn name(&self) -> &str {
        "scripted"
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        let mut state = lock(&self.state);
        if state.plan == ScriptedPlan::Unavailable {
            return Err(SendError::retry("away"));
        }
        state.opened += 1;
        Ok(Box::new(ScriptedConnection {
            to: self.clone(),
            partition: partition.name.clone(),
            broken: false,
        }))
    }

    fn keeps_cursor(&self) -> bool {
        self.keeps_cursor
    }
}

struct ScriptedConnection {
    to: ScriptedProvider,
    partition: Arc<str>,
    broken: bool,
}

impl ProviderConnection for ScriptedConnection {
    fn pipeline(&self) -> usize {
        if self.to.keeps_cursor { 1 } else { 4 }
    }

    fn send(&mut self, batch: &MessageBatch, done: Ack) {
        let mut state = lock(&self.to.state);
        if self.broken {
            drop(state);
            return done.failed(&SendError::retry("this connection is broken"));
        }
        let messages = batch.messages();
        let fits = match state.plan {
            ScriptedPlan::Take | ScriptedPlan::LoseAnswers => messages.len(),
            ScriptedPlan::Unavailable => 0,
            ScriptedPlan::Half => messages.len() / 2,
            ScriptedPlan::Silent => {
                state.silent.push(done);
                return;
            }
        };
        let refused = |d: &MessageDelivery| {
            let payload = d.message.payload.as_deref().unwrap_or_default();
            state.poison.iter().any(|p| p == payload)
        };
        let mut results: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(i, d)| match (i < fits, refused(d)) {
                (false, _) => Err(SendError::retry("away")),
                (true, true) => Err(SendError::rejected("poison")),
                (true, false) => Ok(()),
            })
            .collect();
        if self.to.keeps_cursor && results.iter().any(Result::is_err) {
            // All or nothing.
            for result in results.iter_mut().filter(|r| r.is_ok()) {
                *result = Err(SendError::retry("aborted"));
            }
        }
        for (delivery, _) in messages.iter().zip(&results).filter(|(_, r)| r.is_ok()) {
            state.taken.push(delivery.clone());
        }
        if self.to.keeps_cursor && results.iter().all(Result::is_ok) {
            state
                .cursors
                .insert(self.partition.clone(), batch.next_sequence());
        }
        let lost = state.plan == ScriptedPlan::LoseAnswers;
        drop(state);
        self.broken = lost
            || results
                .iter()
                .any(|r| r.as_ref().is_err_and(|e| !e.is_rejected()));
        if lost {
            done.failed(&SendError::retry("the answer is lost"));
        } else {
            done.each(results);
        }
    }

    fn abort(&mut self) {
        let silent = std::mem::take(&mut lock(&self.to.state).silent);
        for done in silent {
            done.failed(&SendError::retry("given up"));
        }
    }

    fn cursor(&mut self) -> Result<Option<u64>, SendError> {
        Ok(lock(&self.to.state).cursors.get(&self.partition).copied())
    }
}
