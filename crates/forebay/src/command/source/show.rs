//! `forebay source show`.

use forebay_api::columns::PathUseView;
use forebay_api::mapping::{ColumnTemplate, ColumnView};
use forebay_api::sink::{SinkList, SinkView, TableSinkView};
use forebay_api::source::SourceView;
use forebay_api::statistics::{FileList, ReconciliationView};
use forebay_api::topic::{DeliveryView, MessagePartView, TopicMessageView, TopicSinkView};
use serde::Serialize;
use serde_json::json;

use super::verify::describe;
use crate::api_client::{ApiClient, SOURCES, encoded};
use crate::cli_error::CliError;
use crate::command::common::ServerArgs;
use crate::query::TextTable;
use crate::terminal;

/// Shows a source and its sinks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay source show my-events
  curl -d '{\"user\":{\"id\":\"ada\"}}' -H 'Content-Type: application/json' \\
      \"$(forebay source show my-events --url)\"")]
pub(crate) struct SourceShowArgs {
    /// Id of the source
    id: String,
    /// Print only the address to post records to
    #[arg(long, conflicts_with = "json")]
    url: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl SourceShowArgs {
    pub(super) fn server(&self) -> &ServerArgs {
        &self.server
    }
}

/// JSON of a source with its sinks.
#[derive(Serialize)]
struct SourceDetail {
    #[serde(flatten)]
    source: SourceView,
    sinks: Vec<SinkView>,
}

pub(super) async fn show(api: &ApiClient, args: &SourceShowArgs) -> Result<(), CliError> {
    let path = format!("{SOURCES}/{}", encoded(&args.id));
    let source: SourceView = api.get(&path).await?;
    if args.url {
        return match url(&source) {
            Some(url) => terminal::line(url),
            None => Err(CliError::new(URL_HIDDEN).hint("use the token of an admin")),
        };
    }
    let sinks = api.list::<SinkList>(&format!("{path}/sinks")).await?;
    if args.json {
        return terminal::json(&SourceDetail { source, sinks });
    }
    terminal::line(format_args!(
        "source   {}  ({})",
        source.source_id, source.name
    ))?;
    if !source.description.is_empty() {
        terminal::line(format_args!("         {}", source.description))?;
    }
    terminal::line(format_args!(
        "post to  {}",
        url(&source).unwrap_or(URL_HIDDEN)
    ))?;
    if let Some(verify) = &source.verify {
        terminal::line(format_args!("requires {}", describe(Some(verify))))?;
    }
    for sink in &sinks {
        let path = format!("{path}/sinks/{}", sink.sink_id);
        match (&sink.topic, &sink.table) {
            (Some(topic), _) => show_topic(api, &path, sink, topic).await?,
            (None, Some(table)) => show_table(api, &path, sink, table).await?,
            (None, None) => {}
        }
    }
    Ok(())
}

async fn show_table(
    api: &ApiClient,
    path: &str,
    sink: &SinkView,
    table: &TableSinkView,
) -> Result<(), CliError> {
    terminal::line(format_args!(
        "\nsink     {}  ({}) into table {}",
        sink.sink_id, sink.name, table.table_id
    ))?;
    let reconciliation = format!("{path}/statistics/reconciliation");
    let counts: ReconciliationView = api.get(&reconciliation).await?;
    terminal::line(format_args!(
        "records  {} accepted, {} in the table, {} in flight",
        counts.accepted, counts.imported, counts.in_flight
    ))?;
    for (count, what) in [
        (counts.dead, "dead letters: forebay dead ls"),
        (counts.lost, "lost: see the server's log"),
    ] {
        if count > 0 {
            terminal::line(format_args!("         {count} {what}"))?;
        }
    }
    show_never_found(api, path).await?;
    show_failed(api, path).await?;
    let mut shown = TextTable::new(&["column", "type", "from", "options"]);
    for column in &table.mapping.columns {
        let mut options = Vec::new();
        if column.primary_key == Some(true) {
            options.push("primary key".to_owned());
        }
        if let Some(text) = &column.default_value {
            options.push(format!("default {}", json!(text)));
        }
        // In the syntax of the command line.
        let mut kind = column.r#type.to_string();
        match column.data_type {
            Some(data_type) => kind.push_str(&format!(",as={data_type}")),
            None if column.raw_string == Some(false) => kind.push_str(",json"),
            None => {}
        }
        if let Some(unit) = column.unit {
            kind.push_str(&format!(",unit={unit}"));
        }
        let options = options.join(", ");
        shown.row(&[&column.name, &kind, column_argument(column), &options]);
    }
    terminal::data(shown)
}

fn column_argument(column: &ColumnView) -> &str {
    argument(&column.path, &column.template, &column.value)
}

/// The path, template or text of a column or message part.
fn argument<'v>(
    path: &'v Option<String>,
    template: &'v Option<ColumnTemplate>,
    value: &'v Option<String>,
) -> &'v str {
    let content = template.as_ref().map(|t| &t.content);
    let given = path.as_ref().or(content).or(value.as_ref());
    given.map(String::as_str).unwrap_or_default()
}

/// Columns with the default in every record: most likely their paths are wrong.
async fn show_never_found(api: &ApiClient, sink: &str) -> Result<(), CliError> {
    let uses: PathUseView = api.get(&format!("{sink}/statistics/columns")).await?;
    let since = uses.since.map(|at| at.to_string()).unwrap_or_default();
    for column in uses.columns.iter().filter(|c| c.never_found) {
        terminal::line(format_args!(
            "warning  column {}: nothing at {} in any of {} records since {since}",
            column.name, column.path, uses.records
        ))?;
    }
    Ok(())
}

/// Failed imports with their errors.
async fn show_failed(api: &ApiClient, sink: &str) -> Result<(), CliError> {
    let failed = format!("{sink}/statistics/files?failedFiles=true");
    let failed: FileList = api.get(&failed).await?;
    for file in failed.files {
        let parked = file.parked == Some(true);
        let state = if parked { "parked" } else { "failed" };
        let next = file.retry_after;
        let next = next.map(|at| format!("; next attempt at {at}"));
        terminal::line(format_args!(
            "{state}   file {}: {}{}",
            file.opened_at,
            file.retry_reason.unwrap_or_default(),
            next.unwrap_or_default()
        ))?;
    }
    Ok(())
}

async fn show_topic(
    api: &ApiClient,
    path: &str,
    sink: &SinkView,
    topic: &TopicSinkView,
) -> Result<(), CliError> {
    terminal::line(format_args!(
        "\nsink     {}  ({}) into {} topic {} of provider {}",
        sink.sink_id, sink.name, sink.r#type, topic.topic, topic.provider
    ))?;
    let delivery: DeliveryView = api.get(&format!("{path}/statistics/delivery")).await?;
    terminal::line(format_args!(
        "records  {} accepted, {} delivered, {} dead, {} waiting ({} bytes)",
        delivery.accepted,
        delivery.delivered,
        delivery.dead,
        delivery.lag.records,
        delivery.lag.bytes
    ))?;
    show_never_found(api, path).await?;
    let provider = &delivery.provider;
    let why = match &sink.paused {
        Some(paused) => paused.reason.as_str(),
        None => provider.error.as_deref().unwrap_or_default(),
    };
    let colon = if why.is_empty() { "" } else { ": " };
    terminal::line(format_args!("state    {}{colon}{why}", provider.state))?;
    terminal::data(message_table(&topic.message))
}

fn message_table(message: &TopicMessageView) -> TextTable {
    let mut shown = TextTable::new(&["part", "type", "from"]);
    let mut part_row = |name: &str, part: &Option<MessagePartView>| {
        if let Some(part) = part {
            let from = argument(&part.path, &part.template, &part.value);
            shown.row(&[name, &part.r#type.to_string(), from]);
        }
    };
    part_row("key", &message.key);
    part_row("value", &message.value);
    let fields = message.fields.iter().flatten();
    let fields = fields.map(|field| ("value.", field));
    let headers = message.headers.iter().map(|header| ("header ", header));
    for (before, column) in fields.chain(headers) {
        let name = format!("{before}{}", column.name);
        shown.row(&[&name, &column.r#type.to_string(), column_argument(column)]);
    }
    shown
}

/// Shown instead of the address, which is a secret that allows sending.
pub(crate) const URL_HIDDEN: &str = "the address of a source is only shown to tokens of admins";

pub(crate) fn url(source: &SourceView) -> Option<&str> {
    source.http.as_ref().map(|http| http.url.as_str())
}
