//! The first start on metadata of an earlier moment: from a backup, from a copy, or what is left
//! after a loss.

use forebay_meta::FileError;
use forebay_model::FileState;

use super::Base;
use crate::config::Config;
use crate::data_dir::RESTORED_FILE;
use crate::failure::Failure;

impl Base {
    /// Closes every file that was open at that moment, before any record comes in.
    ///
    /// Such a file may have gone on afterwards, and may be in its table: a table outside of what was
    /// restored has the file's entry in its ledger then, and an import that finds the entry does
    /// nothing. Records of today must not get into such a file: they would be taken for imported.
    pub(super) async fn close_what_was_open(&self, config: &Config) -> Result<(), Failure> {
        let mark = config.data_dir.join(RESTORED_FILE);
        if !mark.exists() {
            return Ok(());
        }
        let files = self.repo.active_files(None).await.map_err(Failure::new)?;
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
                    return Err(Failure::new(format_args!(
                        "can't close the file {key}: {e}"
                    )));
                }
            }
        }
        tracing::warn!(
            closed,
            "the metadata is of an earlier moment: the files that were open then are closed"
        );
        std::fs::remove_file(&mark)
            .map_err(|e| Failure::new(format_args!("can't remove {}: {e}", mark.display())))
    }
}
