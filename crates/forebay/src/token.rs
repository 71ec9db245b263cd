//! Tokens of the management API: the server's own is read from the configuration, or created by the
//! first start.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use forebay_control::auth::{ConfiguredTokens, TokenConfig};
use forebay_schema::SecretText;

use crate::cli_error::CliError;
use crate::config::Config;
use crate::random;

/// A token is one line; a larger file is a mistake.
const BYTES_MAX: usize = 4096;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 40 of 62 characters: 238 bits.
const CHARS: usize = 40;
/// Project of the server's own token.
const PROJECT: u64 = 1;
const BRANCH: u64 = 1;

/// A token and its file.
#[derive(Clone, Debug)]
pub(crate) struct ApiToken {
    pub(crate) secret: SecretText,
    /// The file that contains it; `None` when it was configured as a value.
    pub(crate) file: Option<PathBuf>,
    /// It was just created.
    pub(crate) is_new: bool,
}

impl ApiToken {
    fn from_secret(secret: SecretText) -> Self {
        Self {
            secret,
            file: None,
            is_new: false,
        }
    }
}

/// The token of a server; the first start creates one.
pub(crate) fn for_server(config: &Config) -> Result<ApiToken, CliError> {
    if let Some(secret) = &config.token {
        return Ok(ApiToken::from_secret(check(secret.expose(), "the token")?));
    }
    if let Some(file) = &config.token_file {
        return read(file);
    }
    let file = config.default_token_file();
    match file.try_exists() {
        Ok(true) => read(&file),
        _ => create(&file),
    }
}

/// The token of a running server; never creates one.
pub(crate) fn reread(config: &Config) -> Result<ApiToken, CliError> {
    match (&config.token, &config.token_file) {
        (None, None) => read(&config.default_token_file()),
        _ => for_server(config),
    }
}

/// The token for a client.
pub(crate) fn for_client(config: &Config, given: Option<&Path>) -> Result<ApiToken, CliError> {
    if let Some(file) = given {
        return read(file);
    }
    if let Some(secret) = &config.token {
        return Ok(ApiToken::from_secret(check(secret.expose(), "the token")?));
    }
    let made = config.default_token_file();
    let file = config.token_file.as_ref().unwrap_or(&made);
    if config.token_file.is_none() && !file.exists() {
        let problem = format!("no token: {} does not exist", file.display());
        return Err(CliError::new(problem)
            .hint("set the server's data directory with --data-dir, or a token with --token-file or FOREBAY_TOKEN"));
    }
    read(file)
}

/// Tokens of the management API: the server's own, and those of the configuration.
pub(crate) fn authenticate(
    config: &Config,
    token: &ApiToken,
) -> Result<ConfiguredTokens, CliError> {
    let own = TokenConfig {
        id: "main".to_owned(),
        project: PROJECT,
        branch: BRANCH,
        description: "Token of the server".to_owned(),
        admin: true,
        operator: true,
        owner_id: None,
        owner_name: None,
        sha256: ConfiguredTokens::hash(token.secret.expose().as_bytes()),
    };
    let mut all = vec![own];
    all.extend(config.api.tokens.iter().cloned());
    tokens(&all)
}

/// Only the tokens of the configuration.
pub(crate) fn configured_tokens(config: &Config) -> Result<ConfiguredTokens, CliError> {
    tokens(&config.api.tokens)
}

fn tokens(all: &[TokenConfig]) -> Result<ConfiguredTokens, CliError> {
    ConfiguredTokens::new(all).map_err(|e| CliError::usage(format_args!("api.tokens: {e}")))
}

fn read(file: &Path) -> Result<ApiToken, CliError> {
    let failed = |e: std::io::Error| {
        CliError::new(format_args!(
            "can't read the token file {}: {e}",
            file.display()
        ))
        .hint("set another one with --token-file (tokenFile in the configuration)")
    };
    let bytes = std::fs::read(file).map_err(failed)?;
    let name = format!("the token file {}", file.display());
    if bytes.len() > BYTES_MAX {
        return Err(CliError::usage(format_args!(
            "{name} is larger than {BYTES_MAX} bytes"
        )));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format_args!("{name} is not text")))?;
    let secret = check(&text, &name)?;
    Ok(ApiToken {
        secret,
        file: Some(file.to_owned()),
        is_new: false,
    })
}

/// A token is sent in a header: one word of visible ASCII characters.
fn check(text: &str, name: &str) -> Result<SecretText, CliError> {
    let token = text.trim();
    if token.is_empty() {
        return Err(CliError::usage(format_args!("{name} is empty")));
    }
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        let problem = "has spaces or special characters in it; a token is one word";
        return Err(CliError::usage(format_args!("{name} {problem}")));
    }
    Ok(SecretText::from(token.to_owned()))
}

/// Creates a token file for its owner only.
fn create(file: &Path) -> Result<ApiToken, CliError> {
    let failed = |e: std::io::Error| {
        CliError::new(format_args!(
            "can't write the token file {}: {e}",
            file.display()
        ))
        .hint("make the data directory writable, or set an existing token with --token-file")
    };
    let text = random_text();
    match write_durably(file, &text) {
        Ok(()) => {
            let secret = SecretText::from(text);
            Ok(ApiToken {
                secret,
                file: Some(file.to_owned()),
                is_new: true,
            })
        }
        // Another process created it first.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => read(file),
        Err(e) => Err(failed(e)),
    }
}

fn random_text() -> String {
    let mut next = random::secret();
    let mut text = String::with_capacity(CHARS);
    while text.len() < CHARS {
        // 248 is the largest multiple of 62 in a byte: using more would bias some characters.
        let fair = next().to_le_bytes().into_iter().filter(|b| *b < 248);
        text.extend(
            fair.map(|b| char::from(ALPHABET[usize::from(b % 62)]))
                .take(CHARS - text.len()),
        );
    }
    text
}

/// Writes a new file atomically and durably: a token that was handed out and lost in a power failure
/// would lock everyone out.
fn write_durably(file: &Path, text: &str) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let temporary = file.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    // A link, not a rename: it fails if another process created the file in the meantime.
    let linked = std::fs::hard_link(&temporary, file);
    std::fs::remove_file(&temporary)?;
    linked?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(dir: &Path) -> Config {
        Config {
            data_dir: dir.to_owned(),
            ..Config::default()
        }
    }

    #[test]
    fn the_first_start_creates_a_private_token_and_the_second_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = for_server(&config(&data)).unwrap();
        assert!(first.is_new);
        let file = first.file.unwrap();
        assert_eq!(file, data.join("token"));
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = for_server(&config(&data)).unwrap();
        assert!(!second.is_new);
        assert_eq!(second.secret.expose(), first.secret.expose());
        assert_eq!(second.secret.expose().len(), CHARS);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    }

    #[test]
    fn an_invalid_token_file_is_reported_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        for (content, said) in [
            (&b"\n"[..], "is empty"),
            (b"a b", "one word"),
            (b"\xff", "not text"),
        ] {
            std::fs::write(&file, content).unwrap();
            let config = Config {
                token_file: Some(file.clone()),
                ..Config::default()
            };
            let failure = for_server(&config).unwrap_err().to_string();
            assert!(
                failure.contains(said) && failure.contains("/t"),
                "{failure}"
            );
            assert!(!failure.contains("a b"), "{failure}");
        }
        let config = Config {
            token_file: Some(dir.path().join("none")),
            ..Config::default()
        };
        assert!(
            for_server(&config)
                .unwrap_err()
                .to_string()
                .contains("can't read the token file")
        );
    }

    #[test]
    fn a_client_without_a_token_gets_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let failure = for_client(&config(dir.path()), None)
            .unwrap_err()
            .to_string();
        assert!(failure.contains("--data-dir"), "{failure}");
    }
}
