//! Signals that ask the process to end, or to read its configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli_error::CliError;

/// SIGTERM and SIGINT (Ctrl-C), caught from now on.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to catch them. To be called within a runtime.
    pub(crate) fn catch() -> Result<Self, CliError> {
        let catch = |kind| {
            signal(kind).map_err(|e| CliError::new(format_args!("can't catch signals: {e}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one, and says which.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP, caught from now on: it asks for the configuration to be read again.
#[derive(Debug)]
pub(crate) struct ReloadSignals(Signal);

impl ReloadSignals {
    /// Begins to catch it. To be called within a runtime.
    pub(crate) fn catch() -> Result<Self, CliError> {
        let caught = signal(SignalKind::hangup());
        let caught = caught.map_err(|e| CliError::new(format_args!("can't catch signals: {e}")))?;
        Ok(Self(caught))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Ends the process at once, as a second signal asks for. What is acknowledged is on disk.
#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "destructors would wait for what the second signal says not to wait for"
)]
pub(crate) fn end_at_once() -> ! {
    std::process::exit(130)
}
