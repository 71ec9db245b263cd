//! Transitions between the states of a file or a slice.

/// A transition that the states do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} can't go from {from} to {to}")]
pub struct InvalidTransition {
    /// The file or slice.
    pub what: String,
    /// Current state.
    pub from: &'static str,
    /// Requested state.
    pub to: &'static str,
}
