//! `forebay export`: the definitions of a server as files.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{SourceDefinition, export_sources, yaml_text};
use crate::terminal;

/// First line of a file: where editors find the schema.
const HEAD: &str = "# yaml-language-server: $schema=forebay.schema.json\n";

/// Prints the sources and sinks of a server as a definition file.
///
/// `forebay apply` of the result changes nothing on this server, and makes the same sources and sinks on
/// another one. Not part of it are records and rows, the URLs of sources (another server creates new
/// secrets), versions, and whether a source or sink is disabled or paused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay export > events.yaml
  forebay export --output ./definitions    one file for each source")]
pub(crate) struct ExportArgs {
    /// Folder to write to, one new file for each source; - for standard output
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: PathBuf,
    /// Replace files in the folder
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &ExportArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    let sources = block_on(export_sources(&api))?;
    if sources.is_empty() {
        terminal::note("the server has no sources");
        return Ok(());
    }
    if args.output == Path::new("-") {
        return terminal::bytes(yaml_text(sources)?.as_bytes());
    }
    let texts: Result<Vec<_>, CliError> = sources.into_iter().map(file_of).collect();
    write(&args.output, &texts?, args.force)
}

/// Name and text of the file of a source.
fn file_of(source: SourceDefinition) -> Result<(String, String), CliError> {
    let name = format!("{}.yaml", source.source_id()?);
    Ok((name, format!("{HEAD}{}", yaml_text(vec![source])?)))
}

/// Writes files into a folder. Without `force` none of them may exist.
fn write(folder: &Path, texts: &[(String, String)], force: bool) -> Result<(), CliError> {
    let failed = |path: &Path, e: std::io::Error| {
        CliError::new(format_args!("can't write {}: {e}", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    let existing = texts.iter().map(|(name, _)| folder.join(name));
    if let Some(path) = existing.filter(|_| !force).find(|path| path.exists()) {
        let error = format!("{} exists; nothing was written", path.display());
        return Err(CliError::usage(error).hint("--force replaces files"));
    }
    for (name, text) in texts {
        let path = folder.join(name);
        // A reader of the folder, such as the server, never sees a part of a file.
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|e| failed(&path, e))?;
        terminal::line(path.display())?;
    }
    Ok(())
}
