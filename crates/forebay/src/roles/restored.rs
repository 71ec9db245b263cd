//! First start with older metadata: from a backup, from a copy, or after an accepted loss.

use forebay_meta::FileError;
use forebay_model::FileState;

use super::NodeContext;
use crate::cli_error::CliError;
use crate::config::Config;
use crate::data_dir::RESTORED_FILE;

impl NodeContext {
    /// Closes every file that was open at that moment, before any record is accepted.
    ///
    /// Such a file may have continued afterwards and may be imported: then a table outside the restored
    /// data has the file in its ledger, and another import of it does nothing. New records must not be
    /// written to it: they would be treated as imported.
    pub(super) async fn close_restored_files(&self, config: &Config) -> Result<(), CliError> {
        let marker = config.data_dir.join(RESTORED_FILE);
        if !marker.exists() {
            return Ok(());
        }
        let files = self.repo.active_files(None).await.map_err(CliError::new)?;
        let open = files
            .iter()
            .filter(|f| f.file.value.state == FileState::Writing);
        let volumes = [self.volume.clone()];
        let mut closed = 0;
        for file in open {
            let key = &file.file.value.key;
            match self.repo.rotate_file(key, &volumes, self.clock.now()).await {
                Ok(_) => closed += 1,
                // No other process is active, so the file was removed with its sink.
                Err(FileError::FileNotFound(_)) => {}
                Err(e) => {
                    return Err(CliError::new(format_args!(
                        "can't close the file {key}: {e}"
                    )));
                }
            }
        }
        tracing::warn!(
            closed,
            "metadata was restored: closed the files that were open"
        );
        std::fs::remove_file(&marker)
            .map_err(|e| CliError::new(format_args!("can't remove {}: {e}", marker.display())))
    }
}
