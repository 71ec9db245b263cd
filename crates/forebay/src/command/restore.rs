//! `forebay restore`: restores a data directory from a backup, or its metadata from a copy.

use std::path::{Path, PathBuf};

use forebay_meta::kv::embedded::{copies, restore_copy};
use forebay_model::words::counted;
use forebay_model::{Clock, Timestamp};

use super::common::ConfigArgs;
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::Environment;
use crate::{backup, data_dir, terminal};

/// Restores a backup into a new data directory, or replaces the metadata with a copy.
///
/// Every file of a backup is checked against its checksum. The server must be stopped; never run the
/// original and the restored server at the same time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay restore --from /backups/monday --data-dir ./data-of-monday
  forebay restore --metadata newest --data-dir ./data")]
#[group(id = "what", required = true, multiple = false, args = ["from", "metadata"])]
pub(crate) struct RestoreArgs {
    /// Backup; the data directory must be empty or missing
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Copy of the metadata (from `meta-copies` in the data directory): `newest`, or its file. The
    /// replaced metadata is retained
    #[arg(long, value_name = "COPY")]
    metadata: Option<String>,
    #[command(flatten)]
    place: ConfigArgs,
}

pub(crate) fn run(args: &RestoreArgs, env: Environment) -> Result<(), CliError> {
    let config = args.place.load(env, Vec::new())?.config;
    let dir = config.data_dir.as_path();
    if let Some(from) = &args.from {
        let done = backup::restore(from, dir).map_err(CliError::new)?;
        return terminal::line(format_args!(
            "{}, {} bytes in {}",
            counted(done.files, "file"),
            done.bytes,
            dir.display()
        ));
    }
    let folder = config.metadata.copies_folder(dir);
    let copy = select_copy(args.metadata.as_deref().unwrap_or("newest"), &folder)?;
    data_dir::check_dir(dir, None)?;
    // First: an older store must never be opened without it.
    data_dir::write_restored_marker(dir).map_err(CliError::new)?;
    let now = SystemClock.now().as_millis();
    let (copy, replaced) = restore_copy(dir, &folder, &copy, now).map_err(CliError::new)?;
    for replaced_file in replaced {
        terminal::line(format_args!(
            "previous metadata kept as {}",
            replaced_file.display()
        ))?;
    }
    terminal::line(format_args!(
        "metadata restored from {} (revision {})",
        copy.path.display(),
        copy.revision
    ))
}

fn select_copy(wanted: &str, folder: &Path) -> Result<PathBuf, CliError> {
    if wanted != "newest" {
        return Ok(PathBuf::from(wanted));
    }
    let none = || {
        CliError::new(format_args!("no intact copy in {}", folder.display()))
            .hint("set the file of a copy, or restore a backup with --from")
    };
    for copy in copies::list(folder) {
        // Each was intact when it was made; disks fail.
        match copies::read_revision(&copy.path) {
            Ok(_) => {
                let made = Timestamp::from_millis(copy.made_at_ms);
                terminal::line(format_args!("the newest copy was made at {made}"))?;
                return Ok(copy.path);
            }
            Err(e) => terminal::note(format_args!("skipped: {e}")),
        }
    }
    Err(none())
}
