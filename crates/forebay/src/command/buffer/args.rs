//! Arguments of the commands of buffers.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(crate) struct BufferArgs {
    /// Directory of the buffer; created if missing
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
}

impl BufferArgs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Log of the messages; the status file of `send` is next to it.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }
}
