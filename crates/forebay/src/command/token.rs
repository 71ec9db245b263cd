//! `forebay token`: tokens of the management API.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

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
            block_on(create(&api, &args))
        }
        TokenCommand::Ls(args) => {
            let api = ApiClient::new(&args.server, env)?;
            block_on(list(&api, &args))
        }
        TokenCommand::Rotate(args) => {
            let path = format!("{TOKENS}/{}/rotate", path_part(&args.id)?);
            let api = ApiClient::new(&args.server, env)?;
            let body = json!({ "overlap": args.overlap });
            block_on(async {
                let rotated = api.call(Method::POST, &path, Some(&body)).await?;
                terminal::line(text(&rotated, "token"))
            })
        }
        TokenCommand::Revoke(args) => {
            let path = format!("{TOKENS}/{}", path_part(&args.id)?);
            let api = ApiClient::new(&args.server, env)?;
            block_on(async {
                api.call(Method::DELETE, &path, None).await?;
                terminal::line(format_args!("token {} revoked", args.id))
            })
        }
    }
}

async fn create(api: &ApiClient, args: &TokenCreateArgs) -> Result<(), CliError> {
    let role = match args.role {
        TokenRoleArg::Reader => "reader",
        TokenRoleArg::Admin => "admin",
    };
    let body = json!({
        "role": role,
        "description": args.description,
        "projectId": args.project,
        "ownerId": args.owner_id,
        "ownerName": args.owner_name,
        "expiresAt": args.expires_at,
    });
    let made = api.call(Method::POST, TOKENS, Some(&body)).await?;
    terminal::note(format_args!("token {} created", text(&made, "tokenId")));
    terminal::line(text(&made, "token"))
}

async fn list(api: &ApiClient, args: &TokenListArgs) -> Result<(), CliError> {
    let path = match args.project {
        Some(project) => format!("{TOKENS}?projectId={project}"),
        None => TOKENS.to_owned(),
    };
    let mut tokens = api.list(&path, "tokens", "tokenId").await?;
    let mut first = api.get(&path).await?;
    let configured = first.get_mut("configured").map(Value::take);
    if let Some(Value::Array(configured)) = configured {
        tokens.extend(configured);
    }
    if args.json {
        return terminal::line(format_args!("{:#}", Value::Array(tokens)));
    }
    let names = ["id", "role", "owner", "description", "created", "expires"];
    let mut table = crate::query::TextTable::new(&names);
    for token in &tokens {
        let created = token.pointer("/created/at").and_then(Value::as_str);
        let role = match token.get("operator") {
            Some(Value::Bool(true)) => "operator",
            _ => text(token, "role"),
        };
        table.row(&[
            text(token, "tokenId"),
            role,
            text(token, "ownerId"),
            text(token, "description"),
            created.unwrap_or("in the configuration"),
            text(token, "expiresAt"),
        ]);
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

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
