//! Signals that stop the process or reload its configuration.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli_error::CliError;

/// SIGTERM and SIGINT (Ctrl-C).
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Installs the handlers. Call within a runtime.
    pub(crate) fn catch() -> Result<Self, CliError> {
        let catch = |kind| {
            signal(kind).map_err(|e| CliError::new(format_args!("can't catch signals: {e}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next signal and returns its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP, which reloads the configuration.
#[derive(Debug)]
pub(crate) struct ReloadSignals(Signal);

impl ReloadSignals {
    /// Installs the handler. Call within a runtime.
    pub(crate) fn catch() -> Result<Self, CliError> {
        let caught = signal(SignalKind::hangup());
        let caught = caught.map_err(|e| CliError::new(format_args!("can't catch signals: {e}")))?;
        Ok(Self(caught))
    }

    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Exits immediately, as a second signal requests. Acknowledged records are on disk.
#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "destructors would wait for work that the second signal aborts"
)]
pub(crate) fn end_at_once() -> ! {
    std::process::exit(130)
}
