//! Sinks whose mappings `forebay test` applies.

use forebay_api::sink::{MappingRequest, SinkView};
use forebay_api::topic::MessageRequest;
use forebay_control::api::{ColumnProblem, Mapper, mapping_from_request, message_from_request};
use forebay_model::{HttpMethod, SinkTarget, TableBackend, TableSink, TopicKind, TopicSink};
use serde_json::{Value, json};

use crate::definitions::{
    COLUMN_TYPES, ColumnDefinition, DefinitionFile, MessageDefinition, SinkDefinition,
};
use crate::mapper::RecordMapper;

/// A sink with its mapping.
#[derive(Clone, Debug)]
pub(crate) struct TestedSink {
    pub(crate) source: String,
    pub(crate) sink: String,
    /// The table or topic.
    pub(crate) name: String,
    pub(crate) target: SinkTarget,
}

/// The sinks of a file, compiled as the server does; or all violations with their places.
pub(crate) fn from_file(
    definitions: &DefinitionFile,
    mapper: &RecordMapper,
) -> Result<Vec<TestedSink>, Vec<String>> {
    let mut sinks = Vec::new();
    let mut violations = Vec::new();
    for (i, source) in definitions.sources.iter().enumerate() {
        let Ok(source_id) = source.source_id() else {
            continue;
        };
        for (k, sink) in source.sinks.iter().enumerate() {
            let Ok(id) = sink.sink_id() else { continue };
            let place = definitions.location(i, Some(k));
            let target = from_definition(sink, &id).and_then(|target| checked(target, mapper));
            match target {
                Ok(target) => sinks.push(TestedSink {
                    source: source_id.clone(),
                    name: target_name(&target),
                    sink: id,
                    target,
                }),
                Err(found) => violations.extend(
                    found
                        .into_iter()
                        .map(|text| format!("{place}sink {source_id}/{id}: {text}")),
                ),
            }
        }
    }
    if violations.is_empty() {
        Ok(sinks)
    } else {
        Err(violations)
    }
}

/// The sink in force on a server.
pub(crate) fn from_view(source: &str, sink: &SinkView) -> Result<TestedSink, Vec<String>> {
    let target = match (&sink.table, &sink.topic) {
        (Some(table), _) => {
            let columns: Vec<ColumnDefinition> =
                table.mapping.columns.iter().map(Into::into).collect();
            table_target(&columns, &table.table_id)?
        }
        (None, Some(topic)) => {
            let message = MessageDefinition::from(&topic.message).request();
            let method = topic.method.map(HttpMethod::from).unwrap_or_default();
            let kind = if sink.r#type.to_string() == "kafka" {
                TopicKind::Kafka
            } else {
                TopicKind::Http
            };
            let batches = topic.batches.unwrap_or_default();
            topic_target(message, kind, &topic.topic, (batches, method))?
        }
        (None, None) => return Err(vec!["the sink has neither a table nor a topic".to_owned()]),
    };
    Ok(TestedSink {
        source: source.to_owned(),
        sink: sink.sink_id.clone(),
        name: target_name(&target),
        target,
    })
}

fn target_name(target: &SinkTarget) -> String {
    match target {
        SinkTarget::Table(table) => table.table.to_string(),
        SinkTarget::Topic(topic) => topic.topic.clone(),
    }
}

fn from_definition(sink: &SinkDefinition, id: &str) -> Result<SinkTarget, Vec<String>> {
    if let Some((kind, topic)) = sink.topic() {
        let kind = if kind == "kafka" {
            TopicKind::Kafka
        } else {
            TopicKind::Http
        };
        let method = topic.method.as_deref().and_then(HttpMethod::from_name);
        let name = topic.topic.as_deref().unwrap_or(id);
        let how = (topic.batches, method.unwrap_or_default());
        return topic_target(topic.message.request(), kind, name, how);
    }
    table_target(&sink.columns, sink.table.as_deref().unwrap_or_default())
}

fn table_target(columns: &[ColumnDefinition], table: &str) -> Result<SinkTarget, Vec<String>> {
    let unknown = columns
        .iter()
        .filter(|c| !COLUMN_TYPES.contains(&c.kind.as_str()));
    let unknown: Vec<String> = unknown
        .map(|c| {
            let allowed = COLUMN_TYPES.join(", ");
            format!(
                "column \"{}\" has type \"{}\", allowed are {allowed}",
                c.name, c.kind
            )
        })
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let columns: Vec<Value> = columns.iter().map(ColumnDefinition::request).collect();
    let request: MappingRequest =
        serde_json::from_value(json!({ "columns": columns })).map_err(|e| vec![e.to_string()])?;
    let mapping = mapping_from_request(request, true)?;
    Ok(SinkTarget::Table(TableSink {
        backend: TableBackend::Sqlite,
        table: table
            .parse()
            .map_err(|e| vec![format!("table is \"{table}\": {e}")])?,
        mapping,
    }))
}

fn topic_target(
    message: Value,
    kind: TopicKind,
    topic: &str,
    (batches, method): (bool, HttpMethod),
) -> Result<SinkTarget, Vec<String>> {
    let request: MessageRequest =
        serde_json::from_value(message).map_err(|e| vec![e.to_string()])?;
    let topic = TopicSink {
        kind,
        provider: String::new(),
        topic: topic.to_owned(),
        batches,
        method,
        message: message_from_request(request, true)?,
    };
    Ok(SinkTarget::Topic(topic))
}

/// Compiles paths and templates.
fn checked(target: SinkTarget, mapper: &RecordMapper) -> Result<SinkTarget, Vec<String>> {
    let problems = match &target {
        SinkTarget::Table(table) => mapper.check(&table.mapping),
        SinkTarget::Topic(topic) => mapper.check(&topic.message.columns()),
    };
    if problems.is_empty() {
        return Ok(target);
    }
    let text = |p: ColumnProblem| format!("column \"{}\" is invalid: {}", p.column, p.message);
    Err(problems.into_iter().map(text).collect())
}
