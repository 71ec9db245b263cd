//! `forebay token`: tokens of the management API.

use clap::{Subcommand, ValueEnum};
use forebay_api::admin::{
    ConfiguredToken, MadeToken, TokenCreate, TokenList, TokenRoleView, TokenRotate, TokenView,
};
use reqwest::Method;
use serde::Serialize;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

const TOKENS: &str = "/v1/admin/tokens";

/// Creates, lists, rotates and revokes tokens of the management API.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Create(TokenCreateArgs),
    #[command(visible_alias = "list")]
    Ls(TokenListArgs),
    Rotate(TokenRotateArgs),
    Revoke(TokenRevokeArgs),
}

/// Permissions of a token.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenRoleArg {
    /// Read, and test mappings
    Reader,
    /// Also change
    Admin,
}

/// Creates a token and prints it. It is shown only once: the server stores its hash.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  forebay token create --role reader --description dashboard --data-dir ./data > dashboard.token
  forebay token create --role admin --owner-id ada@example.com --owner-name Ada --expires-at 30d")]
pub(crate) struct TokenCreateArgs {
    /// Permissions of the token
    #[arg(long, value_enum)]
    role: TokenRoleArg,
    /// Description; shown as the author of changes
    #[arg(long, default_value = "")]
    description: String,
    /// Project of the token [default: the server's own]
    #[arg(long, value_name = "NUMBER")]
    project: Option<u64>,
    /// Id of the owner, shown as userId of its changes [default: the id of the token]
    #[arg(long, value_name = "ID")]
    owner_id: Option<String>,
    /// Name of the owner, shown as userName [default: the description, without --owner-id]
    #[arg(long, value_name = "NAME")]
    owner_name: Option<String>,
    /// Expiry: a time like 2027-01-02T03:04:05Z, a day like 2027-01-02 (UTC), or a duration like 30d or
    /// 12h
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Lists tokens without their secrets; those of the configuration, including the server's own, are
/// last.
///
/// To rotate a token of the configuration change it there, and the server's own in its token file;
/// SIGHUP makes the server reload them.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenListArgs {
    /// Project [default: the server's own]
    #[arg(long, value_name = "NUMBER")]
    project: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Rotates the secret of a token and prints it.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenRotateArgs {
    /// Id of the token
    id: String,
    /// How long the old secret remains valid
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    overlap: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Revokes a token.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenRevokeArgs {
    /// Id of the token
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(command: TokenCommand, env: Environment) -> Result<(), CliError> {
    match command {
        TokenCommand::Create(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(create(&api, args))
        }
        TokenCommand::Ls(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list(&api, &args))
        }
        TokenCommand::Rotate(args) => {
            let path = format!("{TOKENS}/{}/rotate", path_part(&args.id)?);
            let api = ApiClient::new(&args.server, env)?;
            let body = TokenRotate {
                overlap: Some(args.overlap),
            };
            block_on(async {
                let rotated: MadeToken = api.call(Method::POST, &path, &body).await?;
                terminal::line(rotated.text)
            })
        }
        TokenCommand::Revoke(args) => {
            let path = format!("{TOKENS}/{}", path_part(&args.id)?);
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                let () = api.call_without_body(Method::DELETE, &path).await?;
                terminal::line(format_args!("token {} revoked", args.id))
            })
        }
    }
}

async fn create(api: &ApiClient, args: TokenCreateArgs) -> Result<(), CliError> {
    let body = TokenCreate {
        project_id: args.project,
        branch_id: None,
        role: match args.role {
            TokenRoleArg::Reader => TokenRoleView::Reader,
            TokenRoleArg::Admin => TokenRoleView::Admin,
        },
        description: Some(args.description),
        owner_id: args.owner_id,
        owner_name: args.owner_name,
        expires_at: args.expires_at,
    };
    let made: MadeToken = api.call(Method::POST, TOKENS, &body).await?;
    terminal::note(format_args!("token {} created", made.token.token_id));
    terminal::line(made.text)
}

/// JSON of the list: stored tokens, then those of the configuration.
#[derive(Serialize)]
#[serde(untagged)]
enum ListedToken {
    Stored(TokenView),
    Configured(ConfiguredToken),
}

async fn list(api: &ApiClient, args: &TokenListArgs) -> Result<(), CliError> {
    let path = match args.project {
        Some(project) => format!("{TOKENS}?projectId={project}"),
        None => TOKENS.to_owned(),
    };
    let stored = api.list::<TokenList>(&path).await?.into_iter();
    let TokenList { configured, .. } = api.get(&path).await?;
    let configured = configured.into_iter().map(ListedToken::Configured);
    let tokens: Vec<_> = stored.map(ListedToken::Stored).chain(configured).collect();
    if args.json {
        return terminal::json(&tokens);
    }
    let names = ["id", "role", "owner", "description", "created", "expires"];
    let mut table = crate::query::TextTable::new(&names);
    for token in &tokens {
        match token {
            ListedToken::Stored(token) => table.row(&[
                &token.token_id,
                &token.role.to_string(),
                &token.owner_id,
                &token.description,
                &token.created.at.to_string(),
                &token
                    .expires_at
                    .map(|at| at.to_string())
                    .unwrap_or_default(),
            ]),
            ListedToken::Configured(token) => {
                let role = match token.operator {
                    true => "operator".to_owned(),
                    false => token.role.to_string(),
                };
                let (id, owner, description) =
                    (&token.token_id, &token.owner_id, &token.description);
                table.row(&[id, &role, owner, description, "in the configuration", ""]);
            }
        }
    }
    terminal::data(table)
}

/// An id for a path; ids of tokens need no escaping.
fn path_part(id: &str) -> Result<&str, CliError> {
    if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(id);
    }
    Err(CliError::usage(format_args!(
        "\"{id}\" is not the id of a token; `forebay token ls` shows them"
    )))
}
