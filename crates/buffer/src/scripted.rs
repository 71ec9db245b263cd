//! A provider in memory with scripted failures, for tests and simulations.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::message::MessageDelivery;
use crate::provider::{Ack, MessageBatch, Partition, Provider, ProviderConnection, SendError};

/// Behavior of a [`ScriptedProvider`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScriptedPlan {
    /// Accepts everything.
    #[default]
    Take,
    /// Accepts nothing and opens no connection.
    Unavailable,
    /// Accepts each batch but loses the response.
    LoseAnswers,
    /// Accepts the first half of each batch.
    Half,
    /// Does not respond until aborted.
    Silent,
}

/// Stores messages in memory. Clones share their state.
#[derive(Clone, Default)]
pub struct ScriptedProvider {
    state: Arc<Mutex<ScriptedState>>,
    keeps_cursor: bool,
}

#[derive(Default)]
struct ScriptedState {
    plan: ScriptedPlan,
    /// Payloads that are rejected for good.
    poison: Vec<Vec<u8>>,
    taken: Vec<MessageDelivery>,
    cursors: BTreeMap<Arc<str>, u64>,
    opened: u64,
    silent: Vec<Ack>,
}

impl ScriptedProvider {
    /// A provider that accepts everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// A provider that stores the cursor together with the messages, as a transaction would.
    pub fn keeping_cursor() -> Self {
        Self {
            keeps_cursor: true,
            ..Self::default()
        }
    }

    /// Sets the behavior from now on.
    pub fn plan(&self, plan: ScriptedPlan) {
        self.state.lock().plan = plan;
    }

    /// Rejects messages with this payload for good.
    pub fn poison(&self, payload: &[u8]) {
        self.state.lock().poison.push(payload.to_owned());
    }

    /// Accepted messages in order.
    pub fn taken(&self) -> Vec<MessageDelivery> {
        self.state.lock().taken.clone()
    }

    /// Payloads of the accepted messages of a topic, in order, as text.
    pub fn payloads(&self, topic: &str) -> Vec<String> {
        let state = self.state.lock();
        let of_topic = state.taken.iter().filter(|d| &*d.topic == topic);
        let text = |d: &MessageDelivery| {
            let bytes = d.message.payload.clone().unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        of_topic.map(text).collect()
    }

    /// Number of connections opened.
    pub fn opened(&self) -> u64 {
        self.state.lock().opened
    }
}

impl Provider for ScriptedProvider {
    fn name(&self) -> &str {
        "scripted"
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn ProviderConnection>, SendError> {
        let mut state = self.state.lock();
        if state.plan == ScriptedPlan::Unavailable {
            return Err(SendError::retry("unavailable"));
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

    fn send(&mut self, batch: &MessageBatch, ack: Ack) {
        let mut state = self.to.state.lock();
        if self.broken {
            drop(state);
            return ack.failed(&SendError::retry("the connection is broken"));
        }
        let messages = batch.messages();
        let fits = match state.plan {
            ScriptedPlan::Take | ScriptedPlan::LoseAnswers => messages.len(),
            ScriptedPlan::Unavailable => 0,
            ScriptedPlan::Half => messages.len() / 2,
            ScriptedPlan::Silent => {
                state.silent.push(ack);
                return;
            }
        };
        let rejected = |d: &MessageDelivery| {
            let payload = d.message.payload.as_deref().unwrap_or_default();
            state.poison.iter().any(|p| p == payload)
        };
        let mut results: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(i, d)| match (i < fits, rejected(d)) {
                (false, _) => Err(SendError::retry("unavailable")),
                (true, true) => Err(SendError::rejected("poison")),
                (true, false) => Ok(()),
            })
            .collect();
        if self.to.keeps_cursor && results.iter().any(Result::is_err) {
            // A transaction: all or nothing.
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
            ack.failed(&SendError::retry("the response was lost"));
        } else {
            ack.each(results);
        }
    }

    fn abort(&mut self) {
        let silent = std::mem::take(&mut self.to.state.lock().silent);
        for ack in silent {
            ack.failed(&SendError::retry("aborted"));
        }
    }

    fn cursor(&mut self) -> Result<Option<u64>, SendError> {
        Ok(self.to.state.lock().cursors.get(&self.partition).copied())
    }
}
