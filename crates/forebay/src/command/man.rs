//! `forebay man`: manual pages.

use std::path::PathBuf;

use crate::cli_error::CliError;

/// Writes a manual page per command into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay man ~/.local/share/man/man1
  man forebay-apply")]
pub(crate) struct ManArgs {
    /// Directory; it is created if it does not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &ManArgs, definition: clap::Command) -> Result<(), CliError> {
    let shown = args.dir.display();
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(definition, &args.dir))
        .map_err(|e| CliError::new(format_args!("can't write manual pages into {shown}: {e}")))
}
