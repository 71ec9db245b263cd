//! Signals that ask the process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// SIGTERM and SIGINT (Ctrl-C), caught from now on.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to catch them. To be called within a runtime.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let catch =
            |kind| signal(kind).map_err(|e| Failure::new(format_args!("can't catch signals: {e}")));
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

/// Ends the process at once, as a second signal asks for. What is acknowledged is on disk.
#[allow(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "destructors would wait for what the second signal says not to wait for"
)]
pub(crate) fn end_at_once() -> ! {
    std::process::exit(130)
}
