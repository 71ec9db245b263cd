//! The first start on metadata of an earlier moment: from a backup, from a copy, or what is left
//! after a loss.

use forebay_meta::FileError;
use forebay_model::FileState;

use super::NodeContext;
use crate::cli_error::CliError;
use crate::config::Config;
use crate::data_dir::RESTORED_FILE;

impl NodeContext {
    /// Closes every file that was open at that moment, before any record comes in.
    ///
    /// Such a file may have gone on afterwards, and may be in its table: a table outside of what was
    /// restored has the file's entry in its ledger then, and an import that finds the entry does
    /// nothing. Records of today must not get into such a file: they would be taken for imported.
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
                // Nobody else is here; so somebody has removed it with its sink.
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
            "the metadata is of an earlier moment: the files that were open then are closed"
        );
        std::fs::remove_file(&marker)
            .map_err(|e| CliError::new(format_args!("can't remove {}: {e}", marker.display())))
    }
}
