//! `forebay init`: a folder with commented files to start from.

use std::path::{Path, PathBuf};

use crate::cli_error::CliError;
use crate::definitions::editor_schema;
use crate::terminal;

/// Files of the folder: path and text.
const FILES: [(&str, &str); 4] = [
    ("forebay.yaml", include_str!("init/forebay.yaml")),
    ("definitions/events.yaml", include_str!("init/events.yaml")),
    ("sample.json", include_str!("init/sample.json")),
    (".gitignore", include_str!("init/gitignore")),
];
/// JSON Schema for editors, beside the definitions.
const SCHEMA: &str = "definitions/forebay.schema.json";

/// Creates a folder with commented files to start from.
///
/// The folder has settings, the definition of a source with a table, and a sample record. It runs as it
/// is: the server applies the folder `definitions` at its start and after each change of a file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay init my-events
  cd my-events && forebay serve --config forebay.yaml")]
pub(crate) struct InitArgs {
    /// Folder to create; existing files are never replaced
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(args: &InitArgs) -> Result<(), CliError> {
    let folder = &args.folder;
    let schema = serde_json::to_string_pretty(&editor_schema()).map_err(CliError::new)?;
    let schema = format!("{schema}\n");
    let files = FILES.into_iter().chain([(SCHEMA, schema.as_str())]);
    let files: Vec<(PathBuf, &str)> = files
        .map(|(name, text)| (folder.join(name), text))
        .collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        let error = format!("{} exists; nothing was written", path.display());
        return Err(CliError::usage(error).hint("choose another folder"));
    }
    for (path, text) in &files {
        write(path, text)?;
        terminal::line(path.display())?;
    }
    let enter = match folder.as_path() {
        path if path == Path::new(".") => String::new(),
        path => format!("  cd {}\n", path.display()),
    };
    terminal::note(format_args!(
        "\nContinue with:\n{enter}  forebay serve --config forebay.yaml\n  \
         curl -d @sample.json \"$(forebay source show my-events --url --config forebay.yaml)\"\n  \
         forebay query 'SELECT * FROM \"in.demo.events\"' --wait --config forebay.yaml"
    ));
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed =
        |e: std::io::Error| CliError::new(format_args!("can't write {}: {e}", path.display()));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)
}
