//! Start-up banner with commands to paste.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::listener_url;
use crate::roles::RunningNode;
use crate::terminal;
use crate::token::ApiToken;
use crate::version;

/// How the process was started, repeated in the commands.
#[derive(Clone, Debug)]
pub(crate) struct ProcessInvocation {
    /// The program, as it was called.
    pub(crate) program: String,
    /// Arguments that name the data directory and the configuration.
    pub(crate) location_args: String,
}

impl ProcessInvocation {
    pub(crate) fn new(config: Option<&Path>, data_dir: Option<&Path>) -> Self {
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "forebay".to_owned());
        let mut location_args = String::new();
        for (flag, value) in [("--config", config), ("--data-dir", data_dir)] {
            if let Some(path) = value {
                // Writing to a String can't fail.
                _ = write!(
                    location_args,
                    " {flag} {}",
                    shell_quoted(&path.display().to_string())
                );
            }
        }
        Self {
            program: shell_quoted(&program),
            location_args,
        }
    }
}

/// Prints the banner on a terminal.
pub(crate) fn show(
    node: &RunningNode,
    has_tls: bool,
    started: &ProcessInvocation,
    token: &ApiToken,
) {
    if terminal::is_attended() {
        terminal::note(text(node.api, has_tls, &node.source_url, started, token));
    }
}

fn text(
    api: SocketAddr,
    has_tls: bool,
    source: &str,
    started: &ProcessInvocation,
    token: &ApiToken,
) -> String {
    let api = listener_url(api, has_tls);
    let ProcessInvocation {
        program,
        location_args: place,
    } = started;
    let mut out = format!(
        "\nForebay {version} is ready. API: {api}. Records: {source}.\n\
         Dashboard: {api}/ui (log in with a token of the API).\n\
         \n\
         To create a source with a table, send a record and query it, run in another terminal:\n\
         \n\
         {program} source create 'My events' --sink in.demo.events{place} \\\n    \
         --column id=uuid --column at=datetime --column user=path:user.id\n\
         curl -d '{{\"user\":{{\"id\":\"ada\"}}}}' -H 'Content-Type: application/json' \\\n    \
         \"$({program} source show my-events --url{place})\"\n\
         {program} query 'SELECT * FROM \"in.demo.events\"'{place}\n",
        version = version::VERSION,
    );
    if let Some(file) = &token.file {
        let made = if token.is_new {
            "A token for the API was created. It is"
        } else {
            "The API's token is"
        };
        let file = shell_quoted(&file.display().to_string());
        _ = write!(
            out,
            "\n{made} in {file}; forebay commands read it there, other clients send it:\n\
             \n\
             curl -H \"X-StorageApi-Token: $(cat {file})\" {api}/v1/branches/default/sources\n",
        );
    }
    out
}

/// Quotes a word for a POSIX shell.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_schema::SecretText;

    #[test]
    fn the_commands_repeat_the_arguments_but_not_the_token() {
        let started = ProcessInvocation {
            program: "forebay".to_owned(),
            location_args: " --data-dir './my data'".to_owned(),
        };
        let token = ApiToken {
            secret: SecretText::from("s3cret".to_owned()),
            file: Some("./my data/token".into()),
            is_new: true,
        };
        let shown = text(
            ([0, 0, 0, 0], 8001).into(),
            false,
            "http://127.0.0.1:7000",
            &started,
            &token,
        );
        for part in [
            "forebay source create 'My events' --sink in.demo.events --data-dir './my data' \\\n",
            "\"$(forebay source show my-events --url --data-dir './my data')\"\n",
            "forebay query 'SELECT * FROM \"in.demo.events\"' --data-dir './my data'\n",
            "$(cat './my data/token')",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(!shown.contains("s3cret"));
        let address = ([127, 0, 0, 1], 8000).into();
        let shown = text(address, true, "https://x", &started, &token);
        assert!(shown.contains("API: https://127.0.0.1:8000."), "{shown}");
        assert!(shown.contains(" https://127.0.0.1:8000/v1/"), "{shown}");
        assert!(!shown.contains("--api"), "{shown}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(shell_quoted("./data"), "./data");
        assert_eq!(shell_quoted("my data"), "'my data'");
        assert_eq!(shell_quoted("it's"), "'it'\\''s'");
        assert_eq!(shell_quoted(""), "''");
    }
}
